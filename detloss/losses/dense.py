"""The chunked closed form that every sigmoid loss of dense heads is made of.

Dense heads have 200,000 rows or more; with 1,203 classes their logits fill a gigabyte. So the value and its
gradient are found together, chunk by chunk, and the gradient is handed over in the backward pass: nothing else of
that size is ever made.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from detloss.losses.entries import positive_entries, softplus

CHUNK = 1 << 17
"""Entries handled at once on a CPU: a few of them fit in its cache."""

GPU_CHUNK = 1 << 24
"""Entries handled at once on a GPU: enough to keep it busy, small beside the logits."""


@dataclass(frozen=True)
class Negatives:
    """scale * p^gamma * -log(1 - p) with p = sigma(slope z + shift), what a dense loss asks of non-targets.

    ``gamma``, ``shift`` and ``scale`` are numbers or per class, [C], and must not change before the backward pass.
    """

    gamma: float | Tensor = 0.0
    scale: float | Tensor = 1.0
    slope: float = 1.0
    shift: float | Tensor = 0.0

    def scores(self, logits: Tensor) -> Tensor:
        """Return z -> slope z + shift."""
        if self.slope == 1 and _is(self.shift, 0):
            return logits
        shift = torch.as_tensor(self.shift, dtype=logits.dtype, device=logits.device)
        return torch.add(shift, logits, alpha=self.slope)

    def scales(self, logits: Tensor) -> Tensor:
        """Return ``scale`` as [C]."""
        return torch.as_tensor(self.scale, dtype=logits.dtype, device=logits.device).expand(logits.shape[1])


Positives = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From the logits, rows and classes [P] of the targets to their losses [P], by autograd's operations."""


def dense_loss(
    logits: Tensor, labels: Tensor, weights: Tensor | None, negatives: Negatives, positives: Positives
) -> Tensor:
    """Return the weighted sum over rows and classes of ``positives`` at targets and ``negatives`` elsewhere."""
    row_weights = logits.new_ones(len(logits)) if weights is None else weights.to(logits.dtype)
    rows, classes = positive_entries(labels, logits.shape[1])
    entries = _Entries(rows, classes, row_weights, negatives, positives)
    wanted = torch.is_grad_enabled() and logits.requires_grad
    result: Tensor = _DenseLoss.apply(logits, entries, wanted)
    return result


@torch.no_grad()
def gradient_by_class(
    logits: Tensor, labels: Tensor, weights: Tensor | None, negatives: Negatives, positives: Positives
) -> tuple[Tensor, Tensor]:
    """Return how hard ``dense_loss`` pulls at each class's targets and pushes its other entries, both [C].

    They are sums of the gradient's magnitudes, provided that no target is pushed and no other entry pulled.
    """
    row_weights = logits.new_ones(len(logits)) if weights is None else weights.to(logits.dtype)
    rows, classes = positive_entries(labels, logits.shape[1])
    entries = _Entries(rows, classes, row_weights, negatives, positives)
    pulled = torch.zeros_like(logits[:0].sum(dim=0)).index_add_(0, classes, -entries.slopes(logits))
    pushed = torch.zeros_like(pulled)
    for chunk, targets in entries.chunks(logits):
        scores = negatives.scores(logits[chunk])
        losses = None if _is(negatives.gamma, 0) else softplus(scores)
        probability = scores.sigmoid()
        power = _power(scores, probability, losses, negatives.gamma)
        derivatives = _derivatives(probability, losses, power, negatives.gamma)
        derivatives[targets] = 0
        pushed += derivatives.t().mv(row_weights[chunk])
    return pulled, pushed * negatives.slope * negatives.scales(logits)


