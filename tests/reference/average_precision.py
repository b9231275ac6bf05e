"""AP of one class, slow and literal: COCO's greedy matching and 101-point interpolation on boxes.

Written from the rules (the comments in cocoeval.py; Lin et al., ECCV 2014; Gupta et al., CVPR 2019), not from
the arrays of pycocotools: one loop per rule, no sharing between thresholds.
"""

from dataclasses import dataclass

import numpy as np

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
AREAS = {"": (0, 1e10), "s": (0, 32**2), "m": (32**2, 96**2), "l": (96**2, 1e10)}

Box = tuple[float, float, float, float]  # x, y, width, height


@dataclass(frozen=True)
class Object:
    image: int
    box: Box
    area: float
    crowd: bool = False


@dataclass(frozen=True)
class Detection:
    image: int
    box: Box
    score: float


def average_precisions(
    objects: list[Object],
    detections: list[Detection],
    *,
    area: str = "",
    not_exhaustive: frozenset[int] = frozenset(),
) -> np.ndarray | None:
    """Return AP at each of the ten IoU thresholds, or None without an object that counts.

    In the images ``not_exhaustive`` an unmatched detection is no mistake (LVIS).
    """
    counted = number_of(objects, area)
    if counted == 0:
        return None
    values = []
    for threshold in THRESHOLDS:
        found = outcomes(objects, detections, threshold, area=area, not_exhaustive=not_exhaustive)
        values.append(interpolated([overlap > 0 for _, overlap in found], counted))
    return np.array(values)


def number_of(objects: list[Object], area: str = "") -> int:
    """Return how many objects there are to find."""
    low, high = AREAS[area]
    return sum(not o.crowd and low <= o.area <= high for o in objects)


def outcomes(
    objects: list[Object],
    detections: list[Detection],
    threshold: float,
    *,
    area: str = "",
    not_exhaustive: frozenset[int] = frozenset(),
) -> list[tuple[float, float]]:
    """Return (score, IoU with the object found, 0 for none) of the detections that count, the best first."""
    found: list[tuple[float, float]] = []
    for image in sorted({d.image for d in detections}):
        found += _outcomes(
            [o for o in objects if o.image == image],
            [d for d in detections if d.image == image],
            threshold,
            AREAS[area],
            image in not_exhaustive,
        )
    return sorted(found, key=lambda outcome: -outcome[0])


def _outcomes(
    objects: list[Object],
    detections: list[Detection],
    threshold: float,
    area: tuple[float, float],
    lenient: bool,
) -> list[tuple[float, float]]:
    """Return what `outcomes` does of one image."""
    ignored = [o.crowd or not area[0] <= o.area <= area[1] for o in objects]
    taken = [False] * len(objects)
    found = []
    for detection in sorted(detections, key=lambda d: -d.score):
        best = None
        # Objects that count go first; one to be ignored is only taken when none of those fits.
        for wanted in (False, True):
            for index, candidate in enumerate(objects):
                if ignored[index] != wanted or (taken[index] and not candidate.crowd):
                    continue
                overlap = _overlap(detection.box, candidate)
                least = threshold if best is None else _overlap(detection.box, objects[best])
                if overlap >= least:
                    best = index
            if best is not None:
                break
        if best is not None:
            taken[best] = True
            if not ignored[best]:
                found.append((detection.score, _overlap(detection.box, objects[best])))
            continue
        size = detection.box[2] * detection.box[3]
        if area[0] <= size <= area[1] and not lenient:
            found.append((detection.score, 0.0))
    return found


def _overlap(box: Box, target: Object) -> float:
    """Return IoU, or for a crowd the share of the box that lies in it."""
    width = min(box[0] + box[2], target.box[0] + target.box[2]) - max(box[0], target.box[0])
    height = min(box[1] + box[3], target.box[1] + target.box[3]) - max(box[1], target.box[1])
    if width <= 0 or height <= 0:
        return 0.0
    own, other = box[2] * box[3], target.box[2] * target.box[3]
    return width * height / (own if target.crowd else own + other - width * height)


def interpolated(correct: list[bool], counted: int) -> float:
    """Return the mean over 101 recalls of the best precision at that recall or a higher one."""
    points = []
    for rank in range(1, len(correct) + 1):
        hits = sum(correct[:rank])
        points.append((hits / counted, hits / rank))
    best = [max((p for r, p in points if r >= recall), default=0.0) for recall in RECALLS]
    return float(np.mean(best))
