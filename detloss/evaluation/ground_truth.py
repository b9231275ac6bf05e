"""The annotation file as evaluation needs it: checked, gaps filled, in columns (no torch here)."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from detloss.data.records import Records, load_json_object
from detloss.data.segmentations import segmentation_problem
from detloss.errors import UserError
from detloss.evaluation.packed_masks import PackedMasks, compressed

Row = dict[str, object]
FREQUENCIES = ("r", "c", "f")


@dataclass(frozen=True, eq=False)
class Objects:
    """G annotated objects in the order of their file; images and categories by position, not by id.

    Attributes:
        boxes: [G, 4] x, y, width, height as they stand, float64; `areas` [G] are the file's.
        crowd: [G]; a detection is compared with the part of itself that lies in a crowd.
        ignored: [G], what an LVIS file says; neither found nor missed.
        row: [G], where each stands in the file, and its mask in `masks`.
    """

    image: np.ndarray
    category: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray
    ignored: np.ndarray
    row: np.ndarray
    masks: PackedMasks | None

    def __len__(self) -> int:
        return len(self.image)

    def pairs(self, categories: int) -> np.ndarray:
        """Return of which image and category each is, as one number, [G]."""
        return self.image * categories + self.category

    def take(self, chosen: np.ndarray) -> "Objects":
        """Return those of an index or a bool [G]; the masks are shared."""
        return Objects(
            self.image[chosen],
            self.category[chosen],
            self.boxes[chosen],
            self.areas[chosen],
            self.crowd[chosen],
            self.ignored[chosen],
            self.row[chosen],
            self.masks,
        )


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """A COCO- or LVIS-format file: I images and C categories, both in ascending order of id, and the objects.

    Nothing is dropped: what becomes of crowds or empty boxes is the rules' of COCO and LVIS. ``images`` and
    ``categories`` are the file's records, in its order.
    """

    path: Path
    images: Records
    categories: Records
    image_ids: np.ndarray
    sizes: np.ndarray  # [I, 2] height, width
    category_ids: tuple[int, ...]
    names: tuple[str, ...]
    objects: Objects

    @property
    def instances(self) -> np.ndarray:
        """How many objects each category has, without crowds: [C] int64."""
        return np.bincount(self.objects.category[~self.objects.crowd], minlength=len(self.category_ids))

    def frequencies(self) -> dict[int, str]:
        """Return LVIS's frequency group of every category; a file without them is a ``UserError``."""
        values = self.categories.texts("frequency")
        for record, value in enumerate(values):
            if value not in FREQUENCIES:
                raise self.categories.error(record, f"'frequency' must be r, c or f, got {value!r}")
        return dict(zip(self.categories.integers("id").tolist(), values, strict=True))

    def require_federated(self) -> None:
        """Raise ``UserError`` unless every image says what LVIS needs: which classes were looked for in it."""
        self.require_lists("an LVIS", "neg_category_ids", "not_exhaustive_category_ids")

    def require_lists(self, kind: str, *keys: str) -> None:
        for key in keys:
            for record, row in enumerate(self.images.rows):
                if not isinstance(row.get(key), list):
                    raise self.images.error(record, f"has no list '{key}': not {kind} file; try evaluator=coco")

    def listed_pairs(self, key: str) -> np.ndarray:
        """Return the pairs image x C + category of the images' lists ``key``, ascending; unknown ids are none."""
        lists: list[list[int]] = [row[key] for row in self.images.rows]  # type: ignore[misc]
        images = np.repeat(
            np.searchsorted(self.image_ids, self.images.integers("id")), [len(each) for each in lists]
        )
        listed = [i if type(i) is int else -1 for each in lists for i in each]
        categories = positions(np.array(listed, dtype=np.int64), np.array(self.category_ids))
        known = categories >= 0
        return np.unique(images[known] * len(self.category_ids) + categories[known])


@dataclass(frozen=True, eq=False)
class _Columns:
    """The annotations of a file as they stand; ``areas`` and ``segmentations`` hold None where there is none."""

    image_id: np.ndarray
    category_id: np.ndarray
    boxes: np.ndarray
    areas: Sequence[object]
    crowd: np.ndarray
    ignored: np.ndarray
    segmentations: Sequence[object]


class _RunLengths(msgspec.Struct, gc=False):
    size: list[int]
    counts: str | list[int]


class _Annotation(msgspec.Struct, gc=False):
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    area: float | UnsetType = UNSET
    iscrowd: int = 0
    ignore: int = 0


class _WithSegmentation(_Annotation, gc=False):
    segmentation: list[list[float]] | _RunLengths | None = None


class _File(msgspec.Struct):
    images: list[Row]
    categories: list[Row]
    annotations: list[_Annotation]


class _FileWithSegmentations(msgspec.Struct):
    images: list[Row]
    categories: list[Row]
    annotations: list[_WithSegmentation]


def _decode(text: bytes) -> _File:
    return msgspec.json.decode(text, type=_File)


def _decode_masks(text: bytes) -> _FileWithSegmentations:
    return msgspec.json.decode(text, type=_FileWithSegmentations)


