"""Whether the best-scored detections are the best placed ones (aLRP, NeurIPS 2020, Table 2)."""

import numpy as np

from detloss.evaluation.matches import Matches


def rank_correlation(matches: Matches) -> float | None:
    """Return Pearson's correlation, -1..1, between the ranks of the true positives by score and by IoU.

    Equals share their mean rank. None where fewer than two true positives differ in either.
    """
    scores, ious = _ranks(matches.scores[matches.found]), _ranks(matches.ious[matches.found])
    if not len(scores) or scores.std() == 0 or ious.std() == 0:
        return None
    return float(np.corrcoef(scores, ious)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Return the rank of every value from below, starting from 1."""
    _, level, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: np.ndarray = (counts.cumsum() - (counts - 1) / 2)[level]
    return ranks
