"""Everything in a data set that would break a training or bend its result, found in one go (no torch here)."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from detloss.data.file_names import image_path, named_file
from detloss.data.image_header import UNREADABLE
from detloss.data.records import Records, load_json_object
from detloss.data.segmentations import segmentation_problem
from detloss.progress import Display

SLACK = 1.0
"""Pixels that a box may stand out of its image: COCO's do, by rounding."""

MASK_SLACK = 0.1
"""Share of the longer side, but 5 pixels at least, by which a box may miss the outline of its mask."""

DECODERS = 4
"""Threads that decode images; Pillow lets go of the interpreter while it works."""


@dataclass(frozen=True)
class Problem:
    """What is wrong, of which kind, and where: ``annotations[7]`` or an image's path."""

    kind: str
    place: str
    text: str


def check(annotations: Path, images: Path, *, decode: bool = True) -> Iterator[Problem]:
    """Yield the problems of an annotation file in COCO's layout, and of its images.

    Args:
        decode: whether to decode every image, rather than only look whether it is there.

    Raises ``UserError`` for a file that is not JSON, or without the three lists.
    """
    content = load_json_object(annotations)
    rows = {name: Records.of(annotations, content, name).rows for name in ("images", "categories", "annotations")}
    for name, keys in (("images", ("id", "height", "width")), ("categories", ("id",)), ("annotations", ("id",))):
        yield from _records(name, rows[name], keys)
    sizes = {_key(row): (row.get("height"), row.get("width")) for row in rows["images"]}
    categories = {_key(row) for row in rows["categories"]}
    with Display("annotations", len(rows["annotations"])) as display:
        for number, row in enumerate(rows["annotations"]):
            yield from _annotation(f"annotations[{number}]", row, sizes, categories)
            if number % 1000 == 0:
                display.advance(number)
    yield from _images(rows["images"], images, decode)


def _records(name: str, rows: list[dict[str, object]], keys: tuple[str, ...]) -> Iterator[Problem]:
    """Yield records whose whole numbers are none, whose id is taken, or that have no name."""
    seen: dict[object, int] = {}
    for number, row in enumerate(rows):
        place = f"{name}[{number}]"
        for key in keys:
            value = row.get(key)
            if type(value) is not int or (key != "id" and value <= 0):
                yield Problem("malformed record", place, f"'{key}' is {value!r}")
        first = seen.setdefault(_key(row), number)
        if first != number:
            yield Problem("id taken twice", place, f"id {row.get('id')} is that of {name}[{first}]")
        if name == "categories" and not isinstance(row.get("name"), str):
            yield Problem("malformed record", place, f"'name' is {row.get('name')!r}")


def _annotation(
    place: str, row: dict[str, object], sizes: dict[object, tuple[object, object]], categories: set[object]
) -> Iterator[Problem]:
    for key, known, kind in (
        ("image_id", sizes, "unknown image"),
        ("category_id", categories, "unknown category"),
    ):
        if row.get(key) not in known if isinstance(row.get(key), int) else True:
            yield Problem(kind, place, f"{key} {row.get(key)!r} is not listed")
    box = row.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) for value in box):
        yield Problem("malformed record", place, f"'bbox' is {str(box)[:60]}")
        return
    left, top, width, height = (float(value) for value in box)
    if width <= 0 or height <= 0:
        yield Problem("box without area", place, f"it is {width:g} x {height:g}")
        return
    size = sizes.get(row.get("image_id")) if isinstance(row.get("image_id"), int) else None
    if size is None or not all(type(side) is int and side > 0 for side in size):
        return
    rows, columns = size
    assert isinstance(rows, int) and isinstance(columns, int)
    if min(left, top) < -SLACK or left + width > columns + SLACK or top + height > rows + SLACK:
        yield Problem("box outside the image", place, f"{box} in {columns} x {rows} pixels")
    yield from _mask(place, row, (left, top, width, height), rows, columns)


def _mask(
    place: str, row: dict[str, object], box: tuple[float, float, float, float], height: int, width: int
) -> Iterator[Problem]:
    segmentation = row.get("segmentation")
    if segmentation is None or segmentation == []:
        return
    problem = segmentation_problem(segmentation, height, width)
    if problem:
        yield Problem("malformed mask", place, problem)
        return
    if row.get("iscrowd"):
        return
    found = _outline(segmentation, height, width)
    wanted = np.array([box[0], box[1], box[0] + box[2], box[1] + box[3]])
    slack = max(5.0, MASK_SLACK * max(box[2:]))
    if found is None:
        yield Problem("mask does not fit its box", place, "the mask is empty")
    elif np.abs(found - wanted).max() > slack:
        outline = ", ".join(f"{value:.0f}" for value in found)
        yield Problem("mask does not fit its box", place, f"the mask spans {outline}, the box {wanted.tolist()}")


def _outline(segmentation: object, height: int, width: int) -> np.ndarray | None:
    """Return the corners x, y, x, y of what a well-formed segmentation covers."""
    if isinstance(segmentation, list):
        points = np.concatenate([np.asarray(polygon, dtype=np.float64) for polygon in segmentation]).reshape(-1, 2)
        return np.concatenate([points.min(axis=0), points.max(axis=0)])
    encoded = segmentation
    assert isinstance(encoded, dict)
    if isinstance(encoded["counts"], list):
        encoded = coco_mask.frPyObjects(encoded, height, width)
    x, y, columns, rows = coco_mask.toBbox(encoded).tolist()
    return np.array([x, y, x + columns, y + rows]) if columns and rows else None


def _images(rows: list[dict[str, object]], folder: Path, decode: bool) -> Iterator[Problem]:
    def look(item: tuple[int, dict[str, object]]) -> Problem | None:
        return _image(f"images[{item[0]}]", item[1], folder, decode)

    with ThreadPoolExecutor(DECODERS) as pool, Display("images", len(rows)) as display:
        for done, problem in enumerate(pool.map(look, enumerate(rows)), start=1):
            if problem is not None:
                yield problem
            display.advance(done)


def _image(place: str, row: dict[str, object], folder: Path, decode: bool) -> Problem | None:
    try:
        name = named_file(row.get("file_name"), row.get("coco_url"))
    except ValueError as error:
        return Problem("malformed record", place, str(error))
    path = image_path(folder, name)
    if path is None:
        return Problem("image missing", str(folder / name), f"no such file ({place})")
    try:
        with Image.open(path) as file:
            if decode:
                file.load()
            size = file.height, file.width
    except UNREADABLE as error:
        return Problem("image damaged", str(path), " ".join(str(error).split()))
    if size != (row.get("height"), row.get("width")):
        said = f"{row.get('width')} x {row.get('height')}"
        return Problem("image of another size", str(path), f"{size[1]} x {size[0]}, {place} says {said}")
    return None


def _key(row: dict[str, object]) -> object:
    """Return the id, or something that equals nothing else where it is none."""
    identifier = row.get("id")
    return identifier if type(identifier) is int else object()


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and bool(np.isfinite(float(value)))  # type: ignore[arg-type]
