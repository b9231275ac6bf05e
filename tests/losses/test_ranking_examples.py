"""Worked examples of the papers on ranking losses, and what their theorems promise."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from detloss.losses import BinaryCrossEntropy
from detloss.losses.ranking import alrp, average_precision, rank_sort
from tests.losses.conftest import stats_of
from tests.losses.ranking_batches import (
    Loss,
    batch_of,
    errors_of,
    find_alrp,
    find_ap,
    find_ndcg,
    find_rank_sort,
)
from tests.reference import ranking_losses


def alrp_figure_1() -> tuple[Tensor, Tensor, Tensor]:
    """Scores, labels and, per output, the IoUs of the four positives of aLRP's Fig. 1 (a)."""
    scores = torch.arange(10, 0, -1, dtype=torch.float64) / 10
    labels = torch.tensor([1, 0, 1, 0, 0, 1, 0, 0, 0, 1])
    ious = [[0.95, 0.80, 0.65, 0.50], [0.80, 0.65, 0.50, 0.95], [0.50, 0.65, 0.80, 0.95]]
    return scores, labels, torch.tensor(ious, dtype=torch.float64)


def test_the_example_of_alrp_has_the_printed_values() -> None:
    """Fig. 1 and Table A.10 (NeurIPS 2020): 0.53, 0.69, 0.89, by the hard step.

    In row a10 of C&R2 the table prints 0.20, 0.40 and 2.50 for 0.05, 0.10 and 2.20; its LRP of 0.82 is right.
    """
    scores, labels, ious = alrp_figure_1()
    # LRP per positive, from columns N_FP, cumsum(E_loc) and rank of the table, that row corrected.
    ranks, false = torch.tensor([1, 3, 6, 10]).double(), torch.tensor([0, 1, 3, 6]).double()
    sums = [[0.1, 0.5, 1.2, 2.2], [0.4, 1.1, 2.1, 2.2], [1.0, 1.7, 2.1, 2.2]]
    for iou, above, printed in zip(ious, sums, [0.53, 0.69, 0.89], strict=True):
        classification, localisation = alrp(scores, labels, (1 - iou) / (1 - 0.5), delta=0)
        assert classification.item() == pytest.approx(float((false / ranks).mean()), abs=1e-12)
        assert localisation.item() == pytest.approx(float((torch.tensor(above) / ranks).mean()), abs=1e-7)
        assert (classification + localisation).item() == pytest.approx(printed, abs=0.005)


def test_the_gradient_of_that_example_is_each_error_less_the_positives_own_share() -> None:
    scores, labels, ious = alrp_figure_1()
    logits = scores.requires_grad_()
    classification, _ = alrp(logits, labels, 2 * (1 - ious[0]), delta=0)
    # By hand: a3 has 1 false positive and 0.1 above it at rank 3, a6 has 3 and 0.5 at 6, a10 has 6 and 1.2 at 10.
    a3, a6, a10 = 1.1 / 3, 3.5 / 6, 7.2 / 10
    first, second, third = a3 / 1 + a6 / 3 + a10 / 6, a6 / 3 + a10 / 6, a10 / 6
    expected = [0, first, -a3, second, second, -a6, third, third, third, -a10]
    (gradient,) = torch.autograd.grad(classification, logits)
    assert gradient.tolist() == pytest.approx([value / 4 for value in expected], abs=1e-12)


def test_ap_and_cross_entropy_of_that_example_have_the_printed_values() -> None:
    """Fig. 1 (c): AP loss 0.36, cross entropy 0.87; both look at the scores alone."""
    scores, labels, _ = alrp_figure_1()
    value = average_precision(scores, labels, delta=0).item()
    assert value == pytest.approx(1 - (1 + 2 / 3 + 3 / 6 + 4 / 10) / 4, abs=1e-12)
    assert value == pytest.approx(0.36, abs=0.005)
    logits = torch.logit(scores.clamp(max=1 - 1e-12))
    cross_entropy = BinaryCrossEntropy(stats_of([1]))(logits[:, None], 1 - labels)
    assert cross_entropy.item() / 10 == pytest.approx(0.87, abs=0.005)


def test_ap_is_interpolated_from_the_lowest_positive_up() -> None:
    # Precisions from the top are 1/2, 2/3 and 3/4; the best at as low a score or lower is 3/4 for all.
    logits = torch.tensor([5.0, 4, 3, 2], dtype=torch.float64)
    assert average_precision(logits, torch.tensor([0, 1, 1, 1]), delta=0).item() == pytest.approx(1 / 4)


def rank_sort_figure_s1() -> tuple[Tensor, Tensor]:
    targets = [0.9, 0.4, 0, 0, 0.8, 0, 0.1, 0]
    return torch.arange(3, -5, -1, dtype=torch.float64), torch.tensor(targets, dtype=torch.float64)


def test_the_example_of_rank_and_sort_has_the_printed_values() -> None:
    """Fig. S1 (ICCV 2021): ranking 0.40 and 0.42, sorting 0.15, in all 0.24, by the hard step.

    For i = 6 it prints a sorting error of 0.38; (0.1 + 0.6 + 0.2 + 0.9) / 4 is 0.45, and so is the target, so that
    nothing changes. Its 0.42 is 3/7.
    """
    ranking, sorting = rank_sort(*rank_sort_figure_s1(), delta=0)
    assert ranking.item() == pytest.approx((2 / 5 + 3 / 7) / 4, abs=1e-12)
    assert sorting.item() == pytest.approx(0.15 / 4, abs=1e-12)
    assert (ranking + sorting).item() == pytest.approx(0.24, abs=0.005)


