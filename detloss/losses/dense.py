"""The chunked closed form that every sigmoid loss of dense heads is made of.

Dense heads have 200,000 rows or more; with 1,203 classes their logits fill a gigabyte. So the value and its
gradient are found chunk by chunk, and nothing else of that size is made.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from detloss.losses.entries import positive_entries, softplus
from detloss.losses.known_gradient import with_gradient

CHUNK = 1 << 18
"""Entries handled at once on a CPU: a few of them fit in its cache."""

GPU_CHUNK = 1 << 24
"""Entries handled at once on a GPU: enough to keep it busy, small beside the logits."""


@dataclass(frozen=True)
class Negatives:
    """scale * p^gamma * -log(1 - p) with p = sigma(slope z + shift), what a dense loss asks of non-targets.

    ``gamma``, ``shift`` and ``scale`` are numbers or per class, [C].
    """

    gamma: float | Tensor = 0.0
    scale: float | Tensor = 1.0
    slope: float = 1.0
    shift: float | Tensor = 0.0


Positives = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From the logits, rows and classes [P] of the targets to their losses [P], by autograd's operations."""


def dense_loss(
    logits: Tensor, labels: Tensor, weights: Tensor | None, negatives: Negatives, positives: Positives
) -> Tensor:
    """Return the weighted sum over rows and classes of ``positives`` at targets and ``negatives`` elsewhere."""
    value, gradient = value_and_gradient(logits.detach(), labels, weights, negatives, positives)
    return value if gradient is None else with_gradient(logits, value, gradient)


def value_and_gradient(
    logits: Tensor, labels: Tensor, weights: Tensor | None, negatives: Negatives, positives: Positives
) -> tuple[Tensor, Tensor | None]:
    """Return the sum of ``dense_loss``, a scalar, and its derivative [N, C]; None under ``torch.no_grad``."""
    row_weights = logits.new_ones(len(logits)) if weights is None else weights.to(logits.dtype)
    rows, classes = positive_entries(labels, logits.shape[1])
    wanted = torch.is_grad_enabled()
    targets = logits[rows, classes].requires_grad_(wanted)
    value = (positives(targets, rows, classes) * row_weights[rows]).sum()
    gradient = torch.empty_like(logits) if wanted else None
    with torch.no_grad():
        total = value + _add_negatives(logits, rows, classes, row_weights, negatives, gradient)
    if gradient is not None:
        (gradient[rows, classes],) = torch.autograd.grad(value, targets)
    return total, gradient


def _add_negatives(
    logits: Tensor, rows: Tensor, classes: Tensor, row_weights: Tensor, kind: Negatives, gradient: Tensor | None
) -> Tensor:
    """Return the sum over all entries but the targets, and write its derivative into ``gradient``."""
    step = max(1, (CHUNK if logits.device.type == "cpu" else GPU_CHUNK) // logits.shape[1])
    starts = list(range(0, len(logits), step))
    bounds = torch.searchsorted(rows, torch.tensor([*starts, len(logits)], device=rows.device)).tolist()
    total = logits.new_zeros(())
    for start, first, last in zip(starts, bounds, bounds[1:], strict=False):
        chunk = slice(start, start + step)
        losses, derivatives = _negatives(logits[chunk], kind)
        losses[rows[first:last] - start, classes[first:last]] = 0
        total = total + losses.sum(dim=1).dot(row_weights[chunk])
        if gradient is not None:
            torch.mul(derivatives, row_weights[chunk, None], out=gradient[chunk])
    return total


def _negatives(logits: Tensor, kind: Negatives) -> tuple[Tensor, Tensor]:
    """Return scale p^gamma softplus(z) and its derivative p^gamma (p + gamma (1 - p) softplus(z)), [n, C].

    z = slope * logits + shift, and the derivative is with respect to the logits.
    """
    plain = kind.slope == 1 and _is(kind.shift, 0)
    score = logits if plain else kind.slope * logits + kind.shift
    loss, derivative = softplus(score), score.sigmoid()
    if not _is(kind.gamma, 0):
        # log p = z - softplus(z); p^2 is cheaper as a product than as an exponential.
        power = derivative.square() if _is(kind.gamma, 2) else torch.exp((score - loss).mul_(kind.gamma))
        derivative = (1 - derivative).mul_(loss).mul_(kind.gamma).add_(derivative).mul_(power)
        loss = loss.mul_(power)
    if not _is(kind.scale, 1):
        loss, derivative = loss.mul_(kind.scale), derivative.mul_(kind.scale)
    return loss, derivative if kind.slope == 1 else derivative.mul_(kind.slope)


def _is(setting: float | Tensor, number: int) -> bool:
    return not isinstance(setting, Tensor) and setting == number
