"""Focal loss against torchvision's and against its formula, in one chunk and in many."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from detloss.losses import BinaryCrossEntropy, Focal, FocalECM, dense
from tests.losses.conftest import stats_of
from tests.reference import class_losses

CLASSES = 7


def batch(rows: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    logits = torch.randn(rows, CLASSES, generator=generator, dtype=torch.float64) * 3
    labels = torch.randint(CLASSES + 1, (rows,), generator=generator)
    weights = torch.rand(rows, generator=generator, dtype=torch.float64)
    weights[::4] = 0
    return logits.requires_grad_(), labels, weights


def torchvision_focal(logits: Tensor, labels: Tensor, weights: Tensor, gamma: float, alpha: float) -> Tensor:
    targets = F.one_hot(labels, CLASSES + 1)[:, :-1].to(logits.dtype)
    entries = sigmoid_focal_loss(logits, targets, alpha=alpha, gamma=gamma, reduction="none")
    return (entries * weights[:, None]).sum()


@pytest.mark.parametrize("chunk", [1 << 20, 3 * CLASSES, 1])
@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, 0.25), (2.0, 0.75), (1.5, 0.5), (0.0, 0.5)])
def test_focal_and_its_gradient_equal_torchvisions(
    monkeypatch: pytest.MonkeyPatch, chunk: int, gamma: float, alpha: float
) -> None:
    monkeypatch.setattr(dense, "CHUNK", chunk)
    logits, labels, weights = batch(20)
    expected = torchvision_focal(logits, labels, weights, gamma, alpha)
    (expected_gradient,) = torch.autograd.grad(expected, logits)
    loss = Focal(stats_of([1] * CLASSES), gamma=gamma, alpha=alpha)(logits, labels, weights)
    (gradient,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("gamma", [2.0, 0.5])
def test_focal_equals_its_formula(gamma: float) -> None:
    logits, labels, _ = batch(6)
    expected = class_losses.focal(logits, labels, gamma, 0.25)
    loss = Focal(stats_of([1] * CLASSES), gamma=gamma)(logits, labels)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)


def test_focal_without_modulation_is_half_of_binary_cross_entropy() -> None:
    logits, labels, weights = batch(11)
    stats = stats_of([1] * CLASSES)
    half = BinaryCrossEntropy(stats)(logits, labels, weights) / 2
    assert Focal(stats, gamma=0.0, alpha=0.5)(logits, labels, weights).item() == pytest.approx(half.item())


def test_chunks_do_not_change_focal_ecm(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels, weights = batch(20)
    loss = FocalECM(stats_of([100, 50, 20, 10, 5, 1, 0]))
    whole = loss(logits, labels, weights)
    (whole_gradient,) = torch.autograd.grad(whole, logits)
    monkeypatch.setattr(dense, "CHUNK", 3 * CLASSES)
    parts = loss(logits, labels, weights)
    (gradient,) = torch.autograd.grad(parts, logits)
    torch.testing.assert_close(parts, whole, rtol=1e-13, atol=0.0)
    torch.testing.assert_close(gradient, whole_gradient, rtol=1e-13, atol=0.0)


def test_logits_may_lie_in_memory_in_any_order() -> None:
    logits, labels, weights = batch(20)
    loss = Focal(stats_of([1] * CLASSES))
    expected = loss(logits, labels, weights)
    by_columns = logits.detach().t().contiguous().t().requires_grad_()
    assert not by_columns.is_contiguous()
    value = loss(by_columns, labels, weights)
    assert torch.equal(value, expected)
    gradients = [torch.autograd.grad(each, leaf)[0] for each, leaf in ((value, by_columns), (expected, logits))]
    assert torch.equal(*gradients)


def test_an_outer_factor_reaches_the_gradient() -> None:
    """Accumulation and gradient scalers multiply the loss before they differentiate it."""
    logits, labels, weights = batch(5)
    loss = Focal(stats_of([1] * CLASSES))
    (once,) = torch.autograd.grad(loss(logits, labels, weights), logits)
    (scaled,) = torch.autograd.grad(1024 * loss(logits, labels, weights), logits)
    torch.testing.assert_close(scaled, 1024 * once, rtol=1e-14, atol=0.0)
