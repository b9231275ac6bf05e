"""Quality focal loss against its transcription and binary cross entropy with soft targets."""

import pytest
import torch
from torch.nn import functional as F

from detloss.losses import QualityFocal
from detloss.stats import ClassStats
from tests.losses.conftest import COUNTS, stats_of
from tests.losses.sigmoid_batches import KINDS, assert_equal_with_gradients, batch_of, batches, quality_of
from tests.reference import sigmoid_losses


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("beta", [2.0, 1.5, 1.0])
def test_quality_focal_and_its_gradient_equal_the_transcription(kind: str, beta: float) -> None:
    for seed in range(3):
        logits, labels, weights = batch_of(kind, 5, seed)
        quality = quality_of(len(labels), seed)
        expected = sigmoid_losses.quality_focal(logits, labels, weights, quality, beta)
        value = QualityFocal(stats_of(COUNTS), beta=beta)(logits, labels, weights, quality)
        assert_equal_with_gradients(value, expected, logits)


def test_quality_focal_equals_the_transcription_on_the_classes_of_lvis() -> None:
    # 240 rows make more than one chunk of entries.
    for logits, labels, weights in batches(1203, num_classes=1203, rows=240):
        quality = quality_of(240, 0)
        expected = sigmoid_losses.quality_focal(logits, labels, weights, quality)
        value = QualityFocal(ClassStats.lvis_v1())(logits, labels, weights, quality)
        assert_equal_with_gradients(value, expected, logits)


def test_no_quality_means_1() -> None:
    logits, labels, weights = batch_of("mixed", 5, 0)
    loss = QualityFocal(stats_of(COUNTS))
    expected = loss(logits, labels, weights, torch.ones(24, dtype=torch.float64))
    assert_equal_with_gradients(loss(logits, labels, weights), expected, logits)


def test_without_modulation_it_is_binary_cross_entropy_with_the_quality_as_target() -> None:
    logits, labels, weights = batch_of("mixed", 5, 0)
    quality = quality_of(24, 0)
    target = F.one_hot(labels, 6)[:, :5] * quality[:, None]
    expected = F.binary_cross_entropy_with_logits(logits, target, weights[:, None], reduction="sum")
    value = QualityFocal(stats_of(COUNTS), beta=0.0)(logits, labels, weights, quality)
    assert_equal_with_gradients(value, expected, logits)


def test_a_score_at_its_quality_costs_nothing_and_is_left_alone() -> None:
    logits = torch.tensor([[0.0]], dtype=torch.float64, requires_grad=True)
    value = QualityFocal(stats_of([3]))(logits, torch.tensor([0]), None, torch.tensor([0.5], dtype=torch.float64))
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.item() == 0
    assert gradient.item() == 0
