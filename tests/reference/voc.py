"""VOC's AP of one class, slow and literal: VOCevaldet.m and VOCap.m of the development kits, loop by loop.

Boxes are as in VOC's files: left, top, right, bottom, pixels counted from 1, those on the edges included.
"""

from dataclasses import dataclass, field

import numpy as np

Corners = tuple[float, float, float, float]

OVERLAP = 0.5
TENTHS = [k * 0.1 for k in range(11)]  # for t=0:0.1:1


@dataclass
class Truth:
    """The objects of one image, which are difficult, and which were detected so far."""

    boxes: list[Corners] = field(default_factory=list)
    difficult: list[bool] = field(default_factory=list)
    detected: list[bool] = field(default_factory=list)


def average_precision(
    truths: dict[int, Truth], detections: list[tuple[int, float, Corners]], *, year: int
) -> float | None:
    """Return AP, None without an object that is not difficult; a detection is (image, confidence, box)."""
    positives = sum(not difficult for truth in truths.values() for difficult in truth.difficult)
    if positives == 0:
        return None
    true, false = [], []
    for image, _, box in sorted(detections, key=lambda detection: -detection[1]):
        truth, largest, index = truths.get(image, Truth()), -np.inf, -1
        for j, other in enumerate(truth.boxes):
            overlap = shared(box, other)
            if overlap is not None and overlap > largest:
                largest, index = overlap, j
        true.append(0)
        false.append(0)
        if largest >= OVERLAP:
            if not truth.difficult[index]:
                if not truth.detected[index]:
                    true[-1] = 1
                    truth.detected[index] = True
                else:
                    false[-1] = 1  # found already
        else:
            false[-1] = 1
    hits, mistakes = np.cumsum(true), np.cumsum(false)
    recall = hits / positives
    with np.errstate(invalid="ignore"):
        precision = hits / (
            hits + mistakes
        )  # 0 / 0 while only difficult objects were found, which MATLAB's max skips
    return eleven_points(recall, precision) if year < 2010 else area(recall, precision)


def shared(box: Corners, other: Corners) -> float | None:
    """Return the area of the intersection over that of the union, None where they do not meet."""
    width = min(box[2], other[2]) - max(box[0], other[0]) + 1
    height = min(box[3], other[3]) - max(box[1], other[1]) + 1
    if width <= 0 or height <= 0:
        return None
    sizes = [(each[2] - each[0] + 1) * (each[3] - each[1] + 1) for each in (box, other)]
    return width * height / (sizes[0] + sizes[1] - width * height)


def eleven_points(recall: np.ndarray, precision: np.ndarray) -> float:
    """VOCevaldet.m of 2007."""
    total = 0.0
    for tenth in TENTHS:
        reached = [p for r, p in zip(recall, precision, strict=True) if r >= tenth and not np.isnan(p)]
        total += max(reached, default=0) / 11
    return total


def area(recall: np.ndarray, precision: np.ndarray) -> float:
    """VOCap.m of 2010 and later."""
    recalls, precisions = [0, *recall, 1], [0, *np.nan_to_num(precision), 0]
    for i in range(len(precisions) - 2, -1, -1):
        precisions[i] = max(precisions[i], precisions[i + 1])
    return sum(
        (recalls[i] - recalls[i - 1]) * precisions[i]
        for i in range(1, len(recalls))
        if recalls[i] != recalls[i - 1]
    )
