"""Federated loss against its transcription, binary cross entropy, and the draw of its classes."""

import math
from collections import Counter

import pytest
import torch
from torch import Tensor

from detloss.losses import BinaryCrossEntropy, Federated
from detloss.stats import ClassStats
from tests.losses.conftest import COUNTS, stats_of
from tests.losses.sigmoid_batches import KINDS, assert_equal_with_gradients, batch_of, batches, recorded
from tests.reference import sigmoid_losses


def kept(loss: Federated, labels: list[int]) -> list[int]:
    return foreground(loss.sample_classes(torch.tensor(labels, dtype=torch.int64)), loss.coder.num_classes)


def foreground(classes: Tensor, num_classes: int) -> list[int]:
    """Background, when it is among the classes, has no column to keep."""
    return sorted(column for column in classes.tolist() if column < num_classes)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_classes", [1, 3, 4, 6])
def test_federated_and_its_gradient_equal_the_transcription(
    monkeypatch: pytest.MonkeyPatch, kind: str, num_classes: int
) -> None:
    loss = Federated(stats_of(COUNTS), num_classes=num_classes)
    draws = recorded(monkeypatch, loss, loss.sample_classes)
    for seed in range(3):
        logits, labels, weights = batch_of(kind, 5, seed)
        value = loss(logits, labels, weights)
        classes = foreground(draws[-1], 5)
        expected = sigmoid_losses.federated(logits, labels, weights, classes)
        assert_equal_with_gradients(value, expected, logits)
        present = set(labels[weights > 0].tolist())
        assert present - {5} <= set(classes)
        budget = max(num_classes, len(present)) - (5 in present)
        # Class 4 never occurs, so that it can only be there if the batch shows it.
        assert len(classes) == min(budget, len({0, 1, 2, 3} | present - {5}))


def test_federated_equals_the_transcription_on_the_classes_of_lvis(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = Federated(ClassStats.lvis_v1())
    draws = recorded(monkeypatch, loss, loss.sample_classes)
    for logits, labels, weights in batches(1203, num_classes=1203):
        value = loss(logits, labels, weights)
        classes = foreground(draws[-1], 1203)
        assert len(set(classes)) == len(classes) == 49  # background takes one of the 50 places
        expected = sigmoid_losses.federated(logits, labels, weights, classes)
        assert_equal_with_gradients(value, expected, logits)


def test_with_room_for_every_class_it_is_binary_cross_entropy() -> None:
    stats = stats_of([1000, 40, 7, 1, 3])
    logits, labels, weights = batch_of("mixed", 5, 0)
    expected = BinaryCrossEntropy(stats)(logits, labels, weights)
    assert_equal_with_gradients(Federated(stats, num_classes=6)(logits, labels, weights), expected, logits)


def test_classes_of_ignored_rows_are_not_present() -> None:
    loss = Federated(stats_of(COUNTS), num_classes=1)
    logits = torch.zeros(3, 5, dtype=torch.float64, requires_grad=True)
    value = loss(logits, torch.tensor([4, 1, 3]), torch.tensor([0.0, 1.0, 0.0]))
    (gradient,) = torch.autograd.grad(value, logits)
    assert gradient.tolist() == [[0.0] * 5, [0.0, -0.5, 0.0, 0.0, 0.0], [0.0] * 5]


def test_all_present_classes_stay_even_beyond_the_budget() -> None:
    loss = Federated(stats_of(COUNTS), num_classes=2)
    assert kept(loss, [0, 4, 2, 2, 3]) == [0, 2, 3, 4]
    assert kept(loss, [4, 2, 5]) == [2, 4]
    assert kept(loss, [2, 5, 5]) == [2]  # background has the second place


def test_neither_background_nor_a_class_that_never_occurs_is_drawn() -> None:
    loss = Federated(stats_of(COUNTS), num_classes=50)
    assert kept(loss, []) == [0, 1, 2, 3]
    assert kept(loss, [5]) == [0, 1, 2, 3]
    assert kept(loss, [4]) == [0, 1, 2, 3, 4]
    assert kept(Federated(stats_of([0, 0]), num_classes=2), [2]) == []


@pytest.mark.parametrize("power", [0.5, 1.0, 0.25])
def test_negatives_are_drawn_one_after_the_other_by_a_power_of_the_images_that_show_them(power: float) -> None:
    """Two of classes 1 to 3 join class 0 and background; the chain rule gives the chances of the pairs."""
    torch.manual_seed(0)
    stats = stats_of([1000, 40, 20, 10, 0])
    stats.instances[:] = 5  # not what counts
    loss = Federated(stats, num_classes=4, power=power)
    draws = 4000
    seen = Counter(tuple(kept(loss, [0, 0, 5])) for _ in range(draws))
    share = {column: stats.images[column] ** power for column in (1, 2, 3)}
    whole = sum(share.values())
    pairs = [(1, 2), (1, 3), (2, 3)]
    assert set(seen) == {(0, *pair) for pair in pairs}
    for a, b in pairs:
        chance = share[a] / whole * share[b] / (whole - share[a]) + share[b] / whole * share[a] / (
            whole - share[b]
        )
        assert seen[0, a, b] / draws == pytest.approx(chance, abs=4 * math.sqrt(chance * (1 - chance) / draws))


def test_the_draw_follows_torchs_seed() -> None:
    loss = Federated(ClassStats.lvis_v1())
    torch.manual_seed(3)
    first = kept(loss, [0, 1203])
    other = kept(loss, [0, 1203])
    torch.manual_seed(3)
    assert kept(loss, [0, 1203]) == first != other
