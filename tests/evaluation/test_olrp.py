"""oLRP and the correlation of rankings on matches worked out by hand; brute force is in the evaluators' tests."""

import numpy as np
import pytest

from detloss.evaluation.matches import Matches
from detloss.evaluation.olrp import OLRP, olrp
from detloss.evaluation.rank_correlation import rank_correlation


def matches(scores: list[float], ious: list[float], objects: int) -> Matches:
    return Matches(np.array(scores), np.array(ious), objects)


def test_the_lowest_error_is_found_with_its_components() -> None:
    # One kept: (0.2 / 0.5 + 1 missed) / 2 = 0.70. Two: (0.4 + 1 + 1) / 3 = 0.80. Three: (1.2 + 1) / 3 = 0.73.
    found = olrp(matches([0.9, 0.8, 0.7], [0.8, 0.0, 0.6], 2))
    assert found.error == pytest.approx(0.7)
    assert found.localisation == pytest.approx(0.2)
    assert (found.false_positives, found.false_negatives, found.threshold) == (0.0, 0.5, 0.9)


def test_a_later_detection_can_be_worth_a_mistake() -> None:
    # One kept: 1 missed of 2. Three: 1 mistake of 3.
    found = olrp(matches([0.9, 0.8, 0.7], [1.0, 0.0, 1.0], 2))
    assert found.error == pytest.approx(1 / 3)
    assert found == OLRP(found.error, 0.0, pytest.approx(1 / 3), 0.0, 0.7)


@pytest.mark.parametrize("scores", [[], [0.9, 0.1]])
def test_nothing_found_is_an_error_of_1_without_other_components(scores: list[float]) -> None:
    assert olrp(matches(scores, [0.0] * len(scores), 3)) == OLRP(1.0, None, None, 1.0, None)


def test_a_class_without_objects_has_none() -> None:
    assert olrp(matches([0.5], [0.0], 0)) == OLRP(None, None, None, None, None)


def test_hits_that_barely_overlap_are_no_better_than_misses() -> None:
    found = olrp(matches([0.5], [0.5], 1))
    assert (found.error, found.localisation) == (1.0, 0.5)


def test_rankings_that_agree_oppose_and_share_ranks() -> None:
    assert rank_correlation(matches([0.9, 0.8, 0.2], [0.99, 0.6, 0.55], 3)) == pytest.approx(1.0)
    assert rank_correlation(matches([0.9, 0.8, 0.2], [0.55, 0.6, 0.99], 3)) == pytest.approx(-1.0)
    # Ranks by score 2.5, 2.5, 1 and by IoU 3, 1, 2: covariance 0, as 0.5 * 1 - 0.5 * 1 - 1 * 0.
    assert rank_correlation(matches([0.9, 0.9, 0.2], [0.9, 0.6, 0.7], 3)) == pytest.approx(0.0, abs=1e-12)


def test_mistakes_do_not_count_for_the_correlation() -> None:
    assert rank_correlation(matches([0.9, 0.8, 0.7], [0.0, 0.9, 0.6], 3)) == pytest.approx(1.0)


@pytest.mark.parametrize(("scores", "ious"), [([], []), ([0.9], [0.8]), ([0.9, 0.9], [0.8, 0.7])])
def test_without_two_different_ranks_there_is_no_correlation(scores: list[float], ious: list[float]) -> None:
    assert rank_correlation(matches(scores, ious, 5)) is None
