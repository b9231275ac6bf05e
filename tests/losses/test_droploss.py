"""DropLoss against its transcription, binary cross entropy, and the draw of what it drops."""

import math

import pytest
import torch

from detloss.losses import BinaryCrossEntropy, DropLoss
from detloss.stats import ClassStats
from tests.losses.conftest import COUNTS, stats_of
from tests.losses.sigmoid_batches import KINDS, assert_equal_with_gradients, batch_of, batches, recorded
from tests.reference import sigmoid_losses


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tail_fraction", [0.00177, 0.0071, 0.5])
def test_droploss_and_its_gradient_equal_the_transcription(
    monkeypatch: pytest.MonkeyPatch, kind: str, tail_fraction: float
) -> None:
    torch.manual_seed(0)
    loss = DropLoss(stats_of(COUNTS), tail_fraction=tail_fraction)
    tail = sigmoid_losses.tail_classes(COUNTS, 1000, tail_fraction)
    draws = recorded(monkeypatch, loss, loss.sample_dropped)
    for seed in range(3):
        logits, labels, weights = batch_of(kind, 5, seed)
        value = loss(logits, labels, weights)
        expected = sigmoid_losses.droploss(logits, labels, weights, tail, draws[-1])
        assert_equal_with_gradients(value, expected, logits)


def test_droploss_equals_the_transcription_on_the_classes_of_lvis(monkeypatch: pytest.MonkeyPatch) -> None:
    stats = ClassStats.lvis_v1()
    loss = DropLoss(stats, tail_fraction=0.0011)
    tail = sigmoid_losses.tail_classes(stats.images.tolist(), 99_388, 0.0011)
    draws = recorded(monkeypatch, loss, loss.sample_dropped)
    for logits, labels, weights in batches(1203, num_classes=1203):
        value = loss(logits, labels, weights)
        expected = sigmoid_losses.droploss(logits, labels, weights, tail, draws[-1])
        assert_equal_with_gradients(value, expected, logits)


def test_no_tail_is_binary_cross_entropy() -> None:
    stats = stats_of(COUNTS)
    logits, labels, weights = batch_of("mixed", 5, 0)
    expected = BinaryCrossEntropy(stats)(logits, labels, weights)
    assert_equal_with_gradients(DropLoss(stats, tail_fraction=0.0)(logits, labels, weights), expected, logits)


@pytest.mark.parametrize(
    ("foreground", "chance"),
    [([3, 0, 1, 0], 0.75), ([3, 4, 0], 1 / 3), ([0, 1], 1.0), ([3, 4, 4], 0.0), ([], 0.0)],
)
def test_background_drops_a_tail_class_with_the_chance_that_an_object_is_not_of_the_tail(
    foreground: list[int], chance: float
) -> None:
    torch.manual_seed(0)
    rows = 3000
    loss = DropLoss(stats_of(COUNTS))  # the tail is classes 3 and 4
    dropped = loss.sample_dropped(torch.tensor([*foreground, *[5] * rows]))[len(foreground) :].double()
    assert dropped.shape == (rows, 2)
    tolerance = 4 * math.sqrt(chance * (1 - chance) / rows)
    assert dropped.mean(dim=0).tolist() == pytest.approx([chance] * 2, abs=tolerance)
    both = chance**2  # every entry has a draw of its own
    assert dropped.prod(dim=1).mean().item() == pytest.approx(both, abs=4 * math.sqrt(both * (1 - both) / rows))


def test_ignored_objects_have_no_say_in_the_chance() -> None:
    """The only object that counts is of a tail class, so that no background row drops anything."""
    logits = torch.zeros(40, 5, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([3, *[0] * 19, *[5] * 20])
    weights = torch.tensor([1.0, *[0.0] * 19, *[1.0] * 20])
    (gradient,) = torch.autograd.grad(DropLoss(stats_of(COUNTS))(logits, labels, weights), logits)
    assert gradient[0].tolist() == [0.5, 0.5, 0.5, -0.5, 0.0]
    assert gradient[1:20].abs().max() == 0
    assert (gradient[20:] == 0.5).all()


def test_the_draw_follows_torchs_seed() -> None:
    loss = DropLoss(stats_of(COUNTS))
    labels = torch.tensor([3, 0, *[5] * 50])
    torch.manual_seed(3)
    first, other = loss.sample_dropped(labels), loss.sample_dropped(labels)
    torch.manual_seed(3)
    assert torch.equal(loss.sample_dropped(labels), first)
    assert not torch.equal(first, other)
