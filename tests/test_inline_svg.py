"""Figures inside a page: no ids or style sheets that reach others, no addresses, names letter by letter."""

import re
from xml.etree import ElementTree

from detloss.plots.figure import new_figure, plain
from detloss.report_page.svg import inline_svg


def drawn(name: str, title: str = "a title") -> str:
    figure = new_figure(3, 2)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 2])
    axes.set_title(plain(title))
    return str(inline_svg(figure, name, 'what is "seen" <here>'))


def ids(svg: str) -> set[str]:
    return set(re.findall(r' id="([^"]+)"', svg))


def test_every_id_is_used_and_is_the_figures_own() -> None:
    first, second = drawn("first"), drawn("second")
    assert ids(first) and not ids(first) & ids(second)
    for svg in (first, second):
        referred = set(re.findall(r"url\(#([^)]+)\)", svg)) | set(re.findall(r'href="#([^"]+)"', svg))
        assert referred == ids(svg)


def test_there_is_no_address_no_date_and_no_style_sheet() -> None:
    svg = drawn("first")
    assert "http" not in svg and "<style" not in svg and "metadata" not in svg and "xmlns" not in svg


def test_the_same_figure_gives_the_same_bytes() -> None:
    assert drawn("first") == drawn("first")


def test_the_label_is_escaped_and_the_text_stays_text() -> None:
    root = ElementTree.fromstring(drawn("first", "a <b>$\\frac$ & co"))
    assert root.attrib["role"] == "img" and root.attrib["aria-label"] == 'what is "seen" <here>'
    assert "a <b>$\\frac$ & co" in [element.text for element in root.iter("text")]
