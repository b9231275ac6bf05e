"""Intervals by grid against torch's binary search, which they must equal to the last one."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from detloss.losses import interval_search
from detloss.losses.interval_search import intervals


def searched(points: Tensor, values: Tensor) -> Tensor:
    return torch.searchsorted(points, values.double(), right=True).int()


def numbers(size: int, generator: torch.Generator, kind: str) -> Tensor:
    """Spread out, on few places, huge, or so close together that rounding counts."""
    drawn = torch.randn(size, generator=generator, dtype=torch.float64)
    if kind == "grid":
        return (drawn * 4).round() / 4
    if kind == "huge":
        return drawn * 10.0 ** torch.randint(-8, 300, (size,), generator=generator)
    if kind == "close":
        return 1e8 + drawn * 1e-7
    return drawn


@settings(deadline=None, max_examples=300)
@given(
    size=st.integers(1, 12),
    kinds=st.tuples(*[st.sampled_from(["spread", "grid", "huge", "close"])] * 2),
    single=st.booleans(),
    seed=st.integers(0, 2**20),
)
def test_a_grid_finds_the_intervals_of_binary_search(
    size: int, kinds: tuple[str, str], single: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    points = numbers(size, generator, kinds[0]).sort().values
    around = points[torch.randint(size, (200,), generator=generator)]
    nearby = [around, around.nextafter(torch.tensor(torch.inf)), around.nextafter(torch.tensor(-torch.inf))]
    values = torch.cat([numbers(200, generator, kinds[1]), *nearby, torch.tensor([torch.inf, -torch.inf])])
    values = values.float() if single else values
    assert torch.equal(intervals(points, values), searched(points, values))


def test_chunks_fit_together(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    points, values = numbers(5, generator, "spread").sort().values, numbers(1000, generator, "spread")
    monkeypatch.setattr(interval_search, "CHUNK", 7)
    assert torch.equal(intervals(points, values), searched(points, values))


@pytest.mark.parametrize("size", [0, 1, 3])
def test_equal_points_and_none_at_all(size: int) -> None:
    points = torch.full((size,), 2.0, dtype=torch.float64)
    values = torch.tensor([1.0, 2.0, 3.0, torch.inf]).repeat(20)
    assert intervals(points, values).tolist() == [0, size, size, size] * 20
    assert intervals(points, values[:0]).shape == (0,)


def test_points_without_a_finite_range_are_searched() -> None:
    points = torch.tensor([-torch.inf, 0.0, torch.inf], dtype=torch.float64)
    values = torch.tensor([-torch.inf, -1.0, 0.0, 1.0, torch.inf]).repeat(20)
    assert intervals(points, values).tolist() == [1, 1, 2, 2, 3] * 20
