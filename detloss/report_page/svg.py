"""Figures as markup inside a page: text that can be selected, no addresses, the same bytes every time."""

import io
import re
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

REFERENCE = re.compile(r"url\(#([^)]+)\)")
FONT = re.compile(r"font-family: [^;]*(; |$)")
METADATA = ("Date", "Creator", "Format", "Type")


def inline_svg(figure: Figure, name: str, label: str) -> Markup:
    """Return a figure's SVG for the inside of a page.

    Args:
        name: makes its ids different from those of the page's other figures.
        label: what is seen, in words.
    """
    text = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(text, format="svg", dpi=120, bbox_inches="tight", metadata=dict.fromkeys(METADATA))
    root = ElementTree.fromstring(text.getvalue())
    _simplify(root)
    _rename(root, name)
    box = root.attrib["viewBox"]
    root.attrib = {"viewBox": box, "role": "img", "aria-label": label}
    root.set("style", f"--width: {float(box.split()[2]) / 12:.2f}em")  # 12 points are 1 em of 16 pixels
    # Made by matplotlib and written anew by ElementTree: every name in it is escaped.
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _simplify(root: ElementTree.Element) -> None:
    """Take away namespaces, which HTML needs none of, and what the page's own style says: half of the bytes."""
    for element in root.iter():
        for child in [child for child in element if child.tag.endswith(("}style", "}metadata"))]:
            element.remove(child)
    for element in root.iter():
        element.tag = _local(element.tag)
        element.attrib = {_local(key): value for key, value in element.attrib.items()}
        if element.tag == "text" and "style" in element.attrib:
            element.set("style", FONT.sub("", element.attrib["style"]))
        if element.attrib.get("transform", "").startswith("rotate(-0 "):
            del element.attrib["transform"]
        if element.tag not in ("text", "tspan"):
            element.text = None
        element.tail = None


def _rename(root: ElementTree.Element, name: str) -> None:
    """Put ``name`` before the ids that something refers to, and take the others away."""
    elements = list(root.iter())
    wanted = {found for element in elements for found in _references(element)}
    for element in elements:
        own = element.attrib.pop("id", None)
        if own in wanted:
            element.set("id", f"{name}-{own}")
        for key, value in element.attrib.items():
            if key == "href" and value.startswith("#"):
                element.set(key, f"#{name}-{value[1:]}")
            elif "url(#" in value:
                element.set(key, REFERENCE.sub(rf"url(#{name}-\1)", value))


def _references(element: ElementTree.Element) -> list[str]:
    values = element.attrib.items()
    return [value[1:] for key, value in values if key == "href" and value.startswith("#")] + [
        found for _, value in values for found in REFERENCE.findall(value)
    ]


def _local(name: str) -> str:
    return name.rpartition("}")[2]
