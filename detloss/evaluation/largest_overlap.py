"""Each detection beside the object that it overlaps most: as VOC and Open Images match (no torch here)."""

import numpy as np

from detloss.evaluation.overlaps import Overlaps


def largest_overlaps(overlaps: Overlaps) -> Overlaps:
    """Return the largest overlap of every detection, with the first of equal objects, by detection."""
    order = np.lexsort((overlaps.object, -overlaps.iou, overlaps.detection))
    chosen = order[np.flatnonzero(np.diff(overlaps.detection[order], prepend=-1))]
    return Overlaps(overlaps.detection[chosen], overlaps.object[chosen], overlaps.iou[chosen])


def first_of_each(values: np.ndarray) -> np.ndarray:
    """Return which of ``values`` [N] are the first of their kind, [N] bool."""
    first = np.zeros(len(values), dtype=bool)
    first[np.unique(values, return_index=True)[1]] = True
    return first
