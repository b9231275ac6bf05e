"""Losses against one logit: formulas written out, and what each loss is known for."""

import numpy as np
import pytest

from detloss.loss_curves import COPIES, Curve, drawn_classes, loss_curves, sample_stats
from detloss.losses import BAGS, ECM, EQL, BinaryCrossEntropy, ClassLoss, CrossEntropy, DropLoss, Focal, Seesaw

LOGITS = np.linspace(-6, 6, 25)
COUNTS = [4, 5000, 200]


def curves(make: type[ClassLoss], index: int) -> dict[str, Curve]:
    stats = sample_stats(COUNTS)
    return loss_curves(make(stats), stats, index, LOGITS)


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def test_binary_cross_entropy_is_softplus_for_every_class() -> None:
    for index in range(3):
        found = curves(BinaryCrossEntropy, index)
        for role, sign in (("own", -1), ("others", 1), ("background", 1)):
            values = np.log1p(np.exp(sign * LOGITS))
            np.testing.assert_allclose(found[role].values, values - values.min(), atol=1e-9)
            np.testing.assert_allclose(found[role].gradients, sign * sigmoid(sign * LOGITS), atol=1e-9)


def test_cross_entropy_has_the_other_logits_at_0() -> None:
    found = curves(CrossEntropy, 0)
    share = np.exp(LOGITS) / (3 + np.exp(LOGITS))  # two other classes and background
    np.testing.assert_allclose(found["own"].gradients, share - 1, atol=1e-9)
    np.testing.assert_allclose(found["others"].gradients, share, atol=1e-9)
    np.testing.assert_allclose(found["background"].gradients, share, atol=1e-9)


@pytest.mark.parametrize("make", [BinaryCrossEntropy, CrossEntropy, Focal, ECM, EQL, DropLoss, BAGS])
def test_the_gradient_is_the_slope_of_the_value(make: type[ClassLoss]) -> None:
    for role, found in curves(make, 2).items():
        steps = np.diff(found.values)
        between = (found.gradients[1:] + found.gradients[:-1]) / 2 * np.diff(LOGITS)
        if make is not DropLoss or role != "background":  # which draws anew at each point
            np.testing.assert_allclose(steps, between, atol=0.02)


def test_ecm_pulls_rare_classes_harder_and_pushes_them_less_than_frequent_ones_at_logit_0() -> None:
    """Supplement E: frequent classes get lower positive and higher negative gradient."""
    rare, frequent = curves(ECM, 0), curves(ECM, 1)
    middle = len(LOGITS) // 2
    assert rare["own"].gradients[middle] < frequent["own"].gradients[middle] < 0
    assert 0 < rare["background"].gradients[middle] < frequent["background"].gradients[middle]


def test_seesaw_softens_the_push_of_frequent_on_rare_classes_by_their_counts() -> None:
    """M_ij = (N_j / N_i)^0.8 from labels seen, at low logits where nothing is compensated: factor times share."""
    rare = curves(Seesaw, 0)["others"].gradients[0]
    factors = (np.array([4, 200]) / 5000) ** 0.8
    weights = np.array([np.exp(LOGITS[0]), 1.0]) * factors
    assert rare == pytest.approx(weights[0] / (1 + weights.sum()), rel=1e-6)
    assert not curves(Seesaw, 0)["background"].gradients.any()


def test_eql_spares_tail_classes_in_rows_of_other_classes_alone() -> None:
    found = curves(EQL, 0)
    assert not found["others"].gradients.any()
    assert found["background"].gradients[-1] == pytest.approx(sigmoid(LOGITS[-1:])[0])


def test_losses_that_draw_are_drawn_as_means_and_alike_every_time() -> None:
    first, second = (curves(DropLoss, 0)["background"].gradients for _ in range(2))
    assert first.tolist() == second.tolist()
    assert 0 <= first[-1] <= 1 and COPIES > 1


def test_one_class_alone_has_no_row_of_another() -> None:
    stats = sample_stats([7])
    assert set(loss_curves(BinaryCrossEntropy(stats), stats, 0, LOGITS)) == {"own", "background"}
    assert drawn_classes(stats) == [0]


def test_counts_of_zero_and_of_millions_are_drawn() -> None:
    stats = sample_stats([0, 30_000_000])
    for make in (ECM, Seesaw):
        for index in range(2):
            found = loss_curves(make(stats), stats, index, LOGITS[::12])
            assert all(np.isfinite(one.gradients).all() for one in found.values())


def test_the_sample_of_lvis_spans_its_tail_and_names_a_class_of_each_group() -> None:
    stats = sample_stats(None)
    assert stats.num_classes == 12 and stats.num_images == 100_170
    rare, common, frequent = (stats.images[index] for index in drawn_classes(stats))
    assert rare <= 10 < common <= 100 < frequent
