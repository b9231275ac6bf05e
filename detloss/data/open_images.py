"""Open Images' CSV annotations (Kuznetsova et al., IJCV 2020; no torch here)."""

import csv
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from detloss.data.coco_file import CocoFile
from detloss.data.image_header import image_size
from detloss.errors import UserError, nearest

Parents = dict[str, set[str]]


def read_open_images(
    boxes: Path, classes: Path, images: Path, *, hierarchy: Path | None = None, labels: Path | None = None
) -> CocoFile:
    """Return boxes as the challenge scores them.

    Args:
        boxes: ``ImageID, LabelName, XMin, XMax, YMin, YMax``, shares of the image, and perhaps ``IsGroupOf``.
        classes: pairs of ``/m/...`` and a name, without a heading or with one.
        images: folder of ``IMAGEID.jpg``, whose sizes are needed.
        hierarchy: ``bbox_labels_600_hierarchy.json``. An object counts as one of each class above its own, too,
            and an image verified not to show a class shows none of those below it.
        labels: ``ImageID, LabelName, Confidence``, where 0 says that a person looked for the class in vain.

    Groups of objects become crowds. Images have LVIS's lists: ``neg_category_ids`` of the classes verified as
    absent, and no class that is annotated in part.
    """
    names = dict(_pairs(classes))
    index = {label: position for position, label in enumerate(names)}
    parents: Parents = {} if hierarchy is None else _ancestors(hierarchy)
    below: Parents = defaultdict(set)
    for label, above in parents.items():
        for parent in above:
            below[parent].add(label)

    absent: dict[str, set[str]] = defaultdict(set)
    for place, row in _rows(labels, ("ImageID", "LabelName", "Confidence")) if labels else ():
        if _number(place, row, "Confidence") == 0:
            absent[row["ImageID"]] |= {row["LabelName"], *below[row["LabelName"]]}
    content = CocoFile(names.values())
    added: dict[str, tuple[int, int, int]] = {}

    def image(name: str) -> tuple[int, int, int]:
        if name not in added:
            width, height = image_size(images / f"{name}.jpg")
            negative = sorted(index[label] + 1 for label in absent[name] if label in index)
            lists = {"neg_category_ids": negative, "not_exhaustive_category_ids": []}
            added[name] = content.add_image(f"{name}.jpg", width, height, **lists), width, height
        return added[name]

    for place, row in _rows(boxes, ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax")):
        if row["LabelName"] not in index:
            raise UserError(f"{place}: unknown class {row['LabelName']}{nearest(row['LabelName'], index)}")
        number, width, height = image(row["ImageID"])
        left, right, top, bottom = (_number(place, row, side) for side in ("XMin", "XMax", "YMin", "YMax"))
        box = (left * width, top * height, (right - left) * width, (bottom - top) * height)
        for label in (row["LabelName"], *sorted(parents.get(row["LabelName"], ()))):
            if label in index:
                content.add_box(number, index[label], box, ignored=row.get("IsGroupOf", "0").strip() == "1")
    for name in sorted(absent):
        image(name)
    return content


def _ancestors(path: Path) -> Parents:
    """Return the classes above each class; a class can stand at several places of the tree."""
    above: Parents = defaultdict(set)

    def walk(node: object, path_down: tuple[str, ...]) -> None:
        if not isinstance(node, dict) or not isinstance(node.get("LabelName"), str):
            raise UserError(f"{path}: expected a tree of objects with a 'LabelName'")
        label = node["LabelName"]
        above[label] |= set(path_down)
        for child in node.get("Subcategory", []):
            walk(child, (*path_down, label))

    try:
        walk(json.loads(path.read_text("utf-8")), ())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON: {error}") from None
    return {label: labels - {label} for label, labels in above.items()}


def _pairs(path: Path) -> Iterator[tuple[str, str]]:
    for number, row in enumerate(_lines(path), start=1):
        if number == 1 and row[0] == "LabelName":
            continue
        if len(row) != 2:
            raise UserError(f"{path}, line {number}: expected a label and a name, got {len(row)} columns")
        yield row[0], row[1]


def _rows(path: Path, needed: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the place and the columns of every line under the heading."""
    lines = _lines(path)
    heading = next(lines, [])
    for name in needed:
        if name not in heading:
            raise UserError(f"{path}: no column '{name}'{nearest(name, heading)}; found {', '.join(heading)}")
    for number, row in enumerate(lines, start=2):
        if len(row) != len(heading):
            raise UserError(f"{path}, line {number}: {len(row)} columns under a heading of {len(heading)}")
        yield f"{path}, line {number}", dict(zip(heading, row, strict=True))


def _lines(path: Path) -> Iterator[list[str]]:
    try:
        with open(path, newline="", encoding="utf-8") as file:
            yield from (row for row in csv.reader(file) if row)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as CSV: {error}") from None


def _number(place: str, row: dict[str, str], name: str) -> float:
    try:
        return float(row[name])
    except ValueError:
        raise UserError(f"{place}: '{name}' must be a number, got {row[name]!r}") from None
