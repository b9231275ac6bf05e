"""Pascal VOC's XML annotations (Everingham et al., IJCV 2010; no torch here)."""

from pathlib import Path
from xml.etree import ElementTree

from detloss.data.coco_file import CocoFile
from detloss.errors import UserError, nearest

Element = ElementTree.Element


def read_voc(root: Path, split: str | None = None) -> CocoFile:
    """Return a folder's ``Annotations/*.xml``, or those that ``ImageSets/Main/SPLIT.txt`` lists.

    VOC counts pixels from 1 and both corners belong to the box. Objects marked as difficult become crowds. The
    classes are those that occur in any file of the folder, so that all splits have the same, in the order of the
    alphabet; file names are below ``JPEGImages``.
    """
    folder = root / "Annotations"
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected VOC's layout, Annotations/*.xml")
    trees = {path: _parsed(path) for path in sorted(folder.glob("*.xml"))}
    names = sorted({_text(path, thing, "name") for path, tree in trees.items() for thing in tree.iter("object")})
    if not names:
        raise UserError(f"{folder}: holds no objects")
    content = CocoFile(names)
    index = {name: position for position, name in enumerate(names)}
    for path in trees if split is None else _listed(root, split):
        if path not in trees:
            raise UserError(f"{path}: no such file, which ImageSets/Main/{split}.txt names")
        tree = trees[path]
        width, height = (int(_number(path, tree, f"size/{side}")) for side in ("width", "height"))
        image = content.add_image(_text(path, tree, "filename"), width, height)
        for thing in tree.iter("object"):
            left, top, right, bottom = (
                _number(path, thing, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")
            )
            box = (left - 1, top - 1, right - left + 1, bottom - top + 1)
            difficult = (thing.findtext("difficult") or "0").strip() == "1"
            content.add_box(image, index[_text(path, thing, "name")], box, ignored=difficult)
    return content


def _listed(root: Path, split: str) -> list[Path]:
    path = root / "ImageSets" / "Main" / f"{split}.txt"
    if not path.is_file():
        known = [entry.stem for entry in path.parent.glob("*.txt")] if path.parent.is_dir() else []
        raise UserError(f"{path}: no such list of images{nearest(split, known)}")
    names = [line.split()[0] for line in path.read_text("utf-8").splitlines() if line.strip()]
    return [root / "Annotations" / f"{name}.xml" for name in names]


def _parsed(path: Path) -> Element:
    try:
        return ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise UserError(f"{path}: cannot be read as XML: {error}") from None


def _text(path: Path, element: Element, name: str) -> str:
    text = (element.findtext(name) or "").strip()
    if not text:
        raise UserError(f"{path}: <{element.tag}> has no <{name.replace('/', '><')}>")
    return text


def _number(path: Path, element: Element, name: str) -> float:
    text = _text(path, element, name)
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{path}: <{name.replace('/', '><')}> must be a number, got {text!r}") from None
