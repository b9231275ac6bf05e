"""What a ranking loss compares: the entries of a head's logits that are ranked together.

A head's [N, C] logits are one list: the entry of a foreground row at its class is a positive, every other one of
a row that counts is a negative. Only the negatives that reach the lowest positive change anything, so those
alone are picked out, and nothing of the size N x C is made but what finds them.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from detloss.distributed import from_every_rank, rank, world_size
from detloss.losses.entries import at_least_float32
from detloss.losses.samples import Samples

Scope = Literal["image", "batch", "global"]
"""Who is ranked together: each image by itself (the loss is their mean), this rank's batch, that of all ranks."""


@dataclass
class Ranked:
    """P positives and, behind them, the K negatives that reach the lowest of them.

    Attributes:
        logits: [P + K], with gradient.
        targets: [P + K], the quality of a positive, above 0, and 0 for a negative.
        errors: [P], of the positives, with gradient.
    """

    logits: Tensor
    targets: Tensor
    errors: Tensor


def ranked_together(
    samples: Samples, *, scope: Scope, delta: float, quality: Tensor | None = None, errors: Tensor | None = None
) -> list[Ranked]:
    """Return what is ranked together: one item, or one per image.

    Args:
        delta: how far below the lowest positive a negative still counts.
        quality: [P], of the foreground; where it is 0, the row's class is a negative. None means 1.
        errors: [P], of the foreground, with gradient. None means 0.
    """
    if scope not in get_args(Scope):
        raise ValueError(f"scope={scope}: expected {', '.join(get_args(Scope))}")
    logits = at_least_float32(samples.logits)
    columns = logits.shape[1]
    entries = samples.foreground * columns + samples.labels[samples.foreground]
    quality = logits.new_ones(len(entries)) if quality is None else quality.to(logits.dtype)
    errors = torch.zeros_like(quality) if errors is None else errors
    chosen = entries.argsort()
    chosen = chosen[quality[chosen] > 0]
    entries, quality, errors = entries[chosen], quality[chosen], errors[chosen]
    if scope == "global":
        return [_of_every_rank(logits, samples, entries, quality, errors, delta)]

    flat = logits.flatten()
    group = samples.image_index if scope == "image" else torch.zeros_like(samples.labels)
    owners = group[entries // columns]
    groups = int(group.max()) + 1 if scope == "image" and len(group) else 1
    lowest = flat.new_full((groups,), torch.inf).scatter_reduce(0, owners, flat.detach()[entries], "amin")
    negatives = _reaching(logits, samples, (lowest - delta)[group], entries)
    picked = pick(flat, torch.cat([entries, negatives]))
    targets = torch.cat([quality, quality.new_zeros(len(negatives))])
    if scope == "batch":
        return [Ranked(picked, targets, errors)]
    owners = torch.cat([owners, group[negatives // columns]])
    rows = [torch.nonzero(owners == image).squeeze(1) for image in (group.unique().tolist() or [0])]
    return [Ranked(pick(picked, own), targets[own], errors[own[own < len(entries)]]) for own in rows]


def mean_of(values: list[Tensor]) -> Tensor:
    """Return the mean of scalars."""
    return values[0] if len(values) == 1 else torch.stack(values).mean()


def pick(values: Tensor, index: Tensor, gradient_factor: float = 1.0) -> Tensor:
    """Return ``values[index]``, where no index occurs twice, which makes the backward pass a plain assignment.

    The gradient is multiplied by ``gradient_factor``.
    """
    picked: Tensor = _Pick.apply(values, index, gradient_factor)
    return picked


def _reaching(logits: Tensor, samples: Samples, thresholds: Tensor, positives: Tensor) -> Tensor:
    """Return the entries [K] at or above their row's threshold [N] that are neither positive nor ignored."""
    thresholds = thresholds.masked_fill(samples.weights == 0, torch.inf)
    reaching = (logits.detach() >= thresholds[:, None]).flatten()
    reaching[positives] = False
    return torch.nonzero(reaching).squeeze(1)


def _of_every_rank(
    logits: Tensor, samples: Samples, entries: Tensor, quality: Tensor, errors: Tensor, delta: float
) -> Ranked:
    """Return the entries of all ranks, with gradient to those of this one.

    Data-parallel training averages gradients over the ranks, so this rank's is multiplied by their number.
    """
    mine, ranks, flat = rank(), world_size(), logits.flatten()
    facts = torch.stack([flat.detach()[entries].double(), quality.double(), errors.detach().double()], dim=1)
    everywhere = from_every_rank(facts)
    scores = torch.cat(everywhere)[:, 0]
    lowest = scores.min() if len(scores) else scores.new_tensor(torch.inf)
    thresholds = (lowest - delta).to(flat.dtype).expand(len(samples.labels))
    negatives = _reaching(logits, samples, thresholds, entries)
    own = pick(flat, torch.cat([entries, negatives]), ranks).split([len(entries), len(negatives)])
    positive_logits = [facts[:, 0].to(flat.dtype) for facts in everywhere]
    negative_logits = from_every_rank(own[1].detach())
    positive_logits[mine], negative_logits[mine] = own
    all_errors = [facts[:, 2].to(errors.dtype) for facts in everywhere]
    all_errors[mine] = pick(errors, torch.arange(len(errors), device=errors.device), ranks)
    qualities = [facts[:, 1].to(quality.dtype) for facts in everywhere]
    zeros = [torch.zeros_like(part.detach()) for part in negative_logits]
    return Ranked(
        torch.cat(positive_logits + negative_logits), torch.cat(qualities + zeros), torch.cat(all_errors)
    )


class _Pick(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor, index: Tensor, factor: float) -> Tensor:
        ctx.save_for_backward(index)  # type: ignore[attr-defined]
        ctx.size, ctx.factor = len(values), factor  # type: ignore[attr-defined]
        return values[index]

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (index,) = ctx.saved_tensors  # type: ignore[attr-defined]
        factor: float = ctx.factor  # type: ignore[attr-defined]
        gradient = gradients[0].new_zeros(ctx.size)  # type: ignore[attr-defined]
        gradient[index] = gradients[0] if factor == 1 else gradients[0] * factor
        return gradient, None, None
