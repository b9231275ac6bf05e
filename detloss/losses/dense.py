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

CHUNK = 1 << 18
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

    def scores(self, logits: Tensor, out: Tensor | None = None) -> Tensor:
        """Return z -> slope z + shift, which may be the logits themselves."""
        if self.slope == 1 and _is(self.shift, 0):
            return logits
        shift = torch.as_tensor(self.shift, dtype=logits.dtype, device=logits.device)
        return torch.add(shift, logits, alpha=self.slope, out=out)

    def scales(self, logits: Tensor) -> Tensor:
        """Return ``scale`` as [C]."""
        return torch.as_tensor(self.scale, dtype=logits.dtype, device=logits.device).expand(logits.shape[1])

    @property
    def factor(self) -> float | Tensor:
        """What ``_derivatives`` leaves out: a number, or per class, [C]."""
        return self.slope * self.scale * (1.0 if _is(self.gamma, 0) else self.gamma)


Positives = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From the logits, rows and classes [P] of the targets to their losses [P], by autograd's operations."""


def dense_loss(
    logits: Tensor, labels: Tensor, weights: Tensor | None, negatives: Negatives, positives: Positives
) -> Tensor:
    """Return the weighted sum over rows and classes of ``positives`` at targets and ``negatives`` elsewhere."""
    logits = logits.contiguous()
    entries = _Entries.of(logits, labels, weights, negatives)
    wanted = torch.is_grad_enabled() and logits.requires_grad
    value, targets = _SplitLoss.apply(logits, entries, wanted)
    losses = positives(targets, entries.rows, entries.classes)
    total: Tensor = value + losses.dot(entries.row_weights[entries.rows])
    return total


@torch.no_grad()
def gradient_by_class(
    logits: Tensor, labels: Tensor, weights: Tensor | None, negatives: Negatives, positives: Positives
) -> tuple[Tensor, Tensor]:
    """Return how hard ``dense_loss`` pulls at each class's targets and pushes its other entries, both [C].

    They are sums of the gradient's magnitudes, provided that no target is pushed and no other entry pulled.
    """
    logits = logits.contiguous()
    entries = _Entries.of(logits, labels, weights, negatives)
    with torch.enable_grad():
        targets = logits[entries.rows, entries.classes].detach().requires_grad_()
        losses = positives(targets, entries.rows, entries.classes)
        (slopes,) = torch.autograd.grad(losses, targets, entries.row_weights[entries.rows])
    pulled = torch.zeros_like(logits[:0].sum(dim=0)).index_add_(0, entries.classes, -slopes)
    pushed = torch.zeros_like(pulled)
    for chunk, targets in entries.chunks(logits):
        scores = negatives.scores(logits[chunk])
        softened = None if _is(negatives.gamma, 0) else softplus(scores)
        probability, power = _probability(scores, softened, negatives.gamma)
        derivatives = _derivatives(probability, softened, power, negatives.gamma)
        derivatives.view(-1)[targets] = 0
        pushed += derivatives.t().mv(entries.row_weights[chunk])
    return pulled, pushed * negatives.factor


