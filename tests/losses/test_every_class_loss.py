"""What every class loss promises: weights, order, precision, extremes, and rows without foreground."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from detloss.losses import ECM, BinaryCrossEntropy, ClassLoss, CrossEntropy, Focal, FocalECM
from detloss.stats import ClassStats
from tests.losses.conftest import COUNTS, stats_of

LOSSES: dict[str, Callable[[ClassStats], ClassLoss]] = {
    "cross_entropy": CrossEntropy,
    "binary_cross_entropy": BinaryCrossEntropy,
    "focal": Focal,
    "focal_without_alpha": lambda stats: Focal(stats, gamma=1.3, alpha=0.5),
    "ecm": lambda stats: ECM(stats, background_ratio=3.0),
    "ecm_measured": ECM,
    "focal_ecm": FocalECM,
}


@pytest.fixture(params=LOSSES)
def make(request: pytest.FixtureRequest) -> Callable[[ClassStats], ClassLoss]:
    return LOSSES[request.param]


def batch(loss: ClassLoss, rows: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    logits = torch.randn(rows, loss.coder.num_logits, generator=generator, dtype=torch.float64) * 2
    labels = torch.randint(loss.coder.num_classes + 1, (rows,), generator=generator)
    weights = torch.rand(rows, generator=generator, dtype=torch.float64) + 0.1
    return logits.to(dtype).requires_grad_(), labels, weights.to(dtype)


def test_the_gradient_is_that_of_finite_differences(make: Callable[[ClassStats], ClassLoss]) -> None:
    loss = make(stats_of(COUNTS))
    logits, labels, weights = batch(loss, 6)
    assert torch.autograd.gradcheck(lambda moving: loss(moving, labels, weights), (logits,))


def test_a_weight_multiplies_its_row(make: Callable[[ClassStats], ClassLoss]) -> None:
    loss = make(stats_of(COUNTS)).eval()
    logits, labels, weights = batch(loss, 6)
    rows = [loss(logits[i : i + 1], labels[i : i + 1]).item() for i in range(6)]
    expected = sum(weight * row for weight, row in zip(weights.tolist(), rows, strict=True))
    assert loss(logits, labels, weights).item() == pytest.approx(expected, rel=1e-12)
    assert loss(logits, labels).item() == pytest.approx(sum(rows), rel=1e-12)


def test_a_row_of_weight_zero_has_no_influence(make: Callable[[ClassStats], ClassLoss]) -> None:
    loss, fewer = make(stats_of(COUNTS)), make(stats_of(COUNTS))
    logits, labels, weights = batch(loss, 8)
    weights[[2, 5]] = 0
    kept = torch.tensor([0, 1, 3, 4, 6, 7])
    value = loss(logits, labels, weights)
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.item() == pytest.approx(fewer(logits[kept], labels[kept], weights[kept]).item(), rel=1e-12)
    assert gradient[[2, 5]].abs().max() == 0


def test_the_order_of_rows_does_not_matter(make: Callable[[ClassStats], ClassLoss]) -> None:
    loss, other = make(stats_of(COUNTS)), make(stats_of(COUNTS))
    logits, labels, weights = batch(loss, 16)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(3))
    shuffled = other(logits[order], labels[order], weights[order])
    assert loss(logits, labels, weights).item() == pytest.approx(shuffled.item(), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_computed_in_float32(
    make: Callable[[ClassStats], ClassLoss], dtype: torch.dtype
) -> None:
    loss = make(stats_of(COUNTS)).eval()
    logits, labels, weights = batch(loss, 32, torch.float32)
    half = logits.detach().to(dtype).requires_grad_()
    value = loss(half, labels, weights)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss(logits, labels, weights).item(), rel=1e-2)
    # The only error is that of rounding the logits.
    assert value.item() == loss(half.detach().float(), labels, weights).item()
    value.backward()
    assert half.grad is not None
    assert torch.isfinite(half.grad).all()


@pytest.mark.parametrize("size", [1e4, -1e4, 45.0, -45.0])
def test_extreme_logits_give_finite_values_and_gradients(
    make: Callable[[ClassStats], ClassLoss], size: float
) -> None:
    loss = make(stats_of(COUNTS))
    labels = torch.arange(6)
    logits = torch.full((6, loss.coder.num_logits), size)
    logits[:, ::2] *= -1
    logits.requires_grad_()
    value = loss(logits, labels)
    value.backward()
    assert torch.isfinite(value)
    assert value > 0
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert logits.grad.abs().max() > 0


@pytest.mark.parametrize("labels", [[5, 5, 5], [0], [5], []])
def test_batches_without_foreground_of_one_row_and_of_none_are_finite(
    make: Callable[[ClassStats], ClassLoss], labels: list[int]
) -> None:
    loss = make(stats_of(COUNTS))
    logits = torch.zeros(len(labels), loss.coder.num_logits, requires_grad=True)
    value = loss(logits, torch.tensor(labels, dtype=torch.int64), torch.ones(len(labels)))
    assert value.ndim == 0
    value.backward()
    assert logits.grad is not None
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()
    assert (value > 0) == bool(labels)


@pytest.mark.parametrize("counts", [[10], [0], [0, 0, 3]])
def test_one_class_and_classes_without_instances_are_finite(
    make: Callable[[ClassStats], ClassLoss], counts: list[int]
) -> None:
    loss = make(stats_of(counts))
    logits, labels, weights = batch(loss, 9, torch.float32)
    value = loss(logits, labels, weights)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()


def test_every_logit_is_pushed_towards_its_target(make: Callable[[ClassStats], ClassLoss]) -> None:
    """The gradient is negative at the label and positive at every other column."""
    loss = make(stats_of(COUNTS))
    logits, labels, _ = batch(loss, 12)
    (gradient,) = torch.autograd.grad(loss(logits, labels), logits)
    for row, label in zip(gradient, labels.tolist(), strict=True):
        for column, slope in enumerate(row.tolist()):
            assert (slope < 0) == (column == label)
