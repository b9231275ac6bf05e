"""The annotation file as the official tools want it: checked, gaps filled, ids renumbered (no torch here)."""

import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detloss.data.records import Records, load_json_object
from detloss.data.segmentations import pack_segmentations
from detloss.errors import UserError

Content = dict[str, list[dict[str, object]]]
FREQUENCIES = ("r", "c", "f")


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """A COCO- or LVIS-format file: I images, C categories in ascending order of id, A annotations.

    ``content`` has the lists "images", "categories" and "annotations" of the file; every annotation has an
    ``area`` and ``iscrowd``, and ids 1..A, because the official tools take an object of id 0 for "no match".
    Nothing is dropped: what becomes of crowds or empty boxes is the tools' rule.
    """

    path: Path
    content: Content
    image_sizes: dict[int, tuple[int, int]]  # image id: (height, width)
    category_ids: tuple[int, ...]
    names: tuple[str, ...]
    instances: np.ndarray  # [C] int64, without crowds

    def frequencies(self) -> dict[int, str]:
        """Return LVIS's frequency group of every category; a file without them is a ``UserError``."""
        categories = Records(self.path, "categories", self.content["categories"])
        values = categories.texts("frequency")
        for record, value in enumerate(values):
            if value not in FREQUENCIES:
                raise categories.error(record, f"'frequency' must be r, c or f, got {value!r}")
        return dict(zip(categories.integers("id").tolist(), values, strict=True))

    def require_federated(self) -> None:
        """Raise ``UserError`` unless every image says what LVIS needs: which classes were looked for in it."""
        images = Records(self.path, "images", self.content["images"])
        for key in ("neg_category_ids", "not_exhaustive_category_ids"):
            for record, row in enumerate(images.rows):
                if not isinstance(row.get(key), list):
                    raise images.error(record, f"has no list '{key}': not an LVIS file; try evaluator=coco")


def read_ground_truth(path: Path, *, masks: bool) -> GroundTruth:
    """Read an annotation file for evaluation; ``masks`` asks for a segmentation of every object.

    Raises ``UserError``, one line that names the record, for anything that is not such a file.
    """
    content = load_json_object(path)
    images = Records.of(path, content, "images")
    categories = Records.of(path, content, "categories")
    annotations = Records.of(path, content, "annotations")

    image_ids = images.identifiers().tolist()
    sizes = dict(zip(image_ids, zip(_sides(images, "height"), _sides(images, "width"), strict=True), strict=True))
    names = dict(zip(categories.identifiers().tolist(), categories.texts("name"), strict=True))
    if not names:
        raise UserError(f"{path}: 'categories' is empty")

    require_known(annotations, "image_id", sizes)
    labels = require_known(annotations, "category_id", names)
    _fill(annotations)
    if masks:
        require_segmentations(annotations, sizes)
    for number, row in enumerate(annotations.rows, start=1):
        row["id"] = number

    objects = [label for label, row in zip(labels, annotations.rows, strict=True) if not row["iscrowd"]]
    category_ids = tuple(sorted(names))
    instances = np.bincount(np.searchsorted(category_ids, objects), minlength=len(category_ids))
    lists = {records.name: records.rows for records in (images, categories, annotations)}
    return GroundTruth(path, lists, sizes, category_ids, tuple(names[i] for i in category_ids), instances)


def require_known(records: Records, key: str, known: Collection[int]) -> list[int]:
    """Return the column ``key``; an id that is not in ``known`` is a ``UserError``."""
    values: list[int] = records.integers(key).tolist()
    for record, value in enumerate(values):
        if value not in known:
            listed = f"{len(known)} ids from {min(known)} to {max(known)}" if known else "none"
            raise records.error(record, f"unknown {key} {value}; the annotation file lists {listed}")
    return values


def require_segmentations(records: Records, sizes: dict[int, tuple[int, int]]) -> None:
    """Raise ``UserError`` unless every record has a well-formed segmentation for its image.

    pycocotools itself does not check: damaged run lengths can keep it busy for ever.
    """
    of_image = np.array([sizes[row["image_id"]] for row in records.rows], dtype=np.int64).reshape(-1, 2)  # type: ignore[index]
    packed = pack_segmentations(records, np.arange(len(records.rows)), of_image[:, 0], of_image[:, 1])
    if (missing := np.flatnonzero(packed.missing())).size:
        raise records.error(int(missing[0]), "has no 'segmentation'; masks cannot be scored, boxes can")


def is_finite(value: object) -> bool:
    """Whether a value out of a JSON file is a number that a float can hold."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max  # type: ignore[arg-type]


def _sides(images: Records, key: str) -> list[int]:
    sides: list[int] = images.integers(key).tolist()
    for record, side in enumerate(sides):
        if side <= 0:
            raise images.error(record, f"'{key}' must be positive, got {side}")
    return sides


def _fill(annotations: Records) -> None:
    """Fill "iscrowd" with 0 and "area" with the area of the box where the file has none."""
    crowds = annotations.integers("iscrowd", default=0).tolist()
    boxes = annotations.numbers("bbox", 4).tolist()
    for record, (row, crowd, (_, _, width, height)) in enumerate(
        zip(annotations.rows, crowds, boxes, strict=True)
    ):
        if crowd not in (0, 1):
            raise annotations.error(record, f"'iscrowd' must be 0 or 1, got {crowd}")
        row["iscrowd"] = crowd
        area = row.setdefault("area", width * height)
        if not is_finite(area):
            raise annotations.error(record, f"'area' must be a finite number, got {area!r}")
