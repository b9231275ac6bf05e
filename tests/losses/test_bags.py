"""Balanced group softmax against a literal transcription with the draw given, and the draw itself."""

import pytest
import torch
from torch import Tensor

from detloss.losses import BAGS
from detloss.stats import ClassStats
from tests.losses.conftest import stats_of
from tests.losses.softmax_batches import BATCHES, assert_same, batch_of
from tests.reference import softmax_losses

COUNTS = [5000, 7, 40, 1000, 0, 99, 10, 100]
BINS = [[1, 4], [2, 5, 6], [7], [0, 3]]
"""Their bins at the default edges 10, 100, 1000, by hand: a count at an edge belongs above it."""

CLASSES, COLUMNS = len(COUNTS), len(COUNTS) + 4 + 2


def draw(labels: Tensor, classes_of_bin: list[list[int]]) -> Tensor:
    """A draw that depends on labels alone: a bin takes its rows and, if it has any, those of every other label."""
    drawn = torch.zeros(len(classes_of_bin), len(labels), dtype=torch.bool)
    for number, classes in enumerate(classes_of_bin):
        own = [label in classes for label in labels.tolist()]
        for row, label in enumerate(labels.tolist()):
            drawn[number, row] = any(own) and (own[row] or (label + number) % 2 == 0)
    return drawn


def fixed(monkeypatch: pytest.MonkeyPatch, loss: BAGS, classes_of_bin: list[list[int]]) -> BAGS:
    monkeypatch.setattr(loss, "sample_others", lambda labels: draw(labels, classes_of_bin))
    return loss


def literal(logits: Tensor, labels: Tensor, weights: Tensor, classes_of_bin: list[list[int]]) -> Tensor:
    kept = weights > 0
    rows = logits[kept], labels[kept], weights[kept]
    return softmax_losses.bags(*rows, classes_of_bin, draw(labels[kept], classes_of_bin).tolist())


@pytest.mark.parametrize(
    ("edges", "bins"), [((10, 100, 1000), BINS), ((50,), [[1, 2, 4, 6], [0, 3, 5, 7]]), ((), [list(range(8))])]
)
@pytest.mark.parametrize("kind", BATCHES)
def test_value_and_gradient_equal_the_transcription(
    monkeypatch: pytest.MonkeyPatch, kind: str, edges: tuple[int, ...], bins: list[list[int]]
) -> None:
    assert softmax_losses.bags_bins(COUNTS, edges) == bins
    loss = fixed(monkeypatch, BAGS(stats_of(COUNTS), bins=edges), bins)
    logits, labels, weights = batch_of(kind, CLASSES + len(bins) + 2, CLASSES, rows=24)
    assert_same(loss(logits, labels, weights), literal(logits, labels, weights, bins), logits)


def test_a_bin_without_classes_keeps_a_column_and_adds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    bins = softmax_losses.bags_bins([5000, 7, 40], (10, 100, 1000))
    assert bins == [[1], [2], [], [0]]
    loss = fixed(monkeypatch, BAGS(stats_of([5000, 7, 40])), bins)
    logits, labels, weights = batch_of("seed 0", loss.coder.num_logits, 3)
    value = loss(logits, labels, weights)
    assert_same(value, literal(logits, labels, weights, bins), logits)
    (gradient,) = torch.autograd.grad(loss(logits, labels, weights), logits)
    assert gradient[:, 4].abs().max() == 0  # behind two bins of two columns


def test_lvis_v1_equals_the_transcription(monkeypatch: pytest.MonkeyPatch) -> None:
    stats = ClassStats.lvis_v1()
    bins = softmax_losses.bags_bins(stats.instances.tolist(), (10, 100, 1000))
    loss = fixed(monkeypatch, BAGS(stats), bins)
    for kind in BATCHES[:3]:
        logits, labels, weights = batch_of(kind, stats.num_classes + 6, stats.num_classes, rows=24)
        labels[:8] = stats.num_classes
        assert_same(loss(logits, labels, weights), literal(logits, labels, weights, bins), logits)


