"""Varifocal loss against its transcription and its special cases."""

import pytest
import torch

from detloss.losses import BinaryCrossEntropy, Varifocal
from detloss.stats import ClassStats
from tests.losses.conftest import COUNTS, stats_of
from tests.losses.sigmoid_batches import KINDS, assert_equal_with_gradients, batch_of, batches, quality_of
from tests.reference import sigmoid_losses


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, 0.75), (1.5, 0.3)])
def test_varifocal_and_its_gradient_equal_the_transcription(kind: str, gamma: float, alpha: float) -> None:
    for seed in range(3):
        logits, labels, weights = batch_of(kind, 5, seed)
        quality = quality_of(len(labels), seed)
        expected = sigmoid_losses.varifocal(logits, labels, weights, quality, gamma, alpha)
        value = Varifocal(stats_of(COUNTS), gamma=gamma, alpha=alpha)(logits, labels, weights, quality)
        assert_equal_with_gradients(value, expected, logits)


def test_varifocal_equals_the_transcription_on_the_classes_of_lvis() -> None:
    # 240 rows make more than one chunk of entries.
    for logits, labels, weights in batches(1203, num_classes=1203, rows=240):
        quality = quality_of(240, 0)
        expected = sigmoid_losses.varifocal(logits, labels, weights, quality)
        value = Varifocal(ClassStats.lvis_v1())(logits, labels, weights, quality)
        assert_equal_with_gradients(value, expected, logits)


def test_no_quality_means_1() -> None:
    logits, labels, weights = batch_of("mixed", 5, 0)
    loss = Varifocal(stats_of(COUNTS))
    expected = loss(logits, labels, weights, torch.ones(24, dtype=torch.float64))
    assert_equal_with_gradients(loss(logits, labels, weights), expected, logits)


def test_without_modulation_it_is_binary_cross_entropy() -> None:
    logits, labels, weights = batch_of("mixed", 5, 0)
    stats = stats_of(COUNTS)
    value = Varifocal(stats, gamma=0.0, alpha=1.0)(logits, labels, weights)
    assert_equal_with_gradients(value, BinaryCrossEntropy(stats)(logits, labels, weights), logits)


def test_a_positive_without_quality_is_a_negative() -> None:
    logits, labels, _ = batch_of("foreground", 5, 0)
    loss = Varifocal(stats_of(COUNTS))
    value = loss(logits, labels, None, torch.zeros(24, dtype=torch.float64))
    assert_equal_with_gradients(value, loss(logits, torch.full_like(labels, 5)), logits)