@dataclass(frozen=True)
class _Entries:
    """The targets' rows and classes [P], the row weights [N], and what the loss asks of the entries."""

    rows: Tensor
    classes: Tensor
    row_weights: Tensor
    negatives: Negatives
    positives: Positives

    def chunks(self, logits: Tensor) -> Iterator[tuple[slice, tuple[Tensor, Tensor]]]:
        """Yield slices of rows, and the rows within and classes of the targets there."""
        step = max(1, (CHUNK if logits.device.type == "cpu" else GPU_CHUNK) // logits.shape[1])
        starts = list(range(0, len(logits), step))
        ends = torch.tensor([*starts, len(logits)], device=self.rows.device)
        bounds = torch.searchsorted(self.rows, ends).tolist()
        for start, first, last in zip(starts, bounds, bounds[1:], strict=False):
            yield slice(start, start + step), (self.rows[first:last] - start, self.classes[first:last])

    def at_targets(self, logits: Tensor) -> Tensor:
        return (self.positives(logits, self.rows, self.classes) * self.row_weights[self.rows]).sum()

    def slopes(self, logits: Tensor) -> Tensor:
        """Return the derivatives [P] at the targets."""
        with torch.enable_grad():
            targets = logits[self.rows, self.classes].detach().requires_grad_()
            return torch.autograd.grad(self.at_targets(targets), targets)[0]

    def fill(self, logits: Tensor, gradient: Tensor | None, *, value: bool) -> Tensor:
        """Write the derivatives into ``gradient``; return the losses of each class's negatives [C], if asked."""
        kind, by_class = self.negatives, torch.zeros_like(logits[:0].sum(dim=0))
        row_weights = self.row_weights * kind.slope
        if not isinstance(kind.scale, Tensor):
            row_weights = row_weights * kind.scale
        for chunk, targets in self.chunks(logits):
            scores = kind.scores(logits[chunk])
            losses = softplus(scores) if value or not _is(kind.gamma, 0) else None
            probability = torch.sigmoid(scores, out=None if gradient is None else gradient[chunk])
            power = _power(scores, probability, losses, kind.gamma)
            if gradient is not None:
                derivatives = _derivatives(probability, losses, power, kind.gamma)
                if isinstance(kind.scale, Tensor):
                    derivatives.mul_(kind.scale)
                derivatives.mul_(row_weights[chunk, None])
            if value:
                assert losses is not None
                losses = losses if power is None else losses.mul_(power)
                losses[targets] = 0
                by_class += losses.t().mv(self.row_weights[chunk])
        if gradient is not None:
            gradient[self.rows, self.classes] = self.slopes(logits)
        return by_class


class _DenseLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, logits: Tensor, entries: _Entries, wanted: bool) -> Tensor:
        gradient = torch.empty_like(logits) if wanted else None
        by_class = entries.fill(logits, gradient, value=True)
        ctx.save_for_backward(logits)  # type: ignore[attr-defined]
        ctx.entries, ctx.gradient = entries, gradient  # type: ignore[attr-defined]
        negatives = by_class.dot(entries.negatives.scales(logits))
        return negatives + entries.at_targets(logits[entries.rows, entries.classes])

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *output_gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        # The first time the gradient is given away, so it can be scaled in place; another time it is found anew.
        gradient: Tensor | None = ctx.gradient  # type: ignore[attr-defined]
        ctx.gradient = None  # type: ignore[attr-defined]
        if gradient is None:
            (logits,) = ctx.saved_tensors  # type: ignore[attr-defined]
            gradient = torch.empty_like(logits)
            ctx.entries.fill(logits, gradient, value=False)  # type: ignore[attr-defined]
        return gradient.mul_(output_gradient[0]), None, None


def _power(scores: Tensor, probability: Tensor, losses: Tensor | None, gamma: float | Tensor) -> Tensor | None:
    """Return p^gamma, None for gamma = 0."""
    if _is(gamma, 0):
        return None
    if _is(gamma, 2):  # cheaper as a product than as an exponential
        return probability.square()
    assert losses is not None
    return (scores - losses).mul_(gamma).exp_()  # log p = z - softplus(z)


def _derivatives(
    probability: Tensor, losses: Tensor | None, power: Tensor | None, gamma: float | Tensor
) -> Tensor:
    """Turn ``probability`` into the derivative p^gamma (p + gamma (1 - p) softplus(z)), in place."""
    if power is None:
        return probability
    assert losses is not None
    missing = 1 - probability
    if isinstance(gamma, Tensor):
        probability.add_(missing.mul_(losses).mul_(gamma))
    else:
        probability.addcmul_(missing, losses, value=gamma)
    return probability.mul_(power)


def _is(setting: float | Tensor, number: int) -> bool:
    return not isinstance(setting, Tensor) and setting == number
