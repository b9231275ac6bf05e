"""How much detections overlap the objects of their image and category (no torch here)."""

from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco_mask

from detloss.evaluation.detections import Detections
from detloss.evaluation.ground_truth import Objects

LEAST = 0.5
"""The lowest of the official tools' IoU thresholds: overlaps below it never matter to them."""

BLOCK = 1 << 20
"""Pairs of boxes that are compared at once."""


@dataclass(frozen=True, eq=False)
class Overlaps:
    """E pairs of a detection and an object, by detection, then by object, and their IoU."""

    detection: np.ndarray
    object: np.ndarray
    iou: np.ndarray

    @classmethod
    def of(cls, parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> "Overlaps":
        none = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0)
        detection, found, iou = (np.concatenate(column) for column in zip(none, *parts, strict=True))
        order = np.lexsort((found, detection))
        return cls(detection[order], found[order], iou[order])


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Which objects each of D detections is compared with: ``objects[first:first + count]``."""

    first: np.ndarray
    count: np.ndarray
    objects: np.ndarray

    @classmethod
    def of(cls, detections: Detections, objects: Objects, categories: int) -> "Neighbours":
        return cls.alike(detections.pairs(categories), objects.pairs(categories))

    @classmethod
    def alike(cls, own: np.ndarray, theirs: np.ndarray) -> "Neighbours":
        """Return the objects whose number in ``theirs`` [G] is that of the detection in ``own`` [D]."""
        order = np.argsort(theirs, kind="stable")
        first = np.searchsorted(theirs[order], own)
        return cls(first, np.searchsorted(theirs[order], own, side="right") - first, order)


def box_overlaps(
    detections: Detections, objects: Objects, neighbours: Neighbours, least: float = LEAST
) -> Overlaps:
    """Return all overlaps of boxes of ``least`` or more, the very numbers of ``pycocotools.mask.iou``."""
    chosen = np.flatnonzero(neighbours.count)
    totals = neighbours.count[chosen].cumsum()
    pieces = np.searchsorted(totals, np.arange(BLOCK, neighbours.count.sum(), BLOCK))
    parts = []
    for some in np.split(chosen, pieces):
        count = neighbours.count[some]
        detection = np.repeat(some, count)
        found = neighbours.objects[spans(neighbours.first[some], count)]
        iou = _box_iou(detections.boxes[detection], objects.boxes[found], objects.crowd[found])
        kept = iou >= least
        parts.append((detection[kept], found[kept], iou[kept]))
    return Overlaps.of(parts)


def mask_overlaps(
    detections: Detections, objects: Objects, neighbours: Neighbours, least: float = LEAST
) -> Overlaps:
    """Return all overlaps of masks of ``least`` or more, by pycocotools."""
    assert detections.masks is not None and objects.masks is not None
    chosen = np.flatnonzero(neighbours.count)
    chosen = chosen[np.argsort(neighbours.first[chosen], kind="stable")]
    first = neighbours.first[chosen]
    parts = []
    for some in np.split(chosen, np.flatnonzero(np.diff(first)) + 1) if len(chosen) else []:
        start, count = neighbours.first[some[0]], neighbours.count[some[0]]
        found = neighbours.objects[start : start + count]
        iou = coco_mask.iou(
            detections.masks.rles(detections.row[some]),
            objects.masks.rles(objects.row[found]),
            objects.crowd[found].tolist(),
        )
        detection, place = np.nonzero(iou >= least)
        parts.append((some[detection], found[place], iou[detection, place]))
    return Overlaps.of(parts)


def spans(first: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Return ``first[0], first[0] + 1, ...``, ``count[0]`` of them, then those from ``first[1]`` on, and so on."""
    return np.repeat(first - (count.cumsum() - count), count) + np.arange(count.sum())


def _box_iou(boxes: np.ndarray, others: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Return IoU of boxes [E, 4] (x, y, width, height) with ``others``, or their share inside of a crowd."""
    sides = [
        np.minimum(boxes[:, axis + 2] + boxes[:, axis], others[:, axis + 2] + others[:, axis])
        - np.maximum(boxes[:, axis], others[:, axis])
        for axis in (0, 1)
    ]
    common = np.where((sides[0] > 0) & (sides[1] > 0), sides[0] * sides[1], 0)
    own = boxes[:, 2] * boxes[:, 3]
    union = np.where(crowd, own, own + others[:, 2] * others[:, 3] - common)
    return np.divide(common, union, out=np.zeros_like(common), where=common > 0)
