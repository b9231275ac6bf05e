"""How often mistakes rank above objects, and what that says of AP (no torch here).

Definitions 1 and 2 and Theorems 2 and 3 of "Long-tail Detection with Effective Class-Margins" (ECCV 2022), of the
distributions that an evaluation found: the positives of a class are its objects, its negatives its mistakes.
"""

from dataclasses import dataclass

import numpy as np

from detloss.evaluation.outcomes import Outcomes


@dataclass(frozen=True, eq=False)
class RankingErrors:
    """Each [C], in 0..1 but for the ratio; NaN for a class without objects or without mistakes.

    Attributes:
        ratio: alpha_c, mistakes per object.
        ranking: R_c (Definition 2).
        detection: 1 - ap_c, where ap_c is the probabilistic AP (Definition 1).
        lowest, highest: the bounds of ``detection`` by ``ratio`` and ``ranking`` (Theorem 2).
        binary: the lowest error of any score threshold, which bounds ``ranking`` (Theorem 3).
    """

    ratio: np.ndarray
    ranking: np.ndarray
    detection: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray
    binary: np.ndarray


def ranking_errors(outcomes: Outcomes) -> RankingErrors:
    """Measure every class.

    An object has the score of the detection that found it; one that was not found ranks below all mistakes, which
    is what a recall below 1 means in the second form of Definition 2. Equal scores are in the order in which AP
    counts them. Unlike AP50, ap_c is not interpolated and goes on to a recall of 1: the theorem holds exactly.
    """
    ratio, ranking, detection, binary = np.full((4, outcomes.categories), np.nan)
    category, hits = outcomes.detections.category, outcomes.hits
    ends = np.searchsorted(category, np.arange(1, outcomes.categories))
    for index, (own, objects) in enumerate(zip(np.split(hits, ends), outcomes.instances.tolist(), strict=True)):
        mistakes = len(own) - int(own.sum())
        if not objects or not mistakes:
            continue
        # How many mistakes rank above each object, the best first: all of them above one that was not found.
        above = np.full(objects, mistakes)
        above[: len(own) - mistakes] = (~own).cumsum()[own]
        ratio[index] = mistakes / objects
        ranking[index] = above.mean() / mistakes
        detection[index] = 1 - probabilistic_ap(above)
        recalled = own.cumsum() / objects
        errors = 1 - recalled + (~own).cumsum() / mistakes
        binary[index] = min(1.0, float(errors.min()))
    lowest, highest = detection_error_bounds(ratio, ranking)
    return RankingErrors(ratio, ranking, detection, lowest, highest, binary)


def probabilistic_ap(above: np.ndarray) -> float:
    """Return ap_c of P objects, given how many mistakes rank ``above`` each, [P], ascending (Definition 1).

    alpha g(beta) is then a step function: above[k] / P for beta from k/P to (k + 1)/P. With c = above[k] the
    integral of beta / (beta + c/P) over the step is (1 - c log((k + 1 + c) / (k + c))) / P.
    """
    rank = np.flatnonzero(above)  # where nothing ranks higher nothing is lost
    false = above[rank]
    return float(1 - (false * np.log1p(1 / (rank + false))).sum() / len(above))


def detection_error_bounds(ratio: np.ndarray, ranking: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and the largest detection error that alpha_c and R_c allow (Theorem 2).

    alpha log((1 + alpha) / (1 + alpha - R)) <= 1 - ap <= min(sqrt(2 alpha R / 3), 1 - 8 / (9 (1 + 2 alpha R))).
    The paper prints sqrt(2/3) alpha R, which its own proof (Lemma 1) does not give and which does not hold.
    """
    lowest = -ratio * np.log1p(-ranking / (1 + ratio))
    product = ratio * ranking
    return lowest, np.minimum(np.sqrt(2 * product / 3), 1 - 8 / (9 * (1 + 2 * product)))
