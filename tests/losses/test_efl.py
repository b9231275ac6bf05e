"""EFL against its transcription over several batches, focal loss, and its state."""

from collections.abc import Callable

import pytest
import torch

from detloss.losses import EFL, Focal
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


@pytest.mark.parametrize("settings", [{}, {"gamma": 1.5, "scale": 3.0, "alpha": 0.6}])
def test_efl_and_its_gradient_equal_the_transcription_batch_after_batch(settings: dict[str, float]) -> None:
    literal, loss = sigmoid_losses.EFL(5, **settings), EFL(stats_of(COUNTS), **settings)
    for logits, labels, weights in batches(5):
        expected = literal(logits, labels, weights)
        assert_equal_with_gradients(loss(logits, labels, weights), expected, logits)
        assert loss.positive_gradient.tolist() == pytest.approx(literal.positive, rel=1e-9)
        assert loss.negative_gradient.tolist() == pytest.approx(literal.negative, rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_any_kind_equals_the_transcription_before_and_after_others(kind: str) -> None:
    literal, loss = sigmoid_losses.EFL(5), EFL(stats_of(COUNTS))
    for logits, labels, weights in [batch_of(kind, 5, 5), *batches(5), batch_of(kind, 5, 7)]:
        assert_equal_with_gradients(loss(logits, labels, weights), literal(logits, labels, weights), logits)


def test_efl_equals_the_transcription_on_the_classes_of_lvis() -> None:
    literal, loss = sigmoid_losses.EFL(1203), EFL(ClassStats.lvis_v1())
    # 240 rows make more than one chunk of entries.
    for logits, labels, weights in batches(1203, num_classes=1203, rows=240):
        assert_equal_with_gradients(loss(logits, labels, weights), literal(logits, labels, weights), logits)


def test_the_first_batch_is_focal_loss() -> None:
    logits, labels, weights = batch_of("mixed", 5, 0)
    stats = stats_of(COUNTS)
    loss = EFL(stats)
    assert loss.ratio.tolist() == [1.0] * 5
    expected = Focal(stats, gamma=2.0, alpha=0.25)(logits, labels, weights)
    assert_equal_with_gradients(loss(logits, labels, weights), expected, logits)


def test_the_collected_gradient_is_the_one_that_flows_back() -> None:
    loss = EFL(stats_of(COUNTS))
    positive, negative = torch.zeros(5, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)
    for logits, labels, weights in batches(5):
        (gradient,) = torch.autograd.grad(loss(logits, labels, weights), logits)
        hits = labels[:, None] == torch.arange(5)
        positive += gradient.abs().where(hits, 0).sum(dim=0)
        negative += gradient.abs().where(~hits, 0).sum(dim=0)
        torch.testing.assert_close(loss.positive_gradient, positive, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(loss.negative_gradient, negative, rtol=1e-9, atol=1e-12)
        ratio = (positive / (negative + 1e-10)).clamp(0, 1)
        torch.testing.assert_close(loss.ratio, ratio, rtol=1e-9, atol=1e-12)


def test_the_ratio_is_clamped_to_1_where_positives_prevail() -> None:
    loss = EFL(stats_of(COUNTS))
    loss(torch.full((1, 5), -3.0), torch.tensor([0]))
    assert loss.ratio.tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]


def trained() -> EFL:
    loss = EFL(stats_of(COUNTS))
    for logits, labels, weights in batches(5):
        loss(logits, labels, weights)
    return loss


def test_the_state_goes_through_a_state_dict() -> None:
    loss, fresh = trained(), EFL(stats_of(COUNTS))
    fresh.load_state_dict(loss.state_dict())
    batch = batch_of("mixed", 5, 9)
    assert fresh(*batch).item() == loss(*batch).item()
    assert_same_state(state_of(fresh), state_of(loss))


def test_evaluation_uses_the_state_and_leaves_it() -> None:
    loss, other = trained(), trained()
    before = state_of(loss)
    batch = batch_of("mixed", 5, 9)
    assert loss.eval()(*batch).item() == other(*batch).item()
    assert_same_state(state_of(loss), before)


def test_rows_of_weight_0_leave_no_trace() -> None:
    loss, other = trained(), trained()
    logits, labels, weights = batch_of("mixed", 5, 9)
    chosen = weights > 0
    value = other(logits[chosen], labels[chosen], weights[chosen])
    assert loss(logits, labels, weights).item() == pytest.approx(value.item(), rel=1e-12)
    assert_same_state(state_of(loss), state_of(other))


def test_no_weights_count_every_row_as_1() -> None:
    loss, other = trained(), trained()
    logits, labels, weights = batch_of("mixed", 5, 9)
    expected = other(logits, labels, torch.ones_like(weights))
    assert loss(logits, labels).item() == pytest.approx(expected.item(), rel=1e-12)
    assert_same_state(state_of(loss), state_of(other))


@pytest.mark.parametrize("start", [trained, lambda: EFL(stats_of(COUNTS))])
def test_a_batch_of_ignored_rows_changes_nothing(start: Callable[[], EFL]) -> None:
    loss = start()
    before = state_of(loss)
    logits, labels, weights = batch_of("mixed", 5, 9)
    assert loss(logits, labels, torch.zeros_like(weights)).item() == 0
    assert_same_state(state_of(loss), before)
