"""Precision at 101 recalls, and recall, of every class, from a match table (no torch here)."""

import numpy as np

from detloss.evaluation.match_table import MatchTable
from detloss.evaluation.matching import NOTHING

RECALLS = np.linspace(0, 1, 101)


def precision(table: MatchTable) -> np.ndarray:
    """Return precision by IoU threshold, recall, category and area range, [T, R, C, A] (Lin et al., ECCV 2014).

    The precision at a recall is the best at that recall or any higher one, so that only the hits matter: a
    mistake lowers precision and leaves recall as it is. Without objects to find it is -1.
    """
    areas, thresholds, _ = table.found.shape
    category = table.detections.category[table.overlapping]
    values = np.empty((thresholds, len(RECALLS), table.categories, areas))
    for area in range(areas):
        mistakes = table.mistakes[area]
        before = _running(mistakes, table.detections.category, table.categories)[table.overlapping]
        for threshold in range(thresholds):
            hits = table.hits(area, threshold)
            spared = (table.found[area, threshold] != NOTHING) & mistakes[table.overlapping]
            true = _running(hits, category, table.categories)[hits]
            false = (before - _running(spared, category, table.categories))[hits]
            values[threshold, ..., area] = interpolated(true, false, category[hits], table.objects[area]).T
    return values


def interpolated(true: np.ndarray, false: np.ndarray, category: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Return precision at `RECALLS` of every category, [C, R], -1 where there are no objects.

    Args:
        true, false: [H], how many hits and mistakes there are in its category up to each hit, itself included.
        category: [H].
        objects: [C], how many there are to find.
    """
    best = np.zeros((len(objects), len(RECALLS)))
    reached = np.searchsorted(RECALLS, true / objects[category], side="right") - 1
    np.maximum.at(best, (category, reached), true / (false + true + np.spacing(1)))
    best = np.maximum.accumulate(best[:, ::-1], axis=1)[:, ::-1]
    return np.where(objects[:, None] > 0, best, -1)


def recall(table: MatchTable, counted: np.ndarray | None = None) -> np.ndarray:
    """Return shares of objects found, [T, C, A], -1 where there are none; by detections ``counted`` [D] only."""
    areas, thresholds, _ = table.found.shape
    category = table.detections.category[table.overlapping]
    among = np.ones(len(category), dtype=bool) if counted is None else counted[table.overlapping]
    found = np.array(
        [
            [
                np.bincount(category[table.hits(area, threshold) & among], minlength=table.categories)
                for area in range(areas)
            ]
            for threshold in range(thresholds)
        ]
    )
    shares = np.divide(found, table.objects, out=-np.ones(found.shape), where=table.objects > 0)
    return shares.transpose(0, 2, 1)


def _running(flags: np.ndarray, category: np.ndarray, categories: int) -> np.ndarray:
    """Return how many ``flags`` are set up to each, itself included, within its category; categories ascend."""
    totals = np.bincount(category[flags], minlength=categories)
    return flags.cumsum() - (totals.cumsum() - totals)[category]
