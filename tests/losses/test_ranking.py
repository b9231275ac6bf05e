"""AP, aLRP, Rank & Sort and NDCG against loops over the positives, and at their edges."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detloss.losses import quality_order
from detloss.losses.ranking import alrp, average_precision, ndcg, rank_sort
from tests.losses.ranking_batches import (
    PAIRS,
    Loss,
    assert_equal,
    batch_of,
    errors_of,
    every_loss,
    find_alrp,
    find_ap,
    find_rank_sort,
    labels_of,
)


@every_loss
@settings(deadline=None)
@given(
    positives=st.integers(0, 9),
    negatives=st.integers(0, 16),
    ignored=st.integers(0, 3),
    delta=st.sampled_from([0.0, 0.1, 0.5, 1.0, 4.0]),
    seed=st.integers(0, 2**20),
    ties=st.sampled_from(["none", "scores", "qualities", "both"]),
)
def test_values_and_gradients_equal_the_loop(
    find: Loss, loop: Loss, positives: int, negatives: int, ignored: int, delta: float, seed: int, ties: str
) -> None:
    logits, targets = batch_of(positives, negatives, seed, ignored=ignored)
    if ties in ("scores", "both"):
        logits = (logits * 4).round() / 4
    if ties in ("qualities", "both"):
        targets = (targets * 3).ceil() / 3
    assert_equal(find(logits, targets, delta), loop(logits, targets, delta))


@every_loss
@settings(deadline=None)
@given(
    scale=st.sampled_from([1e2, 1e4]),
    delta=st.sampled_from([0.5, 1.0]),
    seed=st.integers(0, 2**20),
    shift=st.sampled_from([-1e4, 0.0, 1e4]),
)
def test_extreme_logits_equal_the_loop(
    find: Loss, loop: Loss, scale: float, delta: float, seed: int, shift: float
) -> None:
    logits, targets = batch_of(7, 16, seed)
    logits = torch.where(torch.arange(23) % 2 == 0, logits * scale, logits + shift)
    assert_equal(find(logits, targets, delta), loop(logits, targets, delta))


@every_loss
@pytest.mark.parametrize("delta", [0.0, 0.5, 1.0])
def test_three_hundred_positives_among_fifty_thousand_negatives_equal_the_loop(
    find: Loss, loop: Loss, delta: float
) -> None:
    logits, targets = batch_of(300, 50_000, 0)
    assert_equal(find(logits, targets, delta), loop(logits, targets, delta))


@pytest.mark.parametrize(("find", "loop"), [PAIRS["rank_sort"], PAIRS["ndcg"]], ids=["rank_sort", "ndcg"])
@pytest.mark.parametrize("delta", [0.0, 0.5])
def test_qualities_compared_bit_by_bit_equal_the_loop(
    monkeypatch: pytest.MonkeyPatch, find: Loss, loop: Loss, delta: float
) -> None:
    monkeypatch.setattr(quality_order, "LARGEST_MATRIX", 0)
    logits, targets = batch_of(200, 400, 0)
    targets[::2] = (targets[::2] * 8).ceil() / 8
    assert_equal(find(logits, targets, delta), loop(logits, targets, delta))


@every_loss
@pytest.mark.parametrize("seed", range(3))
def test_single_precision_logits_give_what_their_exact_values_give(find: Loss, loop: Loss, seed: int) -> None:
    logits, targets = batch_of(20, 300, seed)
    logits, targets = logits.float(), targets.float()
    found, expected = find(logits, targets, 0.5), loop(logits.double(), targets, 0.5)
    assert found[0].dtype == found[1].dtype == torch.float32
    for one, other in zip(found, expected, strict=True):
        # Only rounded once, at the end.
        torch.testing.assert_close(one.double(), other, rtol=1e-6, atol=1e-9)


@every_loss
def test_half_precision_logits_give_what_their_exact_values_give(find: Loss, loop: Loss) -> None:
    logits, targets = batch_of(20, 300, 0)
    logits = logits.bfloat16()
    found, expected = find(logits, targets, 0.5), loop(logits.double(), targets, 0.5)
    assert found[1].dtype == torch.bfloat16
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=2**-8, atol=1e-9)


@every_loss
def test_autocast_changes_nothing(find: Loss, loop: Loss) -> None:
    logits, targets = batch_of(20, 300, 0)
    logits, targets = logits.float(), targets.float()
    expected = find(logits, targets, 0.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = find(logits, targets, 0.5)
    assert_equal(found, expected, 0)


@every_loss
@pytest.mark.parametrize("negatives", [0, 5])
def test_without_positives_the_loss_is_0_and_has_a_gradient_of_0(find: Loss, loop: Loss, negatives: int) -> None:
    logits, targets = batch_of(0, negatives, 0, ignored=2)
    for found in find(logits, targets, 0.5):
        assert found.tolist() == torch.zeros_like(found).tolist()


@pytest.mark.parametrize("delta", [0.0, 0.5])
def test_without_negatives_only_sorting_and_localisation_are_left(delta: float) -> None:
    logits, targets = batch_of(6, 0, 1)
    for value, gradient in (find_ap(logits, targets, delta), find_alrp(logits, targets, delta)[:2]):
        assert value.item() == pytest.approx(0, abs=1e-12)
        assert gradient.tolist() == [0] * 6
    localisation, slopes = find_alrp(logits, targets, delta)[2:]
    assert localisation > 0 and (slopes > 0).all()
    ranking, ranking_gradient, sorting, sorting_gradient = find_rank_sort(logits, targets, delta)
    assert ranking == 0 and ranking_gradient.tolist() == [0] * 6
    assert sorting > 0 and sorting_gradient.abs().sum() > 0


@every_loss
def test_ignored_rows_neither_count_nor_get_a_gradient(find: Loss, loop: Loss) -> None:
    logits, targets = batch_of(5, 20, 3, ignored=6)
    kept = targets >= 0
    found, without = find(logits, targets, 0.5), find(logits[kept], targets[kept], 0.5)
    for one, other in zip(found, without, strict=True):
        if one.shape == logits.shape:
            assert one[~kept].tolist() == [0] * 6
            one = one[kept]
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@every_loss
@pytest.mark.parametrize("delta", [0.0, 0.5])
def test_the_order_of_the_rows_does_not_matter(find: Loss, loop: Loss, delta: float) -> None:
    logits, targets = batch_of(12, 60, 4, ignored=3)
    order = torch.randperm(len(logits), generator=torch.Generator().manual_seed(1))
    positives = order[targets[order] > 0]
    place = (targets > 0).cumsum(0)[positives] - 1  # of every shuffled positive among the positives as they were
    found, shuffled = find(logits, targets, delta), find(logits[order], targets[order], delta)
    for one, other in zip(found, shuffled, strict=True):
        expected = one if not one.ndim else one[order] if one.shape == logits.shape else one[place]
        torch.testing.assert_close(other, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["ap", "alrp", "rank_sort", "ndcg"])
def test_a_second_backward_gives_the_same(name: str) -> None:
    logits, targets = batch_of(5, 20, 5)
    logits, errors = logits.requires_grad_(), errors_of(targets).requires_grad_()
    total = {
        "ap": lambda: average_precision(logits, labels_of(targets)),
        "alrp": lambda: torch.stack(alrp(logits, labels_of(targets), errors)).sum(),
        "rank_sort": lambda: torch.stack(rank_sort(logits, targets)).sum(),
        "ndcg": lambda: ndcg(logits, targets),
    }[name]()
    total.backward(retain_graph=True)
    assert logits.grad is not None
    first = logits.grad.clone()
    logits.grad = None
    (3 * total).backward()
    torch.testing.assert_close(logits.grad, 3 * first, rtol=1e-12, atol=0)