def test_without_weights_every_row_weighs_one(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = fixed(monkeypatch, BAGS(stats_of(COUNTS)), BINS)
    logits, labels, weights = batch_of("seed 0", COLUMNS, CLASSES)
    assert_same(loss(logits, labels), literal(logits, labels, torch.ones_like(weights), BINS), logits)


def test_a_bin_whose_rows_are_all_ignored_counts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uniform logits: only bin 0 (two classes) and fore-/background have rows."""
    loss = fixed(monkeypatch, BAGS(stats_of(COUNTS)), BINS)
    labels = torch.tensor([1, 2, 0, CLASSES])
    value = loss(torch.zeros(4, COLUMNS, dtype=torch.float64), labels, torch.tensor([0.5, 0.0, 0.0, 0.5]))
    assert value.item() == pytest.approx(torch.tensor(6.0).log().item(), rel=1e-6)  # log 3 + log 2


def test_all_rows_take_part_where_others_are_few() -> None:
    loss = BAGS(stats_of(COUNTS))
    logits, labels, weights = batch_of("seed 0", COLUMNS, CLASSES)
    labels[0::4], labels[2::4] = 7, 1  # bins 2 and 0 have 3 of 9 kept rows each, whose others are 6 < 24
    labels[3::4] = CLASSES
    drawn = torch.tensor([[True], [False], [True], [False]]).expand(4, 9).tolist()
    kept = weights > 0
    expected = softmax_losses.bags(logits[kept], labels[kept], weights[kept], BINS, drawn)
    assert_same(loss(logits, labels, weights), expected, logits)


@pytest.mark.parametrize("ratio", [8.0, 2.5, 0.0])
def test_others_are_drawn_in_proportion_to_the_rows_of_the_bin(ratio: float) -> None:
    labels = torch.tensor([1, 4, 1, 2, 7] + [CLASSES] * 60)
    labels = labels[torch.randperm(65, generator=torch.Generator().manual_seed(0))]
    drawn = BAGS(stats_of(COUNTS), others_ratio=ratio).sample_others(labels).bool()
    assert drawn.shape == (4, 65)
    for number, rows in enumerate([3, 1, 1, 0]):
        own = torch.isin(labels, torch.tensor(BINS[number]))
        assert own.sum() == rows
        assert drawn[number, own].all()
        assert drawn[number, ~own].sum() == int(ratio * rows)


@pytest.mark.parametrize(("others", "taken"), [(0, 0), (7, 7), (8, 8), (9, 8)])
def test_all_others_are_taken_while_they_are_not_more_than_eight_times_the_rows(others: int, taken: int) -> None:
    labels = torch.tensor([2] + [CLASSES] * others)
    assert BAGS(stats_of(COUNTS)).sample_others(labels).sum(dim=1).tolist() == [0, 1 + taken, 0, 0]


@pytest.mark.parametrize("labels", [[], [CLASSES] * 5])
def test_nothing_is_drawn_without_foreground(labels: list[int]) -> None:
    drawn = BAGS(stats_of(COUNTS)).sample_others(torch.tensor(labels, dtype=torch.int64))
    assert drawn.shape == (4, len(labels))
    assert drawn.sum() == 0


def test_every_other_row_is_equally_likely_bins_draw_apart_and_torchs_seed_decides() -> None:
    """6,000 draws of 8 among 20 others: 2,400 each, give or take five standard deviations of 38."""
    labels = torch.tensor([1, 2] + [CLASSES] * 19)  # each bin's row is among the other's 20 others
    loss = BAGS(stats_of(COUNTS))
    torch.manual_seed(0)
    draws = torch.stack([loss.sample_others(labels).bool() for _ in range(6000)])
    torch.manual_seed(0)
    assert torch.equal(loss.sample_others(labels).bool(), draws[0])
    counts = draws.sum(dim=0)
    for number, own in enumerate([0, 1]):
        assert counts[number, own] == 6000
        others = [count for row, count in enumerate(counts[number].tolist()) if row != own]
        assert sum(others) == 8 * 6000
        assert all(abs(count - 2400) < 190 for count in others)
    assert (draws[:, 0, 2:] != draws[:, 1, 2:]).any(dim=1).float().mean() > 0.9


def test_the_draw_is_new_in_every_forward() -> None:
    loss = BAGS(stats_of(COUNTS))
    logits, labels, _ = batch_of("seed 0", COLUMNS, CLASSES, rows=60)
    labels[:], labels[0] = CLASSES, 1
    torch.manual_seed(0)
    assert len({loss(logits, labels).item() for _ in range(5)}) == 5


def test_the_columns_are_bin_by_bin_others_first_and_objectness_last() -> None:
    coder = BAGS(stats_of(COUNTS)).coder
    assert coder.num_logits == COLUMNS
    # [others 1 4] [others 2 5 6] [others 7] [others 0 3] [foreground background]
    assert coder.class_columns.tolist() == [10, 1, 4, 11, 2, 5, 6, 8]