def read_ground_truth(path: Path, *, masks: bool) -> GroundTruth:
    """Read an annotation file for evaluation; ``masks`` asks for a segmentation of every object.

    Raises ``UserError``, one line that names the record, for anything that is not such a file.
    """
    images, categories, annotations = _typed(path, masks) or _whole(path)
    image_ids, category_ids = images.identifiers(), categories.identifiers()
    sizes = np.stack([_sides(images, "height"), _sides(images, "width")], axis=1)
    names = dict(zip(category_ids.tolist(), categories.texts("name"), strict=True))
    if not names:
        raise UserError(f"{path}: 'categories' is empty")
    order, ids = np.argsort(image_ids), np.sort(category_ids)
    image_ids, sizes = image_ids[order], sizes[order]
    records = Records(path, "annotations", [])
    return GroundTruth(
        path,
        images,
        categories,
        image_ids,
        sizes,
        tuple(ids.tolist()),
        tuple(names[identifier] for identifier in ids.tolist()),
        _objects(records, annotations, image_ids, ids, sizes if masks else None),
    )


def known_positions(records: Records, key: str, values: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return where in the ascending ``ids`` of the annotation file ``values`` stand; others are errors."""
    found = positions(values, ids)
    if (bad := np.flatnonzero(found < 0)).size:
        listed = f"{len(ids)} ids from {ids[0]} to {ids[-1]}" if len(ids) else "none"
        raise records.error(int(bad[0]), f"unknown {key} {values[bad[0]]}; the annotation file lists {listed}")
    return found


def positions(values: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return where in the ascending ``ids`` each of ``values`` stands, -1 for one that does not."""
    if not len(ids):
        return np.full(len(values), -1)
    places = np.minimum(np.searchsorted(ids, values), len(ids) - 1)
    return np.where(ids[places] == values, places, -1)


def is_finite(value: object) -> bool:
    """Whether a value out of a JSON file is a number that a float can hold."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max  # type: ignore[arg-type]


def _typed(path: Path, masks: bool) -> tuple[Records, Records, _Columns] | None:
    """Read a file that is as expected fast, and give up on any other."""
    try:
        file = (_decode_masks if masks else _decode)(path.read_bytes())
        rows = file.annotations

        def integers(values: list[int]) -> np.ndarray:
            return np.array(values, dtype=np.int64)

        columns = _Columns(
            integers([row.image_id for row in rows]),
            integers([row.category_id for row in rows]),
            np.array([row.bbox for row in rows], dtype=np.float64).reshape(-1, 4),
            [None if row.area is UNSET else row.area for row in rows],
            integers([row.iscrowd for row in rows]),
            integers([row.ignore for row in rows]) != 0,
            [_plain(row.segmentation) for row in rows] if masks else (),  # type: ignore[attr-defined]
        )
    except (OSError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        return None
    return Records(path, "images", file.images), Records(path, "categories", file.categories), columns


def _plain(segmentation: object) -> object:
    if isinstance(segmentation, _RunLengths):
        return {"size": segmentation.size, "counts": segmentation.counts}
    return segmentation


def _whole(path: Path) -> tuple[Records, Records, _Columns]:
    """Read any file, slowly, and say what is wrong with it."""
    content = load_json_object(path)
    images, categories, annotations = (
        Records.of(path, content, name) for name in ("images", "categories", "annotations")
    )
    rows = annotations.rows
    columns = _Columns(
        annotations.integers("image_id"),
        annotations.integers("category_id"),
        annotations.numbers("bbox", 4),
        [row.get("area") for row in rows],
        annotations.integers("iscrowd", default=0),
        np.array([bool(row.get("ignore")) for row in rows], dtype=bool),
        [row.get("segmentation") for row in rows],
    )
    for record, row in enumerate(rows):
        if "area" in row and not is_finite(row["area"]):
            raise annotations.error(record, f"'area' must be a finite number, got {row['area']!r}")
    return images, categories, columns


def _sides(images: Records, key: str) -> np.ndarray:
    sides = images.integers(key)
    if (bad := np.flatnonzero(sides <= 0)).size:
        raise images.error(int(bad[0]), f"'{key}' must be positive, got {sides[bad[0]]}")
    return sides


def _objects(
    records: Records,
    columns: _Columns,
    image_ids: np.ndarray,
    category_ids: np.ndarray,
    sizes: np.ndarray | None,
) -> Objects:
    """Check the columns and give every object an area, its box's where the file has none; masks with ``sizes``."""
    image = known_positions(records, "image_id", columns.image_id, image_ids)
    category = known_positions(records, "category_id", columns.category_id, category_ids)
    if (bad := np.flatnonzero((columns.crowd != 0) & (columns.crowd != 1))).size:
        raise records.error(int(bad[0]), f"'iscrowd' must be 0 or 1, got {columns.crowd[bad[0]]}")
    areas = np.array([np.nan if area is None else area for area in columns.areas], dtype=np.float64)
    areas = np.where(np.isnan(areas), columns.boxes[:, 2] * columns.boxes[:, 3], areas)
    masks = None if sizes is None else packed_segmentations(records, columns.segmentations, sizes[image])
    crowd, ignored = columns.crowd.astype(bool), columns.ignored.astype(bool)
    return Objects(image, category, columns.boxes, areas, crowd, ignored, np.arange(len(image)), masks)


def packed_segmentations(records: Records, segmentations: Sequence[object], sizes: np.ndarray) -> PackedMasks:
    """Return the segmentations on images of ``sizes`` [N, 2]; ``UserError`` names the first that is none."""
    encoded = []
    for record, (segmentation, (height, width)) in enumerate(zip(segmentations, sizes.tolist(), strict=True)):
        problem = segmentation_problem(segmentation, height, width)
        if problem is None and not segmentation:
            problem = "has no 'segmentation'; masks cannot be scored, boxes can"
        if problem is not None:
            raise records.error(record, problem)
        encoded.append(compressed(segmentation, height, width))
    return PackedMasks.of(encoded, sizes)
