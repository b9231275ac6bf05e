"""Logit adjustment and balanced softmax against the softmax with a prior written out."""

import pytest
import torch

from detloss.losses import CrossEntropy, LogitAdjustment
from detloss.losses.coder import Softmax
from detloss.stats import ClassStats
from tests.losses.conftest import COUNTS, stats_of
from tests.losses.softmax_batches import BATCHES, assert_same, batch_of
from tests.reference import softmax_losses

CLASSES = len(COUNTS)


@pytest.mark.parametrize(("tau", "ratio"), [(1.0, None), (0.5, None), (1.0, 6.3313), (1.3, 0.01)])
@pytest.mark.parametrize("kind", BATCHES)
def test_value_and_gradient_equal_the_transcription(kind: str, tau: float, ratio: float | None) -> None:
    logits, labels, weights = batch_of(kind, CLASSES + 1, CLASSES)
    value = LogitAdjustment(stats_of(COUNTS), tau=tau, background_ratio=ratio)(logits, labels, weights)
    factors = softmax_losses.logit_adjustment_factors(COUNTS, tau, ratio)
    assert_same(value, softmax_losses.scaled_cross_entropy(logits, labels, weights, factors), logits)


@pytest.mark.parametrize("ratio", [None, 3.0])
def test_lvis_v1_equals_the_transcription(ratio: float | None) -> None:
    stats = ClassStats.lvis_v1()
    logits, labels, weights = batch_of("seed 0", stats.num_classes + 1, stats.num_classes, rows=24)
    value = LogitAdjustment(stats, background_ratio=ratio)(logits, labels, weights)
    factors = softmax_losses.logit_adjustment_factors(stats.instances.tolist(), 1.0, ratio)
    assert_same(value, softmax_losses.scaled_cross_entropy(logits, labels, weights, factors), logits)


@pytest.mark.parametrize("ratio", [None, 3.0])
@pytest.mark.parametrize("kind", BATCHES)
def test_without_temperature_it_is_cross_entropy(kind: str, ratio: float | None) -> None:
    logits, labels, weights = batch_of(kind, CLASSES + 1, CLASSES)
    value = LogitAdjustment(stats_of(COUNTS), tau=0.0, background_ratio=ratio)(logits, labels, weights)
    assert_same(value, CrossEntropy(stats_of(COUNTS))(logits, labels, weights), logits)


def test_balanced_softmax_weighs_exponentials_by_counts() -> None:
    """Eq. 3 of balanced softmax: n_j e^z_j / sum_k n_k e^z_k, background counted like a class."""
    loss = LogitAdjustment(stats_of([3, 1]), background_ratio=2.0)
    value = loss(torch.zeros(3, 3, dtype=torch.float64), torch.tensor([0, 1, 2]))
    shares = torch.tensor([3 / 12, 1 / 12, 8 / 12], dtype=torch.float64)
    assert value.item() == pytest.approx(-shares.log().sum().item(), rel=1e-12)


def test_without_a_ratio_background_is_not_shifted() -> None:
    loss = LogitAdjustment(stats_of([3, 1]))
    value = loss(torch.zeros(3, 3, dtype=torch.float64), torch.tensor([0, 1, 2]))
    shares = torch.tensor([3 / 8, 1 / 8, 4 / 8], dtype=torch.float64)  # 3/4, 1/4 and 1, over their sum
    assert value.item() == pytest.approx(-shares.log().sum().item(), rel=1e-12)


def test_scores_are_the_unshifted_softmax() -> None:
    logits, _, _ = batch_of("seed 0", CLASSES + 1, CLASSES)
    coder = LogitAdjustment(stats_of(COUNTS)).coder
    assert type(coder) is Softmax
    torch.testing.assert_close(coder.decode(logits), logits.softmax(dim=1)[:, :CLASSES])
