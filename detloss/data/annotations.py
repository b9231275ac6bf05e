"""COCO- and LVIS-format annotation files: read, checked and kept in numpy columns (no torch here)."""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from detloss.data.file_names import named_file
from detloss.data.records import ColumnRecords, Records, load_json_object
from detloss.data.segmentations import Segmentations, pack_columns, pack_segmentations
from detloss.data.texts import Texts
from detloss.data.typed_json import read_typed
from detloss.errors import UserError


@dataclass(frozen=True, eq=False)
class Annotations:
    """I images in the file's order, C classes in ascending order of category id, A annotations by image.

    Image i owns the annotations ``offsets[i]:offsets[i + 1]``. Boxes are [A, 4] float32 xyxy in pixels,
    clipped to the image; ``dropped`` counts those without area, which are left out. Crowds are included.
    """

    path: Path
    image_ids: np.ndarray
    file_names: Texts  # relative to the images folder
    heights: np.ndarray
    widths: np.ndarray
    category_ids: tuple[int, ...]
    category_names: tuple[str, ...]
    frequencies: tuple[str, ...] | None  # LVIS: "r", "c" or "f"
    declared_instances: int | None  # LVIS: instances in the training set, the sum over the categories
    offsets: np.ndarray
    image_index: np.ndarray
    class_index: np.ndarray
    boxes: np.ndarray
    iscrowd: np.ndarray
    records: np.ndarray  # where each annotation stands in the file, for messages
    segmentations: Segmentations | None
    dropped: int
    stored: Path | None = None  # the folder that these columns are mapped from

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle columns that lie on disk as the name of their folder."""
        if self.stored is None:
            return type(self), tuple(getattr(self, field.name) for field in fields(self))
        from detloss.data.store import load

        return load, (self.stored,)


def read_annotations(path: Path, *, masks: bool = False) -> Annotations:
    """Read a file in the layout of COCO, LVIS v1 or LVIS v0.5; ``masks`` also keeps the segmentations.

    Raises ``UserError``, one line that names the record, for anything that is not such a file.
    """
    images: Records | ColumnRecords
    annotations: Records | ColumnRecords
    typed = read_typed(path, masks=masks)
    if typed is not None:
        images = ColumnRecords(path, "images", typed.images)
        file_names = typed.images.names
        annotations = ColumnRecords(path, "annotations", typed.annotations)
        categories = Records(path, "categories", typed.categories)
    else:
        content = load_json_object(path)
        records = [Records.of(path, content, name) for name in ("images", "categories", "annotations")]
        images, categories, annotations = records
        file_names = _file_names(records[0])

    image_ids, heights, widths = images.identifiers(), _sides(images, "height"), _sides(images, "width")
    category_ids, names = categories.identifiers(), categories.texts("name")
    if not category_ids.size:
        raise UserError(f"{path}: 'categories' is empty")
    order = np.argsort(category_ids)

    annotations.identifiers()
    image_index = _positions(annotations, "image_id", image_ids)
    class_index = _positions(annotations, "category_id", category_ids[order])
    boxes = _clipped_boxes(annotations, heights[image_index], widths[image_index])
    iscrowd = annotations.integers("iscrowd", default=0)
    if (bad := np.flatnonzero((iscrowd != 0) & (iscrowd != 1))).size:
        raise annotations.error(int(bad[0]), f"'iscrowd' must be 0 or 1, got {iscrowd[bad[0]]}")

    valid = np.flatnonzero((boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3]))
    kept = valid[np.argsort(image_index[valid], kind="stable")]
    of_image = image_index[kept]
    return Annotations(
        path=path,
        image_ids=image_ids,
        file_names=Texts.of(file_names),
        heights=heights,
        widths=widths,
        category_ids=tuple(category_ids[order].tolist()),
        category_names=tuple(names[position] for position in order),
        frequencies=_frequencies(categories, order),
        declared_instances=_declared_instances(categories),
        offsets=np.searchsorted(of_image, np.arange(len(image_ids) + 1)),
        image_index=of_image,
        class_index=class_index[kept],
        boxes=boxes[kept],
        iscrowd=iscrowd[kept].astype(bool),
        records=kept,
        segmentations=_packed(annotations, kept, heights[of_image], widths[of_image]) if masks else None,
        dropped=len(boxes) - len(kept),
    )


def _packed(
    annotations: Records | ColumnRecords, kept: np.ndarray, heights: np.ndarray, widths: np.ndarray
) -> Segmentations:
    pack = pack_segmentations if isinstance(annotations, Records) else pack_columns
    return pack(annotations, kept, heights, widths)  # type: ignore[arg-type]


def _sides(images: Records | ColumnRecords, key: str) -> np.ndarray:
    sides = images.integers(key)
    if (bad := np.flatnonzero(sides <= 0)).size:
        raise images.error(int(bad[0]), f"'{key}' must be positive, got {sides[bad[0]]}")
    return sides


def _positions(annotations: Records | ColumnRecords, key: str, ids: np.ndarray) -> np.ndarray:
    """Return where in ``ids`` the column ``key`` of every annotation stands."""
    values = annotations.integers(key)
    order = np.argsort(ids)
    if ids.size and ids.min() >= 0 and ids.max() < 8 * (len(ids) + len(values)):  # a table is ten times faster
        table = np.full(ids.max() + 2, -1)
        table[ids] = np.arange(len(ids))
        positions = table[np.clip(values, -1, len(table) - 1)]
    else:
        places = np.searchsorted(ids[order], values)
        known = places < len(ids)
        known[known] = ids[order][places[known]] == values[known]
        positions = np.full(len(values), -1)
        positions[known] = order[places[known]]
    if (bad := np.flatnonzero(positions < 0)).size:
        listed = f"{len(ids)} ids from {ids.min()} to {ids.max()}" if ids.size else "none"
        raise annotations.error(int(bad[0]), f"unknown {key} {values[bad[0]]}; the file lists {listed}")
    return positions


def _clipped_boxes(annotations: Records | ColumnRecords, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Turn "bbox" (x, y, width, height) into [A, 4] xyxy float32 inside the images."""
    table = annotations.numbers("bbox", 4)
    corners = np.empty(table.shape, dtype=np.float32)
    for side, limits in ((0, widths), (1, heights)):
        start, extent = table[:, side], table[:, side + 2]
        corners[:, side] = np.clip(start, 0, limits)
        corners[:, side + 2] = np.clip(start + extent, 0, limits)
    return corners


def _file_names(images: Records) -> list[str]:
    names: list[str] = []
    for record, row in enumerate(images.rows):
        try:
            names.append(named_file(row.get("file_name"), row.get("coco_url")))
        except ValueError as error:
            raise images.error(record, str(error)) from None
    return names


def _frequencies(categories: Records, order: np.ndarray) -> tuple[str, ...] | None:
    values = [categories.rows[position].get("frequency") for position in order]
    return tuple(str(value) for value in values) if set(values) <= {"r", "c", "f"} else None


def _declared_instances(categories: Records) -> int | None:
    counts = [row.get("instance_count") for row in categories.rows]
    integers = [count for count in counts if isinstance(count, int)]
    return sum(integers) if len(integers) == len(counts) else None
