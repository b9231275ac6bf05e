"""Which classes are taken for which (no torch here)."""

from dataclasses import dataclass

import numpy as np

from detloss.evaluation.error_types import FOREGROUND
from detloss.evaluation.matching import NOTHING, match
from detloss.evaluation.outcomes import Outcomes
from detloss.evaluation.overlaps import Overlaps


@dataclass(frozen=True, eq=False)
class Confusion:
    """How often objects of one class were detected as another: a sparse [C + 1, C + 1] matrix of counts.

    Attributes:
        object_class: [E], C for the background.
        detection_class: [E], C for no detection.
        counts: [E], 1 or more.
        instances: [C], how many objects each class has.
    """

    object_class: np.ndarray
    detection_class: np.ndarray
    counts: np.ndarray
    instances: np.ndarray

    @property
    def undetected(self) -> int:
        """How many objects have no detection of any class on them."""
        return int(self.counts[self.detection_class == len(self.instances)].sum())

    @property
    def on_background(self) -> int:
        """How many detections are on no object of any class."""
        return int(self.counts[self.object_class == len(self.instances)].sum())

    def worst(self, number: int) -> "Confusion":
        """Return the most frequent confusions of two classes; of equals first the larger shares of the objects."""
        classes = len(self.instances)
        pair = (self.object_class < classes) & (self.detection_class < classes)
        chosen = np.flatnonzero(pair & (self.object_class != self.detection_class))
        shares = self.counts[chosen] / self.instances[self.object_class[chosen]]
        chosen = chosen[np.lexsort((-shares, -self.counts[chosen]))][:number]
        columns = self.object_class[chosen], self.detection_class[chosen], self.counts[chosen]
        return Confusion(*columns, self.instances)

    def matrix(self, classes: np.ndarray) -> np.ndarray:
        """Return how often objects of ``classes`` [K] were taken for each, for another, for none: [K, K + 2]."""
        size = len(self.instances)
        place = np.full(size + 1, len(classes))
        place[classes] = np.arange(len(classes))
        place[size] = len(classes) + 1
        counts = np.zeros((len(classes) + 2, len(classes) + 2), dtype=np.int64)
        np.add.at(counts, (place[self.object_class], place[self.detection_class]), self.counts)
        return counts[: len(classes)]


def confusion(outcomes: Outcomes, overlaps: Overlaps) -> Confusion:
    """Match detections with objects of their image whatever their class, the best score first, at IoU 0.5.

    An object is then of the class of the best detection that is on it. Further detections on an object that is
    taken are no one's; those on no object at all are of the background.

    Args:
        overlaps: of all detections with all objects of their image, whatever their class, of 0.5 or more at least.
    """
    detections, objects, classes = outcomes.detections, outcomes.objects, outcomes.categories
    order = np.lexsort((detections.row, -detections.scores, detections.image))
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    on = overlaps.iou >= FOREGROUND
    ranked = Overlaps.of([(place[overlaps.detection[on]], overlaps.object[on], overlaps.iou[on])])
    nobody = np.zeros(len(objects), dtype=bool)
    overlapping, chosen = match(ranked, detections.image[order], nobody, nobody[None], np.array([FOREGROUND]))
    taken = chosen[0, 0] != NOTHING
    taken_by = np.full(len(objects), classes)
    taken_by[ranked.object[chosen[0, 0, taken]]] = detections.category[order][overlapping[taken]]
    alone = np.ones(len(detections), dtype=bool)
    alone[order[overlapping]] = False
    pairs = np.concatenate(
        [objects.category * (classes + 1) + taken_by, classes * (classes + 1) + detections.category[alone]]
    )
    distinct, counts = np.unique(pairs, return_counts=True)
    return Confusion(distinct // (classes + 1), distinct % (classes + 1), counts, outcomes.instances)
