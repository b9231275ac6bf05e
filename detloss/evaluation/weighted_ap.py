"""AP, AR and oLRP of a set in which every image counts as often as it was drawn (no torch here)."""

from dataclasses import dataclass

import numpy as np

from detloss.evaluation.average_precision import RECALLS
from detloss.evaluation.ground_truth import Objects
from detloss.evaluation.match_table import MatchTable
from detloss.evaluation.matches import TAU
from detloss.evaluation.matching import NOTHING


@dataclass(frozen=True, eq=False)
class WeightedAP:
    """What is left of a match table when only hits matter: B draws of I images, T thresholds, C categories.

    The precision at a recall is the best at that recall or any higher one, so that mistakes only matter by their
    number before each hit. An image drawn twice is two images: its hits and mistakes count twice each, between
    those with higher and those with lower scores. Matching is within an image and stays as it is. (Of detections
    of one image and class with equal scores, the first counts as often as it was drawn, then the second.)

    Attributes:
        mistakes: [K], the image of each detection that is a mistake where it finds nothing, by category, the best
            first; those of a category begin at ``first_mistake`` [C + 1].
        finds: [F], the image of each detection that found an object, by threshold, then category, the best first;
            those of a threshold and category begin at ``first_find`` [T C + 1].
        hit: [F] bool, whether the object counts; ``spared`` [F] bool, whether the detection is among the mistakes.
        group: [H], threshold times C + category of each hit, ``at`` [H] where it stands in ``finds``.
        before: [H], how many of all mistakes are as good as a hit or better.
        errors: [F], (1 - IoU) / (1 - tau) of what was found, oLRP's.
        objects: [G], the image of each object to be found, by category; a category's begin at
            ``first_object`` [C + 1].
    """

    thresholds: int
    categories: int
    mistakes: np.ndarray
    first_mistake: np.ndarray
    finds: np.ndarray
    first_find: np.ndarray
    hit: np.ndarray
    spared: np.ndarray
    group: np.ndarray
    at: np.ndarray
    before: np.ndarray
    errors: np.ndarray
    objects: np.ndarray
    first_object: np.ndarray

    @classmethod
    def of(cls, table: MatchTable, objects: Objects, *, area: int = 0) -> "WeightedAP":
        """Return what counts of ``table`` in an area range; ``objects`` are those that it was made of."""
        image, category = table.detections.image, table.detections.category
        mistakes = table.mistakes[area]
        threshold, place = np.nonzero(table.found[area] != NOTHING)  # by threshold, then by rank
        overlap = table.found[area, threshold, place]
        detection = table.overlapping[place]
        hit = ~table.ignored[area, table.overlaps.object[overlap]]
        group = threshold * table.categories + category[detection]
        counted = np.flatnonzero(~table.ignored[area])
        counted = counted[np.argsort(objects.category[counted], kind="stable")]
        bounds = np.arange(table.categories + 1)
        return cls(
            table.found.shape[1],
            table.categories,
            image[mistakes],
            np.searchsorted(category[mistakes], bounds),
            image[detection],
            np.searchsorted(group, np.arange(table.found.shape[1] * table.categories + 1)),
            hit,
            mistakes[detection],
            group[hit],
            np.flatnonzero(hit),
            mistakes.cumsum()[detection[hit]],
            (1 - table.overlaps.iou[overlap]) / (1 - TAU),
            objects.image[counted],
            np.searchsorted(objects.category[counted], bounds),
        )

    @property
    def size(self) -> int:
        """How many numbers a draw takes while it is measured."""
        dense = self.thresholds * self.categories * len(RECALLS)
        return len(self.mistakes) + 2 * len(self.finds) + 4 * len(self.at) + len(self.objects) + dense

    def number_of_objects(self, weights: np.ndarray) -> np.ndarray:
        """Return how many objects there are to find, [B, C]; ``weights`` [B, I] are how often an image counts."""
        return np.diff(_running(weights[:, self.objects])[:, self.first_object], axis=1)

    def average_precision(self, weights: np.ndarray) -> np.ndarray:
        """Return AP at 101 recalls, [B, T, C], NaN of a category without objects in a draw.

        Args:
            weights: [B, I] integers, how often each image counts.
        """
        objects = self.number_of_objects(weights)
        true, false = self._up_to_hits(weights)
        recall = true / np.maximum(objects, 1)[:, self.group % self.categories]
        precision = true / (false + true + np.spacing(1))
        groups = self.thresholds * self.categories
        best = np.zeros((len(weights) * groups, len(RECALLS)))
        # Recall never falls within a group, so that equal keys are neighbours.
        key = (np.arange(len(weights))[:, None] * groups + self.group) * len(RECALLS) + _reached(recall)
        starts = np.flatnonzero(np.diff(key.ravel(), prepend=-1))
        if len(starts):
            best.ravel()[key.ravel()[starts]] = np.maximum.reduceat(precision.ravel(), starts)
        best = np.maximum.accumulate(best[:, ::-1], axis=1)
        values = best.mean(axis=1).reshape(len(weights), self.thresholds, self.categories)
        return np.where(objects[:, None] > 0, values, np.nan)

    def recall(self, weights: np.ndarray) -> np.ndarray:
        """Return shares of objects found, [B, T, C], NaN of a category without objects in a draw."""
        objects = self.number_of_objects(weights)
        found = np.diff(_running(weights[:, self.finds] * self.hit)[:, self.first_find], axis=1)
        shares = found.reshape(len(weights), self.thresholds, self.categories)
        return np.where(objects[:, None] > 0, shares / np.maximum(objects, 1)[:, None], np.nan)

    def olrp(self, weights: np.ndarray) -> np.ndarray:
        """Return optimal LRP error at the first threshold, [B, C], NaN of a category without objects in a draw.

        LRP is (sum of ``errors`` + FP + FN) / (TP + FP + FN); a mistake adds as much above as below, so that the
        lowest error is that at a hit, or 1, where nothing is kept.
        """
        objects = self.number_of_objects(weights)
        first = self.group < self.categories
        true, false = (counts[:, first] for counts in self._up_to_hits(weights))
        group, at = self.group[first], self.at[first]
        running = _running(weights[:, self.finds] * self.hit * self.errors)
        errors = running[:, at + 1] - running[:, self.first_find[group]]
        to_find = objects[:, group]
        total = false + to_find
        lrp = np.where(total > 0, (errors + false + to_find - true) / np.maximum(total, 1), 1)
        lowest = np.ones(objects.shape)
        starts = np.flatnonzero(np.diff(group, prepend=-1))
        if len(starts):
            lowest[:, group[starts]] = np.minimum.reduceat(lrp, starts, axis=1)
        return np.where(objects > 0, lowest, np.nan)

    def _up_to_hits(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the hits and mistakes of its group up to each hit, itself included, both [B, H]."""
        category, first = self.group % self.categories, self.first_find[self.group]
        found = weights[:, self.finds]
        running = _running(found * self.hit)
        true = running[:, self.at + 1] - running[:, first]
        running = _running(found * self.spared)
        spared = running[:, self.at + 1] - running[:, first]
        running = _running(weights[:, self.mistakes])
        return true, running[:, self.before] - running[:, self.first_mistake[category]] - spared


def _running(values: np.ndarray) -> np.ndarray:
    """Return the sums of [B, N] over what comes before each place and the end, [B, N + 1]."""
    sums = np.zeros((len(values), values.shape[1] + 1), dtype=np.result_type(values, np.int64))
    values.cumsum(axis=1, out=sums[:, 1:])
    return sums


def _reached(recall: np.ndarray) -> np.ndarray:
    """Return the last of `RECALLS` that does not exceed each ``recall``, by arithmetic: quicker than a search."""
    place = (recall * (len(RECALLS) - 1)).astype(np.int64)
    place -= RECALLS[place] > recall
    following = np.minimum(place + 1, len(RECALLS) - 1)
    return np.where(RECALLS[following] <= recall, following, place)
