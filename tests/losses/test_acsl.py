"""ACSL against its transcription, binary cross entropy, and the draw of its background rows."""

import math

import pytest
import torch
from torch.nn import functional as F

from detloss.losses import ACSL
from detloss.stats import ClassStats
from tests.losses.conftest import COUNTS, stats_of
from tests.losses.sigmoid_batches import KINDS, assert_equal_with_gradients, batch_of, recorded
from tests.reference import sigmoid_losses

GROUPS = ["f", "c", "r", "r", "r"]
"""By the images that show a class: 1000, 40, and 7 or fewer."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("threshold", [0.7, 0.5])
def test_acsl_and_its_gradient_equal_the_transcription(
    monkeypatch: pytest.MonkeyPatch, kind: str, threshold: float
) -> None:
    """The ties are logits of exactly 0, whose score of exactly 0.5 is high enough for 0.5."""
    torch.manual_seed(0)
    loss = ACSL(stats_of(COUNTS), score_threshold=threshold, rare_share=0.1, common_share=0.4)
    draws = recorded(monkeypatch, loss, loss.sample_background)
    for seed in range(3):
        logits, labels, weights = batch_of(kind, 6, seed, rows=60)
        value = loss(logits, labels, weights)
        rare, common = (rows.tolist() for rows in draws[-1])
        expected = sigmoid_losses.acsl(logits, labels, weights, GROUPS, rare, common, threshold)
        assert_equal_with_gradients(value, expected, logits)
        background = set(torch.nonzero((labels == 5) & (weights > 0)).flatten().tolist())
        assert set(rare) | set(common) <= background
        assert (len(rare), len(common)) == (int(0.1 * len(background)), int(0.4 * len(background)))


@pytest.mark.parametrize("rows", [24, 400])
def test_acsl_equals_the_transcription_on_the_classes_of_lvis(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """24 rows are too few for any background to push rare classes down, 400 are enough."""
    torch.manual_seed(0)
    stats = ClassStats.lvis_v1()
    groups = ["r" if images <= 10 else "c" if images <= 100 else "f" for images in stats.images.tolist()]
    loss = ACSL(stats)
    draws = recorded(monkeypatch, loss, loss.sample_background)
    logits, labels, weights = batch_of("mixed", 1204, 0, num_classes=1203, rows=rows)
    value = loss(logits, labels, weights)
    rare, common = (rows.tolist() for rows in draws[-1])
    assert bool(rare) == (rows == 400)
    expected = sigmoid_losses.acsl(logits, labels, weights, groups, rare, common)
    assert_equal_with_gradients(value, expected, logits)


def test_with_every_entry_kept_it_is_binary_cross_entropy_with_a_background_column() -> None:
    logits, labels, weights = batch_of("mixed", 6, 0)
    loss = ACSL(stats_of(COUNTS), score_threshold=1e-9, rare_share=1.0, common_share=1.0)
    target = F.one_hot(labels, 6).double()
    expected = F.binary_cross_entropy_with_logits(logits, target, weights[:, None], reduction="sum")
    assert_equal_with_gradients(loss(logits, labels, weights), expected, logits)


def test_groups_and_shares_of_background_can_be_chosen() -> None:
    """With groups (0, 1) classes 0 to 2 are frequent; the row is not drawn for the others."""
    logits = torch.zeros(1, 6, dtype=torch.float64, requires_grad=True)
    loss = ACSL(stats_of(COUNTS), groups=(0, 1))
    (gradient,) = torch.autograd.grad(loss(logits, torch.tensor([5])), logits)
    assert gradient[0].tolist() == [0.5, 0.5, 0.5, 0.0, 0.0, -0.5]


def test_an_object_pushes_down_what_scores_high_background_among_it() -> None:
    logits = torch.tensor([[0.0, 2.0, 0.0, 3.0, 0.0, 2.0]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(ACSL(stats_of(COUNTS))(logits, torch.tensor([0])), logits)
    scores = logits.detach().sigmoid()[0].tolist()
    assert gradient[0].tolist() == pytest.approx([-0.5, scores[1], 0.0, scores[3], 0.0, scores[5]], rel=1e-12)


@pytest.mark.parametrize(
    ("count", "rare", "common"), [(0, 0, 0), (9, 0, 0), (10, 0, 1), (100, 1, 10), (512, 5, 51)]
)
def test_a_hundredth_and_a_tenth_of_the_background_rows_are_drawn(count: int, rare: int, common: int) -> None:
    rows = 7 * torch.arange(count) + 3
    draw = ACSL(stats_of(COUNTS)).sample_background(rows)
    assert [len(part) for part in draw] == [rare, common]
    for part in draw:
        assert len(set(part.tolist())) == len(part)
        assert set(part.tolist()) <= set(rows.tolist())


def test_every_background_row_is_as_likely_and_the_two_draws_are_independent() -> None:
    torch.manual_seed(0)
    loss = ACSL(stats_of(COUNTS), rare_share=0.2, common_share=0.4)
    draws, count = 3000, 5
    rare, common = torch.zeros(draws, count), torch.zeros(draws, count)
    for index in range(draws):
        rare_rows, common_rows = loss.sample_background(torch.arange(count))
        rare[index, rare_rows], common[index, common_rows] = 1, 1
    for seen, chance in ((rare, 0.2), (common, 0.4), (rare * common, 0.2 * 0.4)):
        tolerance = 4 * math.sqrt(chance * (1 - chance) / draws)
        assert seen.mean(dim=0).tolist() == pytest.approx([chance] * count, abs=tolerance)
