"""Sums of step functions against all pairs written out."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from detloss.losses import step_sums
from detloss.losses.step_sums import StepSums

DELTAS = [0.0, 0.25, 1.0, 3.0]


def all_pairs(thresholds: Tensor, values: Tensor, delta: float) -> Tensor:
    """H(v_j - t_i), [P, N]."""
    difference = values.double() - thresholds.double()[:, None]
    return (difference / (2 * delta) + 0.5).clamp(0, 1) if delta else (difference >= 0).double()


def numbers(size: int, seed: int, *, grid: bool) -> Tensor:
    """Around 0; on a grid of quarters many are equal, and many stand just where a step bends."""
    drawn = torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2
    return (drawn * 4).round() / 4 if grid else drawn


def weights_of(size: int, seed: int) -> Tensor:
    """Of both signs, some 0."""
    weights = numbers(size, seed, grid=False)
    weights[::4] = 0
    return weights


def assert_equal(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-11)


@settings(deadline=None)
@given(
    size=st.integers(1, 12),
    count=st.integers(0, 30),
    delta=st.sampled_from(DELTAS),
    seed=st.integers(0, 2**20),
    grid=st.booleans(),
)
def test_both_sums_equal_those_over_all_pairs(size: int, count: int, delta: float, seed: int, grid: bool) -> None:
    thresholds, values = numbers(size, seed, grid=grid), numbers(count, seed + 1, grid=grid)
    sums, pairs = StepSums(thresholds, values, delta), all_pairs(thresholds, values, delta)
    assert_equal(sums.over_values(), pairs.sum(dim=1))
    weights = weights_of(count, seed + 2)
    assert_equal(sums.over_values(weights), pairs @ weights)
    weights = weights_of(size, seed + 3)
    assert_equal(sums.over_thresholds(weights), weights @ pairs)


@settings(deadline=None)
@given(
    size=st.integers(1, 20),
    count=st.integers(0, 30),
    groups=st.integers(1, 5),
    delta=st.sampled_from(DELTAS),
    seed=st.integers(0, 2**20),
    grid=st.booleans(),
)
def test_with_groups_only_pairs_of_one_group_count(
    size: int, count: int, groups: int, delta: float, seed: int, grid: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    owners = torch.randint(groups, (size,), generator=generator)
    value_owners = torch.randint(groups + 1, (count,), generator=generator)  # some without a threshold
    thresholds, values = numbers(size, seed, grid=grid), numbers(count, seed + 1, grid=grid)
    sums = StepSums(thresholds, values, delta, (owners, value_owners))
    pairs = all_pairs(thresholds, values, delta) * (owners[:, None] == value_owners)
    assert_equal(sums.over_values(), pairs.sum(dim=1))
    weights = weights_of(count, seed + 2)
    assert_equal(sums.over_values(weights), pairs @ weights)
    weights = weights_of(size, seed + 3)
    assert_equal(sums.over_thresholds(weights), weights @ pairs)


@pytest.mark.parametrize("delta", DELTAS)
def test_thresholds_may_be_the_values_and_all_equal(delta: float) -> None:
    scores = torch.full((5,), 0.3, dtype=torch.float64)
    sums = StepSums(scores, scores, delta)
    own = 0.5 if delta else 1.0
    assert_equal(sums.over_values(), torch.full((5,), 5 * own, dtype=torch.float64))
    weights = torch.arange(5, dtype=torch.float64)
    assert_equal(sums.over_thresholds(weights), torch.full((5,), 10 * own, dtype=torch.float64))


def test_the_hard_step_counts_equal_scores() -> None:
    sums = StepSums(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 1.0, 1.0, 2.0, 3.0]), 0)
    assert sums.over_values().tolist() == [4, 2]
    assert sums.over_thresholds(torch.tensor([1.0, 10.0])).tolist() == [0, 1, 1, 11, 11]


def test_the_smoothed_step_is_a_half_at_equal_scores_and_bends_at_delta() -> None:
    sums = StepSums(torch.tensor([0.0]), torch.tensor([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0]), 1.0)
    assert sums.over_thresholds(torch.tensor([1.0])).tolist() == [0, 0, 0.25, 0.5, 0.75, 1, 1]
    assert sums.over_values().tolist() == [3.5]


@pytest.mark.parametrize("delta", [0.0, 0.5])
def test_without_values_the_sums_over_them_are_0(delta: float) -> None:
    sums = StepSums(torch.tensor([0.0, 1.0]), torch.empty(0), delta)
    assert sums.over_values().tolist() == [0, 0]
    assert sums.over_thresholds(torch.tensor([1.0, 1.0])).shape == (0,)


@pytest.mark.parametrize("delta", [0.5, 1.0])
def test_scores_of_ten_thousand_lose_no_more_digits_than_their_differences(delta: float) -> None:
    thresholds = torch.tensor([-1e4, -1e4 + 0.1, 0.0, 1e4, 1e4 + 0.3], dtype=torch.float64)
    values = torch.cat([thresholds + shift for shift in (-0.4, -0.2, 0.0, 0.7)])
    sums, pairs = StepSums(thresholds, values, delta), all_pairs(thresholds, values, delta)
    assert_equal(sums.over_values(), pairs.sum(dim=1))
    weights = torch.linspace(-1, 1, 5, dtype=torch.float64)
    assert_equal(sums.over_thresholds(weights), weights @ pairs)


def test_single_precision_scores_are_compared_in_double_precision() -> None:
    generator = torch.Generator().manual_seed(0)
    thresholds, values = torch.randn(40, generator=generator), torch.randn(200, generator=generator)
    assert_equal(StepSums(thresholds, values, 0.3).over_values(), all_pairs(thresholds, values, 0.3).sum(dim=1))


def test_a_negative_delta_is_refused() -> None:
    with pytest.raises(ValueError, match="delta must be at least 0, got -1"):
        StepSums(torch.zeros(1), torch.zeros(1), -1.0)


@pytest.mark.parametrize("delta", DELTAS)
def test_values_read_in_chunks_add_up(monkeypatch: pytest.MonkeyPatch, delta: float) -> None:
    monkeypatch.setattr(step_sums, "CHUNK", 3)
    thresholds, values = numbers(4, 0, grid=True), numbers(100, 1, grid=True)
    sums, pairs = StepSums(thresholds, values, delta), all_pairs(thresholds, values, delta)
    weights = weights_of(100, 2)
    assert_equal(sums.over_values(weights), pairs @ weights)
    weights = weights_of(4, 3)
    assert_equal(sums.over_thresholds(weights), weights @ pairs)
