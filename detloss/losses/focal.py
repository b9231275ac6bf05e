"""Focal loss, in closed form and in chunks, so that dense heads with 1,203 classes fit in memory."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from detloss.losses.base import ClassLoss
from detloss.losses.binary_cross_entropy import at_least_float32, positive_entries, softplus
from detloss.losses.coder import Sigmoid
from detloss.stats import ClassStats

CHUNK = 1 << 20
"""Entries handled at once: a few of them fit in cache, and the temporaries stay small beside the logits."""


@dataclass(frozen=True)
class Margin:
    """An affine change of the logits and a weight of the loss: ``shift`` and ``weight`` are [C]."""

    slope: float
    shift: Tensor
    weight: Tensor


class Focal(ClassLoss):
    """alpha_t (1 - p_t)^gamma (-log p_t) (Lin et al., ICCV 2017, eq. 5); C logits, no background.

    alpha weighs the positives and 1 - alpha the negatives.
    """

    def __init__(self, stats: ClassStats, *, gamma: float = 2.0, alpha: float = 0.25) -> None:
        super().__init__()
        self.gamma = gamma
        self.alpha = alpha
        self.coder = Sigmoid(stats.num_classes)

    def forward(
        self, logits: Tensor, labels: Tensor, weights: Tensor | None = None, quality: Tensor | None = None
    ) -> Tensor:
        return focal_sum(at_least_float32(logits), labels, weights, self.gamma, self.alpha)


def focal_sum(
    logits: Tensor,
    labels: Tensor,
    weights: Tensor | None,
    gamma: float,
    alpha: float,
    margin: Margin | None = None,
) -> Tensor:
    """Return the weighted sum of the focal loss over logits [N, C] with labels [N], a scalar.

    With a margin it is the focal loss of ``slope * logits + shift``, times ``weight`` per class. The gradient
    is found together with the value, chunk by chunk, so that beside the logits only the gradient is held; it
    can be differentiated once.
    """
    row_weights = logits.new_ones(len(logits)) if weights is None else weights.to(logits.dtype)
    result: Tensor = _FocalSum.apply(logits, labels, row_weights, gamma, alpha, margin)
    return result


class _FocalSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        logits: Tensor,
        labels: Tensor,
        weights: Tensor,
        gamma: float,
        alpha: float,
        margin: Margin | None,
    ) -> Tensor:
        total = logits.new_zeros(())
        gradient = torch.empty_like(logits)
        step = max(1, CHUNK // logits.shape[1])
        for start in range(0, len(logits), step):
            rows = slice(start, start + step)
            chunk = logits[rows] if margin is None else margin.slope * logits[rows] + margin.shift
            values, slopes = _focal(chunk, labels[rows], gamma, alpha)
            if margin is not None:
                values *= margin.weight
                slopes *= margin.slope * margin.weight
            total += values.sum(dim=1).dot(weights[rows])
            torch.mul(slopes, weights[rows, None], out=gradient[rows])
        ctx.save_for_backward(gradient)  # type: ignore[attr-defined]
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *output_gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (gradient,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return gradient * output_gradient[0], None, None, None, None, None


def _focal(logits: Tensor, labels: Tensor, gamma: float, alpha: float) -> tuple[Tensor, Tensor]:
    """Return the loss and its derivative, both [N, C]."""
    values, slopes = _focal_negative(logits, gamma)
    values *= 1 - alpha
    slopes *= 1 - alpha
    rows, columns = positive_entries(labels, logits.shape[1])
    # A positive is a negative of the opposite logit: p_t = sigma(z) = 1 - sigma(-z).
    positive_values, positive_slopes = _focal_negative(-logits[rows, columns], gamma)
    values[rows, columns] = alpha * positive_values
    slopes[rows, columns] = -alpha * positive_slopes
    return values, slopes


def _focal_negative(logits: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """Return p^gamma softplus(z) and its derivative p^gamma (p + gamma (1 - p) softplus(z)), p = sigma(z)."""
    cost = softplus(logits)
    probability = logits.sigmoid()
    modulation = probability.square() if gamma == 2 else probability**gamma
    slopes = (1 - probability).mul_(cost).mul_(gamma).add_(probability).mul_(modulation)
    return cost.mul_(modulation), slopes
