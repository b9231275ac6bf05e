"""What every class loss promises: weights, order, precision, extremes, and rows without foreground."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from detloss import losses
from detloss.losses import ClassLoss
from detloss.stats import ClassStats
from tests.losses.conftest import COUNTS, stats_of

LOSSES: dict[str, Callable[[ClassStats], ClassLoss]] = {
    "acsl": losses.ACSL,
    "bags": losses.BAGS,
    "binary_cross_entropy": losses.BinaryCrossEntropy,
    "class_balanced": losses.ClassBalanced,
    "class_balanced_focal": losses.ClassBalancedFocal,
    "cross_entropy": losses.CrossEntropy,
    "droploss": losses.DropLoss,
    "ecm": lambda stats: losses.ECM(stats, background_ratio=3.0),
    "ecm_measured": losses.ECM,
    "efl": losses.EFL,
    "eql": losses.EQL,
    "eqlv2": losses.EQLv2,
    "federated": losses.Federated,
    "focal": losses.Focal,
    "focal_ecm": losses.FocalECM,
    "focal_without_alpha": lambda stats: losses.Focal(stats, gamma=1.3, alpha=0.5),
    "generalized_reweight": losses.GeneralizedReweight,
    "gol": losses.GOL,
    "gol_with_droploss": lambda stats: losses.GOL(stats, tail_fraction=0.00177),
    "iif": losses.IIF,
    "ldam": lambda stats: losses.LDAM(stats, scale=1.0),
    "logit_adjustment": losses.LogitAdjustment,
    "quality_focal": losses.QualityFocal,
    "quality_focal_gamma_1": lambda stats: losses.QualityFocal(stats, beta=1.0),
    "seesaw": losses.Seesaw,
    "seesaw_without_compensation": lambda stats: losses.Seesaw(stats, q=0.0),
    "varifocal": losses.Varifocal,
}

BY_CHANCE_PER_ROW = {"droploss", "gol_with_droploss"}
"""What a row gives depends on the rows before it, as each takes its random numbers."""

NOT_A_SUM_OVER_ROWS = BY_CHANCE_PER_ROW | {"bags", "generalized_reweight"}

SPARES_OR_SHARES_LOGITS = BY_CHANCE_PER_ROW | {"acsl", "bags", "eql", "seesaw", "seesaw_without_compensation"}


def test_every_loss_that_is_exported_is_in_the_list_above() -> None:
    classes = {type(make(stats_of(COUNTS))) for make in LOSSES.values()}
    exported = {getattr(losses, name) for name in losses.__all__}
    assert classes == {found for found in exported if issubclass(found, ClassLoss)} - {ClassLoss}


def without(*excluded: str) -> pytest.MarkDecorator:
    """Parametrize over the losses, but those for which the sentence does not hold."""
    return pytest.mark.parametrize("make", [LOSSES[name] for name in LOSSES if name not in excluded])


@pytest.fixture(params=LOSSES)
def make(request: pytest.FixtureRequest) -> Callable[[ClassStats], ClassLoss]:
    return LOSSES[request.param]


def batch(loss: ClassLoss, rows: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    logits = torch.randn(rows, loss.coder.num_logits, generator=generator, dtype=torch.float64) * 2
    labels = torch.randint(loss.coder.num_classes + 1, (rows,), generator=generator)
    weights = torch.rand(rows, generator=generator, dtype=torch.float64) + 0.1
    return logits.to(dtype).requires_grad_(), labels, weights.to(dtype)


@without("seesaw")  # its compensation factor is constant in the gradient
def test_the_gradient_is_that_of_finite_differences(make: Callable[[ClassStats], ClassLoss]) -> None:
    loss = make(stats_of(COUNTS))
    logits, labels, weights = batch(loss, 6)
    quality = torch.linspace(0.2, 0.9, 6, dtype=torch.float64)
    loss(logits, labels, weights, quality)  # gives it a state, which then stays
    loss.eval()

    def value(moving: Tensor) -> Tensor:
        torch.manual_seed(0)  # the same draws every time
        return loss(moving, labels, weights, quality)

    assert torch.autograd.gradcheck(value, (logits,))


@without(*NOT_A_SUM_OVER_ROWS)
def test_a_weight_multiplies_its_row(make: Callable[[ClassStats], ClassLoss]) -> None:
    loss = make(stats_of(COUNTS)).eval()
    logits, labels, weights = batch(loss, 6)
    rows = [loss(logits[i : i + 1], labels[i : i + 1]).item() for i in range(6)]
    expected = sum(weight * row for weight, row in zip(weights.tolist(), rows, strict=True))
    assert loss(logits, labels, weights).item() == pytest.approx(expected, rel=1e-12)
    assert loss(logits, labels).item() == pytest.approx(sum(rows), rel=1e-12)


@without(*BY_CHANCE_PER_ROW)
def test_a_row_of_weight_zero_has_no_influence(make: Callable[[ClassStats], ClassLoss]) -> None:
    loss, fewer = make(stats_of(COUNTS)), make(stats_of(COUNTS))
    logits, labels, weights = batch(loss, 8)
    weights[[2, 5]] = 0
    kept = torch.tensor([0, 1, 3, 4, 6, 7])
    value = loss(logits, labels, weights)
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.item() == pytest.approx(fewer(logits[kept], labels[kept], weights[kept]).item(), rel=1e-12)
    assert gradient[[2, 5]].abs().max() == 0


@without(*BY_CHANCE_PER_ROW)
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
    torch.manual_seed(0)
    value = loss(half, labels, weights)
    assert value.dtype == torch.float32
    torch.manual_seed(0)
    assert value.item() == pytest.approx(loss(logits, labels, weights).item(), rel=1e-2)
    # The only error is that of rounding the logits.
    torch.manual_seed(0)
    assert value.item() == loss(half.detach().float(), labels, weights).item()
    value.backward()
    assert half.grad is not None
    assert torch.isfinite(half.grad).all()


def test_without_gradient_the_value_is_the_same(make: Callable[[ClassStats], ClassLoss]) -> None:
    """As in a validation loop; inference mode knows no autograd at all."""
    loss = make(stats_of(COUNTS)).eval()
    logits, labels, weights = batch(loss, 8)
    torch.manual_seed(0)
    expected = loss(logits, labels, weights).item()
    for quiet in (torch.no_grad, torch.inference_mode):
        with quiet():
            torch.manual_seed(0)
            assert loss(logits.detach().clone(), labels, weights).item() == pytest.approx(expected, rel=1e-12)


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
    # Gumbel's logits are clamped in training.
    assert logits.grad.abs().max() > 0 or isinstance(loss, losses.GOL)


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


@without(*SPARES_OR_SHARES_LOGITS)
def test_every_logit_is_pushed_towards_its_target(make: Callable[[ClassStats], ClassLoss]) -> None:
    """The gradient is negative at the label and positive at every other column."""
    loss = make(stats_of(COUNTS))
    logits, labels, _ = batch(loss, 12)
    (gradient,) = torch.autograd.grad(loss(logits, labels), logits)
    for row, label in zip(gradient, labels.tolist(), strict=True):
        for column, slope in enumerate(row.tolist()):
            assert (slope < 0) == (column == label)
