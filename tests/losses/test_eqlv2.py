"""EQLv2 against its transcription over several batches, its first batch, and its state."""

import math
from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from detloss.losses import ECM, EQLv2
from detloss.stats import ClassStats
from tests.losses.conftest import COUNTS, stats_of
from tests.losses.sigmoid_batches import (
    KINDS,
    assert_equal_with_gradients,
    assert_same_state,
    batch_of,
    batches,
    state_of,
)
from tests.reference import sigmoid_losses


@pytest.mark.parametrize("settings", [{}, {"gamma": 3.0, "mu": 0.3, "alpha": 1.5}])
def test_eqlv2_and_its_gradient_equal_the_transcription_batch_after_batch(settings: dict[str, float]) -> None:
    literal, loss = sigmoid_losses.EQLv2(5, **settings), EQLv2(stats_of(COUNTS), **settings)
    for logits, labels, weights in batches(6):
        expected = literal(logits, labels, weights)
        assert_equal_with_gradients(loss(logits, labels, weights), expected, logits)
        assert loss.positive_gradient.tolist() == pytest.approx(literal.positive, rel=1e-9)
        assert loss.negative_gradient.tolist() == pytest.approx(literal.negative, rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_any_kind_equals_the_transcription_before_and_after_others(kind: str) -> None:
    literal, loss = sigmoid_losses.EQLv2(5), EQLv2(stats_of(COUNTS))
    for logits, labels, weights in [batch_of(kind, 6, 5), *batches(6), batch_of(kind, 6, 7)]:
        assert_equal_with_gradients(loss(logits, labels, weights), literal(logits, labels, weights), logits)


def test_eqlv2_equals_the_transcription_on_the_classes_of_lvis() -> None:
    literal, loss = sigmoid_losses.EQLv2(1203), EQLv2(ClassStats.lvis_v1())
    for logits, labels, weights in batches(1204, num_classes=1203):
        assert_equal_with_gradients(loss(logits, labels, weights), literal(logits, labels, weights), logits)


def test_the_first_batch_is_binary_cross_entropy_with_a_background_column() -> None:
    logits, labels, weights = batch_of("mixed", 6, 0)
    loss = EQLv2(stats_of(COUNTS))
    assert loss.ratio.tolist() == [100.0] * 5
    target = F.one_hot(labels, 6).double()
    expected = F.binary_cross_entropy_with_logits(logits, target, weights[:, None], reduction="sum")
    assert_equal_with_gradients(loss(logits, labels, weights), expected, logits)


def test_scores_are_those_of_ecms_coder() -> None:
    logits = batch_of("mixed", 6, 0).logits
    ecm = ECM(stats_of(COUNTS), background_ratio=1.0)
    torch.testing.assert_close(EQLv2(stats_of(COUNTS)).coder.decode(logits), ecm.coder.decode(logits))


def test_a_balanced_class_keeps_its_negatives_and_a_suppressed_one_loses_them() -> None:
    """Ratio 4: the map of 3.2 over mu is 1 to 1e-16. Ratio 0: it is 1 / (1 + e^9.6), and positives weigh 5."""
    loss = EQLv2(stats_of(COUNTS))
    loss.ratio.copy_(torch.tensor([4.0, 0.0, 0.8, 4.0, 4.0], dtype=torch.float64))
    logits = torch.zeros(2, 6, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(logits, torch.tensor([1, 5])), logits)
    suppressed = 1 / (1 + math.exp(9.6))
    positive = 1 + 4 * (1 - suppressed)
    assert gradient[0].tolist() == pytest.approx([0.5, -0.5 * positive, 0.25, 0.5, 0.5, 0.5], rel=1e-12)
    assert gradient[1].tolist() == pytest.approx([0.5, 0.5 * suppressed, 0.25, 0.5, 0.5, -0.5], rel=1e-12)


def trained() -> EQLv2:
    loss = EQLv2(stats_of(COUNTS))
    for logits, labels, weights in batches(6):
        loss(logits, labels, weights)
    return loss


def test_the_state_goes_through_a_state_dict() -> None:
    loss, fresh = trained(), EQLv2(stats_of(COUNTS))
    fresh.load_state_dict(loss.state_dict())
    logits, labels, weights = batch_of("mixed", 6, 9)
    assert fresh(logits, labels, weights).item() == loss(logits, labels, weights).item()
    assert_same_state(state_of(fresh), state_of(loss))


def test_evaluation_uses_the_state_and_leaves_it() -> None:
    loss, other = trained(), trained()
    before = state_of(loss)
    batch = batch_of("mixed", 6, 9)
    assert loss.eval()(*batch).item() == other(*batch).item()
    assert_same_state(state_of(loss), before)


def test_rows_of_weight_0_leave_no_trace() -> None:
    loss, other = trained(), trained()
    logits, labels, weights = batch_of("mixed", 6, 9)
    chosen = weights > 0
    value = other(logits[chosen], labels[chosen], weights[chosen])
    assert loss(logits, labels, weights).item() == pytest.approx(value.item(), rel=1e-12)
    assert_same_state(state_of(loss), state_of(other))


def test_no_weights_count_every_row_as_1() -> None:
    loss, other = trained(), trained()
    logits, labels, weights = batch_of("mixed", 6, 9)
    expected = other(logits, labels, torch.ones_like(weights))
    assert loss(logits, labels).item() == pytest.approx(expected.item(), rel=1e-12)
    assert_same_state(state_of(loss), state_of(other))


@pytest.mark.parametrize("start", [trained, lambda: EQLv2(stats_of(COUNTS))])
def test_a_batch_of_ignored_rows_changes_nothing(start: Callable[[], EQLv2]) -> None:
    loss = start()
    before = state_of(loss)
    logits, labels, weights = batch_of("mixed", 6, 9)
    assert loss(logits, labels, torch.zeros_like(weights)).item() == 0
    assert_same_state(state_of(loss), before)