def test_the_gradient_of_that_example_blames_the_badly_sorted_positive_and_the_negatives_above() -> None:
    logits, targets = rank_sort_figure_s1()
    logits.requires_grad_()
    ranking, sorting = rank_sort(logits, targets, delta=0)
    (gradient,) = torch.autograd.grad(ranking + sorting, logits)
    both = 0.4 / 2 + 3 / 7 / 3
    expected = [0, 0.15, both, both, -0.4 - 0.15, 3 / 7 / 3, -3 / 7, 0]
    assert gradient.tolist() == pytest.approx([value / 4 for value in expected], abs=1e-12)


def test_positives_of_equal_quality_count_as_sorted() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64)
    for delta in (0.0, 0.5, 3.0):
        targets = torch.full((3,), 0.7, dtype=torch.float64)
        _, _, sorting, gradient = find_rank_sort(logits, targets, delta)
        assert sorting.item() == pytest.approx(0, abs=1e-12) and gradient.tolist() == [0, 0, 0]
        value, gradient = find_ndcg(logits, targets, delta)
        assert value.item() == pytest.approx(0, abs=1e-12) and gradient.tolist() == [0, 0, 0]


def magnitudes(gradient: Tensor, targets: Tensor) -> tuple[float, float]:
    """Sums of |gradient| over positives and over negatives."""
    return gradient[targets > 0].abs().sum().item(), gradient[targets == 0].abs().sum().item()


@pytest.mark.parametrize("find", [find_ap, find_alrp], ids=["ap", "alrp"])
@settings(deadline=None)
@given(
    positives=st.integers(1, 30),
    negatives=st.integers(1, 200),
    delta=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 2**20),
)
def test_positives_and_negatives_get_the_same_summed_gradient(
    find: Loss, positives: int, negatives: int, delta: float, seed: int
) -> None:
    """Theorem 2 (Oksuz et al., NeurIPS 2020)."""
    logits, targets = batch_of(positives, negatives, seed)
    pulled, pushed = magnitudes(find(logits, targets, delta)[1], targets)
    assert pulled == pytest.approx(pushed, abs=1e-9)


def alrp_gradient_with_target_zero(logits: Tensor, targets: Tensor, delta: float) -> Tensor:
    """What appendix G.3 of aLRP warns of: the whole LRP error is to vanish, one's own localisation error, too."""
    gradient = torch.zeros_like(logits)
    rows, negatives = (targets > 0).nonzero().flatten(), (targets == 0).nonzero().flatten()
    errors = errors_of(targets)
    for place, row in enumerate(rows):
        above = ranking_losses.step(logits[rows] - logits[row], delta)
        above[place] = 1
        false = ranking_losses.step(logits[negatives] - logits[row], delta)
        error = (false.sum() + (above * errors).sum()) / (above.sum() + false.sum())
        gradient[row] -= error / len(rows)
        if false.sum() > 0:
            gradient[negatives] += error * false / false.sum() / len(rows)
    return gradient


@pytest.mark.parametrize("delta", [0.0, 1.0])
def test_the_wrong_target_of_alrp_pulls_positives_more_than_it_pushes_negatives(delta: float) -> None:
    logits, targets = batch_of(10, 40, 0)
    logits[targets > 0.5] += 10  # ranked as they should be, but with a localisation error left
    pulled, pushed = magnitudes(alrp_gradient_with_target_zero(logits, targets, delta), targets)
    assert pulled > pushed + 0.01
    pulled, pushed = magnitudes(find_alrp(logits, targets, delta)[1], targets)
    assert pulled == pytest.approx(pushed, abs=1e-9)


@pytest.mark.parametrize("find", [find_rank_sort, find_ndcg], ids=["rank_sort", "ndcg"])
def test_what_one_is_pulled_others_are_pushed(find: Loss) -> None:
    logits, targets = batch_of(30, 200, 6)
    for gradient in find(logits, targets, 0.5)[1::2]:
        assert gradient.abs().sum() > 0.01
        assert gradient.sum().item() == pytest.approx(0, abs=1e-12)


def test_ndcg_of_a_small_example_by_hand() -> None:
    # Ranks: negative 1, quality 0.5 at 2, quality 1 at 3.
    logits = torch.tensor([1.0, 3.0, 5.0, -9.0], dtype=torch.float64)
    targets = torch.tensor([1.0, 0.5, 0.0, 0.0], dtype=torch.float64)
    low = math.sqrt(2) - 1  # the gain of quality 0.5; that of quality 1 is 1
    ideal = 1 / math.log2(2) + low / math.log2(3)
    value, gradient = find_ndcg(logits, targets, 0.5)
    assert value.item() == pytest.approx(1 - (low / math.log2(3) + 1 / math.log2(4)) / ideal, abs=1e-12)
    # The worse one has its ideal rank, 2. What the better one lacks, the two above it share.
    missing = (1 / math.log2(2) - 1 / math.log2(4)) / ideal
    assert gradient.tolist() == pytest.approx([-missing, missing / 2, missing / 2, 0], abs=1e-12)


def test_ndcg_of_a_perfect_order_is_0_and_a_positive_ranked_too_high_is_not_pulled_further() -> None:
    targets = torch.tensor([0.9, 0.6, 0.6, 0.3, 0.0, 0.0], dtype=torch.float64)
    value, gradient = find_ndcg(torch.tensor([5.0, 4, 3, 2, 1, 0], dtype=torch.float64), targets, 0.5)
    assert value.item() == pytest.approx(0, abs=1e-12) and gradient.tolist() == [0] * 6
    value, gradient = find_ndcg(torch.tensor([2.0, 4, 3, 5, 1, 0], dtype=torch.float64), targets, 0.5)
    assert value > 0.05 and gradient[0] < 0 < gradient[3]
    assert gradient[4:].tolist() == [0, 0]
