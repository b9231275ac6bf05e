"""A results file in columns, for the images and categories of an annotation file (no torch here)."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from pycocotools import mask as coco_mask

from detloss.data.records import Records
from detloss.data.segmentations import segmentation_problem
from detloss.evaluation.ground_truth import GroundTruth, known_positions
from detloss.evaluation.packed_masks import PackedMasks, Packing, compressed
from detloss.evaluation.predictions import Row, read_predictions

CHUNK = 1 << 22
"""Bytes of a results file that are parsed at once, so that little more than the columns is ever held."""

AREAS_AT_ONCE = 255
"""Of more masks `pycocotools.mask.area` of version 2.0.11 overflows a uint8."""

CUT = re.compile(rb".*\}\s*(,)\s*\{", re.DOTALL)
"""The last place in a text where one row seems to end and the next to begin, which parsing then proves."""


@dataclass(frozen=True, eq=False)
class Detections:
    """D detections; images and categories by position in the ground truth, not by id.

    Attributes:
        boxes: [D, 4] x, y, width, height, float64.
        areas: [D], of the box where the file has boxes, else of the mask: so do pycocotools and lvis.
        row: [D], where each stands in the file, and its mask in `masks`.
        has_boxes: whether the file has boxes, or they are those of the masks' pixels.
    """

    image: np.ndarray
    category: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    row: np.ndarray
    masks: PackedMasks | None
    has_boxes: bool = True

    def __len__(self) -> int:
        return len(self.image)

    def take(self, chosen: np.ndarray) -> "Detections":
        """Return those of an index or a bool [D]; the masks are shared."""
        return Detections(
            self.image[chosen],
            self.category[chosen],
            self.scores[chosen],
            self.boxes[chosen],
            self.areas[chosen],
            self.row[chosen],
            self.masks,
            self.has_boxes,
        )

    def ranked(self) -> "Detections":
        """Return them by category, the best first, and equals by image and row: the official tools' order."""
        return self.take(np.lexsort((self.row, self.image, -self.scores, self.category)))

    def pairs(self, categories: int) -> np.ndarray:
        """Return of which image and category each is, as one number, [D]."""
        return self.image * categories + self.category

    def rank_within(self, groups: np.ndarray) -> np.ndarray:
        """Return how many of the same group, [D], are better, equals in the order of the file."""
        order = np.lexsort((self.row, -self.scores, groups))
        first = np.flatnonzero(np.diff(groups[order], prepend=-1))
        ranks = np.empty(len(self), dtype=np.int64)
        ranks[order] = np.arange(len(self)) - np.repeat(first, np.diff(first, append=len(self)))
        return ranks


@dataclass(frozen=True, eq=False)
class _Columns:
    """The rows of a results file as they stand; masks by row, or nothing."""

    image_id: np.ndarray
    category_id: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray | None
    masks: PackedMasks | None = None


class _Surprise(Exception):
    """The file is not laid out as expected, which does not make it wrong."""


class _Row(msgspec.Struct, gc=False):
    image_id: int
    category_id: int
    score: float
    bbox: tuple[float, float, float, float] | UnsetType = UNSET


class _RunLengths(msgspec.Struct, gc=False):
    size: tuple[int, int]
    counts: str


class _MaskRow(_Row, gc=False, kw_only=True):
    segmentation: _RunLengths


def read_detections(ground_truth: GroundTruth, path: Path, *, masks: bool) -> Detections:
    """Read a results file for the images and categories of ``ground_truth``.

    Masks are read, checked and kept only if ``masks``, or if there are no boxes. Raises ``UserError``, one line
    that names the row, for malformed files, unknown ids and scores like NaN.
    """
    columns = _typed(path, masks) or _whole(ground_truth, path, masks)
    records = Records(path, "predictions", [])
    image = known_positions(records, "image_id", columns.image_id, ground_truth.image_ids)
    category = known_positions(records, "category_id", columns.category_id, np.array(ground_truth.category_ids))
    if columns.masks is not None:
        _require_whole(records, columns.masks, ground_truth.sizes[image])
    boxes = columns.boxes
    if boxes is not None:
        if (bad := np.flatnonzero((boxes[:, 2:] < 0).any(axis=1))).size:
            raise records.error(int(bad[0]), "'bbox' must be x, y, width, height; a side is negative")
        areas = boxes[:, 2] * boxes[:, 3]
    else:
        assert columns.masks is not None
        boxes, areas = _extents(columns.masks)
    rows, has_boxes = np.arange(len(image)), columns.boxes is not None
    return Detections(image, category, columns.scores, boxes, areas, rows, columns.masks, has_boxes)


