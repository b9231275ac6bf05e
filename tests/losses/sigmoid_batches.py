"""Batches for the losses on sigmoids, and what their tests compare."""

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import pytest
import torch
from torch import Tensor

from detloss.losses import ClassLoss
from tests.losses.conftest import COUNTS

Draw = TypeVar("Draw")


class Batch(NamedTuple):
    logits: Tensor
    labels: Tensor
    weights: Tensor


KINDS = ["mixed", "foreground", "background", "one object", "one background row", "ties"]


def batch_of(kind: str, columns: int, seed: int, *, num_classes: int = len(COUNTS), rows: int = 24) -> Batch:
    """Float64 logits that require a gradient, labels, and weights of which every third is 0."""
    generator = torch.Generator().manual_seed(seed)
    rows = 1 if kind.startswith("one") else rows
    logits = torch.randn(rows, columns, generator=generator, dtype=torch.float64) * 2
    labels = torch.randint(num_classes + 1, (rows,), generator=generator)
    labels[torch.rand(rows, generator=generator) < 0.4] = num_classes  # enough background for its random choices
    weights = torch.rand(rows, generator=generator, dtype=torch.float64) + 0.1
    weights[2::3] = 0
    if kind == "ties":
        logits = logits.div(2).round()
    elif "background" in kind:
        labels[:] = num_classes
    elif kind in ("foreground", "one object"):
        labels = torch.randint(num_classes, (rows,), generator=generator)
    return Batch(logits.requires_grad_(), labels, weights)


def quality_of(rows: int, seed: int) -> Tensor:
    """A quality per row, 0 and 1 among them."""
    quality = torch.rand(rows, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    quality[::5], quality[1::5] = 0, 1
    return quality


def batches(columns: int, *, num_classes: int = len(COUNTS), rows: int = 24) -> Iterator[Batch]:
    """Three batches that follow each other, for losses with a state."""
    for seed in range(3):
        yield batch_of("mixed", columns, seed, num_classes=num_classes, rows=rows)


def assert_equal_with_gradients(value: Tensor, expected: Tensor, logits: Tensor) -> None:
    """Both float64, to a relative 1e-9."""
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-12)
    gradient, expected_gradient = (torch.autograd.grad(tensor, logits)[0] for tensor in (value, expected))
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-9, atol=1e-12)


def recorded(monkeypatch: pytest.MonkeyPatch, loss: ClassLoss, method: Callable[[Tensor], Draw]) -> list[Draw]:
    """Return a list to which every draw of this random choice of ``loss`` is added."""
    draws: list[Draw] = []

    def record(rows: Tensor) -> Draw:
        draws.append(method(rows))
        return draws[-1]

    monkeypatch.setattr(loss, method.__name__, record)
    return draws


def state_of(loss: ClassLoss) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in loss.state_dict().items()}


def assert_same_state(state: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(state) == list(expected)
    for name, value in state.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-12, atol=1e-14)
