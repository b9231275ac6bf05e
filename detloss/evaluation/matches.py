"""Which detections found an object, and how well: what metrics beyond AP are computed from (no torch here)."""

from dataclasses import dataclass

import numpy as np

from detloss.evaluation.match_table import MatchTable
from detloss.evaluation.matching import NOTHING

TAU = 0.5
"""The IoU from which on a detection finds an object: the first threshold of both official tools."""


@dataclass(frozen=True)
class Matches:
    """The detections of one class that count, the best first, at IoU `TAU`.

    Attributes:
        scores: [D].
        ious: [D], of a detection with the object that it found, 0 for one that found none.
        objects: how many there are to find.
    """

    scores: np.ndarray
    ious: np.ndarray
    objects: int

    @property
    def found(self) -> np.ndarray:
        """Whether a detection is a true positive, [D]."""
        return self.ious > 0


def matches_of(table: MatchTable) -> list[Matches]:
    """Return one item per class in the order of the ids, of objects of all sizes."""
    found, hits = table.found[0, 0], table.hits(0, 0)
    counts = table.mistakes[0].copy()
    counts[table.overlapping[found != NOTHING]] = False
    counts[table.overlapping[hits]] = True
    ious = np.zeros(len(counts))
    ious[table.overlapping[hits]] = table.overlaps.iou[found[hits]]
    bounds = np.searchsorted(table.detections.category[counts], np.arange(1, table.categories))
    scores = np.split(table.detections.scores[counts], bounds)
    return [
        Matches(*columns)
        for columns in zip(scores, np.split(ious[counts], bounds), table.objects[0].tolist(), strict=True)
    ]