def _typed(path: Path, masks: bool) -> _Columns | None:
    """Read a file of plain rows fast, in flat memory, and give up on any other."""
    try:
        parts, packed = _parts(path, masks)
    except (OSError, ValueError, OverflowError, msgspec.MsgspecError, _Surprise):
        return None
    boxes = [part.boxes for part in parts if part.boxes is not None]
    return _Columns(
        np.concatenate([part.image_id for part in parts]),
        np.concatenate([part.category_id for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate(boxes) if boxes else None,
        packed,
    )


def _parts(path: Path, masks: bool) -> tuple[list[_Columns], PackedMasks | None]:
    """Return the columns of a file's pieces, and the masks of all if asked or if there are no boxes."""
    plain, full = msgspec.json.Decoder(list[_Row]), msgspec.json.Decoder(list[_MaskRow])
    parts: list[_Columns] = []
    packing = Packing()
    for text in _pieces(path):
        if masks:
            masked = full.decode(text)
            runs = [row.segmentation for row in masked]
            sizes = np.fromiter(chain.from_iterable([each.size for each in runs]), np.int32, 2 * len(runs))
            packing.add([each.counts.encode("ascii") for each in runs], sizes.reshape(-1, 2))
            part = _columns(masked)
        else:
            part = _columns(plain.decode(text))
            if part.boxes is None:
                return _parts(path, True)
        if parts and (part.boxes is None) != (parts[0].boxes is None):
            raise _Surprise
        parts.append(part)
    return parts, packing.packed() if masks else None


def _pieces(path: Path) -> Iterator[bytes]:
    """Yield the list that a file holds as several shorter lists."""
    with open(path, "rb") as file:
        text = b""
        while block := file.read(CHUNK):
            text += block
            if cut := CUT.match(text):
                yield text[: cut.start(1)] + b"]"
                text = b"[" + text[cut.end(1) :]
        yield text


def _columns(rows: Sequence[_Row]) -> _Columns:
    boxes = [row.bbox for row in rows if row.bbox is not UNSET]
    if boxes and len(boxes) < len(rows):
        raise _Surprise
    corners = np.fromiter(chain.from_iterable(boxes), np.float64, 4 * len(boxes)).reshape(-1, 4)
    return _Columns(
        np.array([row.image_id for row in rows], dtype=np.int64),
        np.array([row.category_id for row in rows], dtype=np.int64),
        np.array([row.score for row in rows], dtype=np.float64),
        corners if len(boxes) == len(rows) else None,
    )


def _whole(ground_truth: GroundTruth, path: Path, masks: bool) -> _Columns:
    """Read any results file, slowly, and say what is wrong with it."""
    rows = read_predictions(path)
    records = Records(path, "predictions", rows)
    image_ids = records.integers("image_id")
    has_boxes = not rows or "bbox" in rows[0]
    image = known_positions(records, "image_id", image_ids, ground_truth.image_ids)
    return _Columns(
        image_ids,
        records.integers("category_id"),
        np.array([row["score"] for row in rows], dtype=np.float64),
        records.numbers("bbox", 4) if has_boxes else None,
        _masks(records, rows, ground_truth.sizes[image]) if masks or not has_boxes else None,
    )


def _masks(records: Records, rows: Sequence[Row], sizes: np.ndarray) -> PackedMasks:
    encoded = []
    for record, (row, (height, width)) in enumerate(zip(rows, sizes.tolist(), strict=True)):
        segmentation = row.get("segmentation")
        problem = segmentation_problem(segmentation, height, width)
        if problem is None and not segmentation:
            problem = "has no 'segmentation'; masks cannot be scored, boxes can"
        if problem is not None:
            raise records.error(record, problem)
        encoded.append(compressed(segmentation, height, width))
    return PackedMasks.of(encoded, sizes)


def _require_whole(records: Records, masks: PackedMasks, sizes: np.ndarray) -> None:
    """Raise ``UserError`` for the first mask that does not fill its image of ``sizes`` [D, 2] exactly."""
    bad = (masks.sizes != sizes).any(axis=1) | masks.damaged()
    if bad.any():
        record = int(np.flatnonzero(bad)[0])
        start, stop = masks.ends[record : record + 2]
        segmentation = {"size": masks.sizes[record].tolist(), "counts": masks.text[start:stop].tobytes().decode()}
        height, width = sizes[record].tolist()
        raise records.error(record, segmentation_problem(segmentation, height, width) or "a damaged mask")


def _extents(masks: PackedMasks) -> tuple[np.ndarray, np.ndarray]:
    """Return the boxes [D, 4] and areas [D] of masks' pixels."""
    boxes, areas = [np.zeros((0, 4))], [np.zeros(0)]
    for start in range(0, len(masks), AREAS_AT_ONCE):
        some = masks.rles(np.arange(start, min(start + AREAS_AT_ONCE, len(masks))))
        boxes.append(coco_mask.toBbox(some))
        areas.append(coco_mask.area(some).astype(np.float64))
    return np.concatenate(boxes), np.concatenate(areas)
