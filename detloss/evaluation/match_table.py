"""Every detection, what it found and whether it counts: what all metrics are computed from (no torch here)."""

from dataclasses import dataclass

import numpy as np

from detloss.evaluation.boundary import boundary_overlaps
from detloss.evaluation.detections import Detections
from detloss.evaluation.ground_truth import Objects
from detloss.evaluation.matching import NOTHING, match
from detloss.evaluation.overlaps import Neighbours, Overlaps, box_overlaps, mask_overlaps

THRESHOLDS = np.linspace(0.5, 0.95, 10)
AREA_RANGES = np.array([[0, 1e5**2], [0, 32**2], [32**2, 96**2], [96**2, 1e5**2]])
"""All, small, medium, large: COCO's and LVIS's, in pixels, both ends included."""

OVERLAPS = {"bbox": box_overlaps, "segm": mask_overlaps, "boundary": boundary_overlaps}


@dataclass(frozen=True, eq=False)
class MatchTable:
    """D detections by category, the best first; A area ranges, T IoU thresholds, C categories.

    Only M of the detections overlap an object of their category enough to find it, so that ``found`` is small.

    Attributes:
        objects: [A, C], how many objects there are to find.
        mistakes: [A, D] bool, whether a detection is a mistake where it finds nothing.
        overlapping: [M], the detections that overlap an object, ascending.
        found: [A, T, M], which of ``overlaps`` is what such a detection found, `NOTHING` for none.
        ignored: [A, G], which objects are neither found nor missed.
    """

    detections: Detections
    categories: int
    objects: np.ndarray
    mistakes: np.ndarray
    overlaps: Overlaps
    overlapping: np.ndarray
    found: np.ndarray
    ignored: np.ndarray

    def hits(self, area: int, threshold: int) -> np.ndarray:
        """Return [M] bool: which of ``overlapping`` found an object that counts."""
        found = self.found[area, threshold]
        hits: np.ndarray = found != NOTHING
        hits[hits] = ~self.ignored[area, self.overlaps.object[found[hits]]]
        return hits


def match_table(
    detections: Detections,
    objects: Objects,
    kind: str,
    *,
    categories: int,
    lenient: np.ndarray,
) -> MatchTable:
    """Match ranked detections with objects.

    Args:
        detections: in the order of `Detections.ranked`.
        kind: one of `OVERLAPS`.
        categories: C.
        lenient: [D] bool, a detection that is no mistake, whatever it finds.
    """
    overlaps = OVERLAPS[kind](detections, objects, Neighbours.of(detections, objects, categories))
    ignored = np.stack([objects.ignored | _outside(objects.areas, limits) for limits in AREA_RANGES])
    mistakes = np.stack([~(lenient | _outside(detections.areas, limits)) for limits in AREA_RANGES])
    overlapping, found = match(overlaps, detections.pairs(categories), objects.crowd, ignored, THRESHOLDS)
    counts = np.stack([np.bincount(objects.category[~each], minlength=categories) for each in ignored])
    return MatchTable(detections, categories, counts, mistakes, overlaps, overlapping, found, ignored)


def _outside(areas: np.ndarray, limits: np.ndarray) -> np.ndarray:
    outside: np.ndarray = (areas < limits[0]) | (areas > limits[1])
    return outside
