"""What became of detections and objects at IoU 0.5: what metrics beyond AP are computed from (no torch here)."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from detloss.evaluation.average_precision import interpolated
from detloss.evaluation.detections import Detections
from detloss.evaluation.ground_truth import Objects
from detloss.evaluation.match_table import MatchTable
from detloss.evaluation.matching import NOTHING


@dataclass(frozen=True, eq=False)
class Outcomes:
    """D detections by category, the best first, and G objects of all sizes, at IoU 0.5; C categories.

    Attributes:
        detections: those that count; one that found an ignored object is neither hit nor mistake and not here, nor
            is, in LVIS, one that found nothing where its class was not annotated exhaustively.
        objects: those that are to be found; crowds and what a file says to ignore are not here.
        found: [D], which object a detection found, `NOTHING` for a mistake.
    """

    detections: Detections
    objects: Objects
    found: np.ndarray
    categories: int

    @classmethod
    def of(cls, table: MatchTable, objects: Objects) -> "Outcomes":
        """Return what ``table`` says of all sizes at its first threshold; ``objects`` are those it was made of."""
        hits, ignored = table.hits(0, 0), table.ignored[0]
        counts = table.mistakes[0].copy()
        counts[table.overlapping] &= table.found[0, 0] == NOTHING
        counts[table.overlapping[hits]] = True
        place = np.cumsum(~ignored) - 1  # of an object among those that are to be found
        found = np.full(len(counts), NOTHING)
        found[table.overlapping[hits]] = place[table.overlaps.object[table.found[0, 0, hits]]]
        return cls(table.detections.take(counts), objects.take(~ignored), found[counts], table.categories)

    @property
    def hits(self) -> np.ndarray:
        """Whether a detection found an object, [D]; the others are mistakes."""
        hits: np.ndarray = self.found != NOTHING
        return hits

    @property
    def unfound(self) -> np.ndarray:
        """Whether nothing found an object, [G]."""
        unfound = np.ones(len(self.objects), dtype=bool)
        unfound[self.found[self.hits]] = False
        return unfound

    @property
    def instances(self) -> np.ndarray:
        """How many objects there are to find, [C]."""
        return np.bincount(self.objects.category, minlength=self.categories)


def precision_at_recalls(hits: np.ndarray, category: np.ndarray, instances: np.ndarray) -> np.ndarray:
    """Return precision at the 101 recalls of AP50 of every category, [C, R], -1 where there are no objects.

    Args:
        hits, category: [D], of detections by category, the best first.
        instances: [C], how many objects there are to find.
    """
    true, total = hits.cumsum(), np.arange(1, len(hits) + 1)
    starts = np.searchsorted(category, np.arange(len(instances)))
    before = np.append(0, true)[starts][category[hits]]
    true_of_class = true[hits] - before
    false_of_class = total[hits] - starts[category[hits]] - true_of_class
    return interpolated(true_of_class, false_of_class, category[hits], instances)


def precisions_by_group(outcomes: Outcomes, groups: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return precision at the 101 recalls of AP50 of each group's classes that have objects, [classes, R].

    ``groups`` are [C] bool by name; a group without such classes is left out.
    """
    curves = precision_at_recalls(outcomes.hits, outcomes.detections.category, outcomes.instances)
    own = {group: curves[chosen & (outcomes.instances > 0)] for group, chosen in groups.items()}
    return {group: each for group, each in own.items() if len(each)}
