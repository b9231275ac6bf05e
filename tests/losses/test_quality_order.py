"""Pairs in the other order of quality: by the matrix of all pairs, and bit by bit."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from detloss.losses import quality_order
from detloss.losses.quality_order import LowerQuality


def all_pairs(scores: Tensor, quality: Tensor, delta: float) -> Tensor:
    """H(s_k - s_i) where k has the lower quality, at [i, k]."""
    pairs = torch.zeros(len(scores), len(scores), dtype=torch.float64)
    for i in range(len(scores)):
        for k in range(len(scores)):
            difference = float(scores[k] - scores[i])
            step = min(max(difference / (2 * delta) + 0.5, 0.0), 1.0) if delta else float(difference >= 0)
            pairs[i, k] = step if quality[k] < quality[i] else 0.0
    return pairs


def assert_sums(found: LowerQuality, pairs: Tensor, seed: int) -> None:
    weights = torch.randn(len(pairs), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    torch.testing.assert_close(found.over_lower(weights), pairs @ weights, rtol=1e-12, atol=1e-11)
    torch.testing.assert_close(found.over_higher(weights), weights @ pairs, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("largest_matrix", [1024, 0], ids=["matrix", "bitwise"])
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.integers(1, 12),
    levels=st.integers(1, 12),
    delta=st.sampled_from([0.0, 0.25, 1.0]),
    seed=st.integers(0, 2**20),
    grid=st.booleans(),
)
def test_both_ways_equal_all_pairs(
    monkeypatch: pytest.MonkeyPatch,
    largest_matrix: int,
    size: int,
    levels: int,
    delta: float,
    seed: int,
    grid: bool,
) -> None:
    monkeypatch.setattr(quality_order, "LARGEST_MATRIX", largest_matrix)
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(size, generator=generator, dtype=torch.float64)
    scores = (scores * 4).round() / 4 if grid else scores
    quality = torch.randint(1, levels + 1, (size,), generator=generator).double() / levels
    found = LowerQuality(scores, quality, delta)
    assert (found.matrix is None) == (largest_matrix == 0)
    assert_sums(found, all_pairs(scores, quality, delta), seed)


@pytest.mark.parametrize("delta", [0.0, 0.5])
def test_many_positives_go_bit_by_bit_and_equal_the_matrix(monkeypatch: pytest.MonkeyPatch, delta: float) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(1500, generator=generator, dtype=torch.float64)
    quality = torch.rand(1500, generator=generator, dtype=torch.float64)
    quality[::3] = quality[0]
    many = LowerQuality(scores, quality, delta)
    assert many.matrix is None
    monkeypatch.setattr(quality_order, "LARGEST_MATRIX", 1500)
    matrix = LowerQuality(scores, quality, delta).matrix
    assert matrix is not None
    assert_sums(many, matrix, 0)


@pytest.mark.parametrize("largest_matrix", [1024, 0], ids=["matrix", "bitwise"])
def test_equal_qualities_have_no_pair(monkeypatch: pytest.MonkeyPatch, largest_matrix: int) -> None:
    monkeypatch.setattr(quality_order, "LARGEST_MATRIX", largest_matrix)
    found = LowerQuality(torch.arange(6.0).double(), torch.full((6,), 0.5), 0.5)
    assert found.over_lower(torch.ones(6).double()).tolist() == [0] * 6
    assert found.over_higher(torch.ones(6).double()).tolist() == [0] * 6
