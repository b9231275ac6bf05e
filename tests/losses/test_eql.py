"""EQL against its transcription, its threshold, and binary cross entropy."""

import pytest
import torch

from detloss.losses import EQL, BinaryCrossEntropy
from detloss.stats import ClassStats
from tests.losses.conftest import COUNTS, stats_of
from tests.losses.sigmoid_batches import KINDS, assert_equal_with_gradients, batch_of, batches
from tests.reference import sigmoid_losses


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tail_fraction", [0.00177, 0.0071, 0.5, 2.0])
def test_eql_and_its_gradient_equal_the_transcription(kind: str, tail_fraction: float) -> None:
    for seed in range(3):
        logits, labels, weights = batch_of(kind, 5, seed)
        expected = sigmoid_losses.eql(logits, labels, weights, COUNTS, 1000, tail_fraction)
        value = EQL(stats_of(COUNTS), tail_fraction=tail_fraction)(logits, labels, weights)
        assert_equal_with_gradients(value, expected, logits)


def test_eql_equals_the_transcription_on_the_classes_of_lvis() -> None:
    stats = ClassStats.lvis_v1()
    for logits, labels, weights in batches(1203, num_classes=1203):
        # 99,388 of the 100,170 images have annotations.
        expected = sigmoid_losses.eql(logits, labels, weights, stats.images.tolist(), 99_388, 0.0011)
        assert_equal_with_gradients(EQL(stats, tail_fraction=0.0011)(logits, labels, weights), expected, logits)


def test_no_tail_is_binary_cross_entropy() -> None:
    logits, labels, weights = batch_of("mixed", 5, 0)
    stats = stats_of(COUNTS)
    expected = BinaryCrossEntropy(stats)(logits, labels, weights)
    assert_equal_with_gradients(EQL(stats, tail_fraction=0.0)(logits, labels, weights), expected, logits)


@pytest.mark.parametrize(("tail_fraction", "spared"), [(0.04, [2, 3, 4]), (0.0401, [1, 2, 3, 4]), (0.0009, [])])
def test_the_tail_lies_strictly_below_the_fraction_and_is_spared_by_objects_only(
    tail_fraction: float, spared: list[int]
) -> None:
    """Class 1 is in 40 of 1000 images; the classes in one and in none count as in one."""
    logits = torch.zeros(2, 5, dtype=torch.float64, requires_grad=True)
    loss = EQL(stats_of(COUNTS), tail_fraction=tail_fraction)
    (gradient,) = torch.autograd.grad(loss(logits, torch.tensor([0, 5])), logits)
    assert gradient[0].tolist() == [-0.5] + [0.0 if column in spared else 0.5 for column in range(1, 5)]
    assert gradient[1].tolist() == [0.5] * 5


def test_every_class_is_its_own_positive_even_in_the_tail() -> None:
    logits = torch.zeros(5, 5, dtype=torch.float64, requires_grad=True)
    loss = EQL(stats_of(COUNTS), tail_fraction=2.0)
    (gradient,) = torch.autograd.grad(loss(logits, torch.arange(5)), logits)
    torch.testing.assert_close(gradient, -0.5 * torch.eye(5, dtype=torch.float64))
