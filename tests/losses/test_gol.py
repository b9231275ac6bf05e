"""GOL against its transcription, its formula, and DropLoss's draw."""

import math

import pytest
import torch

from detloss.losses import GOL
from detloss.stats import ClassStats
from tests.losses.conftest import COUNTS, stats_of
from tests.losses.sigmoid_batches import KINDS, assert_equal_with_gradients, batch_of, batches, recorded
from tests.reference import sigmoid_losses


@pytest.mark.parametrize("kind", KINDS)
def test_gol_and_its_gradient_equal_the_transcription(kind: str) -> None:
    for seed in range(3):
        logits, labels, weights = batch_of(kind, 5, seed)
        nothing = torch.zeros(len(labels), 0, dtype=torch.bool)
        expected = sigmoid_losses.gol(logits, labels, weights, [], nothing)
        assert_equal_with_gradients(GOL(stats_of(COUNTS))(logits, labels, weights), expected, logits)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tail_fraction", [0.00177, 0.5])
def test_gol_with_a_tail_equals_the_transcription(
    monkeypatch: pytest.MonkeyPatch, kind: str, tail_fraction: float
) -> None:
    torch.manual_seed(0)
    loss = GOL(stats_of(COUNTS), tail_fraction=tail_fraction)
    tail = sigmoid_losses.tail_classes(COUNTS, 1000, tail_fraction)
    draws = recorded(monkeypatch, loss, loss.sample_dropped)
    for seed in range(3):
        logits, labels, weights = batch_of(kind, 5, seed)
        value = loss(logits, labels, weights)
        expected = sigmoid_losses.gol(logits, labels, weights, tail, draws[-1])
        assert_equal_with_gradients(value, expected, logits)


def test_gol_equals_the_transcription_on_the_classes_of_lvis(monkeypatch: pytest.MonkeyPatch) -> None:
    stats = ClassStats.lvis_v1()
    loss = GOL(stats, tail_fraction=0.0011)
    tail = sigmoid_losses.tail_classes(stats.images.tolist(), 99_388, 0.0011)
    draws = recorded(monkeypatch, loss, loss.sample_dropped)
    for logits, labels, weights in batches(1203, num_classes=1203):
        value = loss(logits, labels, weights)
        expected = sigmoid_losses.gol(logits, labels, weights, tail, draws[-1])
        assert_equal_with_gradients(value, expected, logits)


def test_without_a_tail_it_is_binary_cross_entropy_of_the_coders_scores() -> None:
    logits, labels, weights = batch_of("mixed", 5, 0)
    logits = logits.detach() / 2
    assert -4 < logits.min() < logits.max() < 10
    loss = GOL(stats_of(COUNTS))
    expected = 0.0
    for row, label, weight in zip(
        loss.coder.decode(logits).tolist(), labels.tolist(), weights.tolist(), strict=True
    ):
        for column, score in enumerate(row):
            expected -= weight * math.log(score if label == column else 1 - score)
    assert loss(logits, labels, weights).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("logit", "bound"), [(-7.0, -4.0), (13.0, 10.0)])
@pytest.mark.parametrize("label", [0, 1])
def test_logits_beyond_the_bounds_cost_as_much_as_those_on_them(logit: float, bound: float, label: int) -> None:
    score = math.exp(-math.exp(-bound))
    cost = -math.log(score) if label == 0 else -math.log1p(-score)
    value = GOL(stats_of([3]))(torch.tensor([[logit]], dtype=torch.float64), torch.tensor([label]))
    assert value.item() == pytest.approx(cost, rel=1e-9)
