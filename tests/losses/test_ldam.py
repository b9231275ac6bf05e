"""LDAM against its formula."""

import pytest
import torch

from detloss.losses import LDAM, CrossEntropy
from detloss.stats import ClassStats
from tests.losses.conftest import COUNTS, stats_of
from tests.losses.softmax_batches import BATCHES, assert_same, batch_of
from tests.reference import softmax_losses

CLASSES = len(COUNTS)


@pytest.mark.parametrize(("max_margin", "scale"), [(0.5, 30.0), (0.2, 1.0), (1.5, 4.0)])
@pytest.mark.parametrize("kind", BATCHES)
def test_value_and_gradient_equal_the_transcription(kind: str, max_margin: float, scale: float) -> None:
    logits, labels, weights = batch_of(kind, CLASSES + 1, CLASSES)
    value = LDAM(stats_of(COUNTS), max_margin=max_margin, scale=scale)(logits, labels, weights)
    assert_same(value, softmax_losses.ldam(logits, labels, weights, COUNTS, max_margin, scale), logits)


def test_the_defaults_are_half_a_margin_and_a_scale_of_thirty() -> None:
    logits, labels, weights = batch_of("seed 0", CLASSES + 1, CLASSES)
    value = LDAM(stats_of(COUNTS))(logits, labels, weights)
    assert_same(value, softmax_losses.ldam(logits, labels, weights, COUNTS, 0.5, 30.0), logits)


def test_lvis_v1_equals_the_transcription() -> None:
    stats = ClassStats.lvis_v1()
    logits, labels, weights = batch_of("seed 0", stats.num_classes + 1, stats.num_classes, rows=24)
    value = LDAM(stats)(logits, labels, weights)
    literal = softmax_losses.ldam(logits, labels, weights, stats.instances.tolist(), 0.5, 30.0)
    assert_same(value, literal, logits)


@pytest.mark.parametrize("kind", BATCHES)
def test_without_margin_and_scale_it_is_cross_entropy(kind: str) -> None:
    logits, labels, weights = batch_of(kind, CLASSES + 1, CLASSES)
    value = LDAM(stats_of(COUNTS), max_margin=0.0, scale=1.0)(logits, labels, weights)
    assert_same(value, CrossEntropy(stats_of(COUNTS))(logits, labels, weights), logits)


def test_margins_fall_with_the_fourth_root_of_the_count() -> None:
    """Logits that are raised at the label by its margin cost what equal logits cost without: log 4."""
    loss = LDAM(stats_of([16, 1, 81]), max_margin=0.6, scale=10.0)
    logits = torch.diag(torch.tensor([0.3, 0.6, 0.2, 0.0], dtype=torch.float64))
    value = loss(logits, torch.arange(4))
    assert value.item() == pytest.approx(4 * torch.tensor(4.0, dtype=torch.float64).log().item(), rel=1e-12)


def test_scores_are_the_softmax_of_the_scaled_logits_without_margin() -> None:
    logits, _, _ = batch_of("seed 0", CLASSES + 1, CLASSES)
    scores = LDAM(stats_of(COUNTS), scale=7.0).coder.decode(logits)
    for row, got in zip(logits.detach(), scores.tolist(), strict=True):
        assert got == pytest.approx(softmax_losses.softmax(7.0 * row)[:CLASSES], rel=1e-6)
