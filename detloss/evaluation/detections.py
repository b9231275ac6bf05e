"""A predictions file in columns, for the images and categories of an annotation file (no torch here)."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from detloss.data.records import Records
from detloss.data.segmentations import segmentation_problem
from detloss.evaluation.ground_truth import GroundTruth, known_positions
from detloss.evaluation.packed_masks import PackedMasks
from detloss.evaluation.prediction_columns import PredictionColumns, holds_columns, open_columns
from detloss.evaluation.results_file import read_results

AREAS_AT_ONCE = 255
"""Of more masks `pycocotools.mask.area` of version 2.0.11 overflows a uint8."""


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


def read_detections(ground_truth: GroundTruth, path: Path, *, masks: bool) -> Detections:
    """Read predictions, columns or a COCO results file, for the images and categories of ``ground_truth``.

    Masks are read, checked and kept only if ``masks``, or if there are no boxes. Raises ``UserError``, one line
    that names the row, for malformed files, unknown ids and scores like NaN.
    """
    records = Records(path, "predictions", [])
    if holds_columns(path):
        columns = _of_columns(records, open_columns(path), masks)
    else:
        columns = read_results(path, masks=masks, ground_truth=ground_truth)
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


def _of_columns(records: Records, columns: PredictionColumns, masks: bool) -> PredictionColumns:
    """Leave out masks that nobody asked for; that there are none is an error where they are asked for."""
    if columns.boxes is not None and not masks:
        return replace(columns, masks=None)
    if masks and columns.masks is None:
        if len(columns):
            raise records.error(0, "has no 'segmentation'; masks cannot be scored, boxes can")
        return replace(columns, masks=PackedMasks.of([], np.zeros((0, 2), dtype=np.int32)))
    return columns


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