@dataclass(frozen=True)
class _Entries:
    """The targets' rows and classes [P], the row weights [N], and what the loss asks of the entries."""

    rows: Tensor
    classes: Tensor
    row_weights: Tensor
    negatives: Negatives

    @classmethod
    def of(cls, logits: Tensor, labels: Tensor, weights: Tensor | None, negatives: Negatives) -> "_Entries":
        row_weights = logits.new_ones(len(logits)) if weights is None else weights.to(logits.dtype)
        return cls(*positive_entries(labels, logits.shape[1]), row_weights, negatives)

    def chunks(self, logits: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield slices of rows, and the places of the targets among the entries there, read row by row."""
        step = max(1, (CHUNK if logits.device.type == "cpu" else GPU_CHUNK) // logits.shape[1])
        starts = range(0, len(logits), step)
        counts = torch.bincount(self.rows // step, minlength=len(starts)).tolist()
        places = (self.rows % step * logits.shape[1] + self.classes).split(counts)
        for start, targets in zip(starts, places, strict=True):
            yield slice(start, start + step), targets

    def fill(self, logits: Tensor, gradient: Tensor | None, *, value: bool) -> Tensor:
        """Return the losses of each class's negatives [C], if asked, and write their derivatives into
        ``gradient``, before row weights and any number that they all share."""
        kind, by_class = self.negatives, torch.zeros_like(logits[:0].sum(dim=0))
        factor = kind.factor
        for chunk, targets in self.chunks(logits):
            place = None if gradient is None else gradient[chunk]
            scores = kind.scores(logits[chunk], out=place)
            losses = softplus(scores) if value or not _is(kind.gamma, 0) else None
            probability, power = _probability(scores, losses, kind.gamma, out=place)
            if gradient is not None:
                derivatives = _derivatives(probability, losses, power, kind.gamma)
                if isinstance(factor, Tensor):
                    derivatives.mul_(factor)
            if value:
                assert losses is not None
                losses = losses if power is None else losses.mul_(power)
                losses.view(-1)[targets] = 0
                by_class.addmv_(losses.t(), self.row_weights[chunk])
        return by_class

    def finish(self, gradient: Tensor, outer: Tensor, at_targets: Tensor) -> Tensor:
        """Turn what ``fill`` wrote into the gradient, in place: times ``outer``, and ``at_targets`` [P] there."""
        factor = self.negatives.factor
        weights = self.row_weights * (outer if isinstance(factor, Tensor) else outer * factor)
        gradient.mul_(weights[:, None])
        gradient[self.rows, self.classes] = at_targets
        return gradient


class _SplitLoss(torch.autograd.Function):
    """From the logits to the loss of all but the targets, and the logits [P] of the targets."""

    @staticmethod
    def forward(ctx: FunctionCtx, logits: Tensor, entries: _Entries, wanted: bool) -> tuple[Tensor, Tensor]:
        gradient = torch.empty_like(logits) if wanted else None
        by_class = entries.fill(logits, gradient, value=True)
        ctx.save_for_backward(logits)  # type: ignore[attr-defined]
        ctx.entries, ctx.gradient = entries, gradient  # type: ignore[attr-defined]
        return by_class.dot(entries.negatives.scales(logits)), logits[entries.rows, entries.classes]

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *output_gradients: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        # The first time the gradient is given away, so it can be scaled in place; another time it is found anew.
        entries, gradient = ctx.entries, ctx.gradient  # type: ignore[attr-defined]
        ctx.gradient = None  # type: ignore[attr-defined]
        if gradient is None:
            (logits,) = ctx.saved_tensors  # type: ignore[attr-defined]
            gradient = torch.empty_like(logits)
            entries.fill(logits, gradient, value=False)
        return entries.finish(gradient, *output_gradients), None, None


def _probability(
    scores: Tensor, losses: Tensor | None, gamma: float | Tensor, out: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Return p and p^gamma, None for gamma = 0; ``out`` may be where the scores are."""
    if _is(gamma, 0):
        return torch.sigmoid(scores, out=out), None
    if _is(gamma, 2):  # cheaper as a product than as an exponential
        probability = torch.sigmoid(scores, out=out)
        return probability, probability.square()
    assert losses is not None
    power = (scores - losses).mul_(gamma).exp_()  # log p = z - softplus(z)
    return torch.sigmoid(scores, out=out), power


def _derivatives(
    probability: Tensor, losses: Tensor | None, power: Tensor | None, gamma: float | Tensor
) -> Tensor:
    """Turn ``probability`` into the derivative p^gamma (p + gamma (1 - p) softplus(z)) over gamma, in place.

    That is p^gamma times the point a share p of the way from softplus(z) to 1 / gamma. Without gamma it is p.
    """
    if power is None:
        return probability
    assert losses is not None
    end = torch.as_tensor(1 / gamma, dtype=losses.dtype, device=losses.device)
    return torch.lerp(losses, end, probability, out=probability).mul_(power)


def _is(setting: float | Tensor, number: int) -> bool:
    return not isinstance(setting, Tensor) and setting == number
