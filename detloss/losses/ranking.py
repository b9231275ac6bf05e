"""Ranking losses on flat logits: AP, aLRP, Rank & Sort and NDCG, value and gradient exact and without a loop.

Every one is an error of the positives that looks at pairs of scores, and is updated by identity (Oksuz et al.,
"Rank & Sort Loss", ICCV 2021, section 3): the error of positive i is subtracted from its own gradient and
handed out to what causes it, in proportion. So a gradient is a sum over positives of what they blame, and
`StepSums` finds it, like the ranks, without comparing every pair. A batch without positives gives 0.
"""

import math

import torch
from torch import Tensor

from detloss.losses.known_gradient import with_gradient
from detloss.losses.quality_order import LowerQuality
from detloss.losses.step_sums import StepSums

AP_EPSILON = 0.0
ALRP_EPSILON = 1e-5
RANK_SORT_EPSILON = 1e-10
"""A positive blames others only when the step functions of these add up to more (authors' code)."""


def average_precision(logits: Tensor, labels: Tensor, delta: float = 1.0) -> Tensor:
    """Return 1 - AP, interpolated (AP loss; Chen et al., CVPR 2019).

    Args:
        logits: [M].
        labels: [M], 1 for positives, 0 for negatives; what else there is does not count.
        delta: half the width of the smoothed step; 0 is the hard step.
    """
    batch = _Ranking(logits.detach(), labels == 1, labels == 0, delta)
    if batch.empty:
        return logits.sum() * 0
    with torch.no_grad():
        own = batch.positives.over_values() - batch.own_step + 1
        precision = own / (own + batch.false_positives)
        order = batch.scores.argsort()
        # From the lowest-scored positive up, precision is the best so far.
        best = torch.empty_like(precision)
        best[order] = precision[order].cummax(0).values
        value, gradient = batch.updated(1 - best, AP_EPSILON)
    return with_gradient(logits, _scalar(value, logits), gradient)


def alrp(logits: Tensor, labels: Tensor, localisation_errors: Tensor, delta: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return classification and localisation error of average LRP (Oksuz et al., NeurIPS 2020, eq. 9-11).

    The gradient of the first with respect to a positive's logit holds the localisation errors of the positives
    above it, too. The second orders positives by the hard step, and divides by the smoothed rank.

    Args:
        logits: [M].
        labels: [M], 1 for positives, 0 for negatives; what else there is does not count.
        localisation_errors: [P], of the positives in their order among the logits, with gradient.
        delta: half the width of the smoothed step; 0 is the hard step.
    """
    batch = _Ranking(logits.detach(), labels == 1, labels == 0, delta)
    if batch.empty:
        return logits.sum() * 0, localisation_errors.sum() * 0
    with torch.no_grad():
        errors = localisation_errors.detach().double()
        rank = batch.positives.over_values() - batch.own_step + 1 + batch.false_positives
        others = batch.positives.over_values(errors) - batch.own_step * errors
        _, gradient = batch.updated((others + batch.false_positives) / rank, ALRP_EPSILON)
        value = (batch.false_positives / rank).mean()
        order = batch.scores.argsort(stable=True).flip(0)
    above = localisation_errors[order].double().cumsum(0) / rank[order]
    classification = with_gradient(logits, _scalar(value, logits), gradient)
    return classification, above.mean().to(localisation_errors.dtype)


def rank_sort(logits: Tensor, targets: Tensor, delta: float = 0.5) -> tuple[Tensor, Tensor]:
    """Return ranking and sorting error of Rank & Sort (Oksuz et al., ICCV 2021, eq. 7-9); their sum is the loss.

    Args:
        logits: [M].
        targets: [M], above 0 the quality (IoU) of a positive, 0 for negatives; what is below does not count.
        delta: half the width of the smoothed step; 0 is the hard step.
    """
    batch = _Ranking(logits.detach(), targets > 0, targets == 0, delta)
    if batch.empty:
        return logits.sum() * 0, logits.sum() * 0
    with torch.no_grad():
        own = batch.positives.over_values()
        ranking, gradient = batch.updated(batch.false_positives / (own + batch.false_positives), RANK_SORT_EPSILON)
        quality = targets[batch.rows].double()
        lower = LowerQuality(batch.scores, quality, delta)
        error, missorted = batch.positives.over_values(1 - quality), lower.over_lower(torch.ones_like(quality))
        # The target order leaves out the positives of lower quality.
        target = (error - lower.over_lower(1 - quality)) / (own - missorted)
        sorting = error / own - target
        blamed = torch.where(missorted > RANK_SORT_EPSILON, sorting, 0.0)
        slopes = lower.over_higher(blamed / missorted.clamp(min=RANK_SORT_EPSILON)) - blamed
        slopes = (slopes / len(slopes)).to(logits.dtype)
    positive = logits[batch.rows]
    return (
        with_gradient(logits, _scalar(ranking, logits), gradient),
        with_gradient(positive, _scalar(sorting.mean(), logits), slopes),
    )


def ndcg(logits: Tensor, targets: Tensor, delta: float = 0.5) -> Tensor:
    """Return 1 - NDCG (Jarvelin and Kekalainen, TOIS 2002) of gains 2^quality - 1 at smoothed ranks.

    The error of positive i is what it lacks of its discounted gain at its ideal rank, as a share of all ideal
    gain. At that rank all of higher quality stand above it, and of equal quality those that do so now: they count
    as sorted. What i lacks is blamed on the negatives and the positives of lower quality that reach it. What it
    has too much of blames nobody: it is missing elsewhere.

    Args:
        logits: [M].
        targets: [M], above 0 the quality (IoU) of a positive, 0 for negatives; what is below does not count.
        delta: half the width of the smoothed step; 0 is the hard step.
    """
    batch = _Ranking(logits.detach(), targets > 0, targets == 0, delta)
    if batch.empty:
        return logits.sum() * 0
    with torch.no_grad():
        quality = targets[batch.rows].double()
        levels, level, counts = quality.unique(return_inverse=True, return_counts=True)
        better = len(quality) - counts.cumsum(0)[level]
        equal = StepSums(batch.scores, batch.scores, delta, (level, level)).over_values()
        # Ranks are 1, 2, ... where scores are at least delta apart.
        ideal_rank = better + equal - batch.own_step + 1
        rank = batch.positives.over_values() - batch.own_step + 1 + batch.false_positives
        gain = torch.expm1(levels * math.log(2))[level]  # 2^q - 1, above 0 for the smallest q, too
        ideal = gain / torch.log2(1 + ideal_rank)
        errors = (ideal - gain / torch.log2(1 + rank)) / ideal.sum()
        lower = LowerQuality(batch.scores, quality, delta)
        causes = batch.false_positives + lower.over_lower(torch.ones_like(quality))
        blamed = torch.where(causes > RANK_SORT_EPSILON, errors.clamp(min=0), 0.0)
        share = blamed / causes.clamp(min=RANK_SORT_EPSILON)
        gradient = torch.zeros_like(logits)
        gradient[batch.rows] = (lower.over_higher(share) - blamed).to(gradient.dtype)
        gradient[batch.relevant] = batch.negatives.over_thresholds(share)
    return with_gradient(logits, _scalar(errors.sum(), logits), gradient)


class _Ranking:
    """Positives against the negatives that reach the lowest of them."""

    def __init__(self, logits: Tensor, positive: Tensor, negative: Tensor, delta: float) -> None:
        self.logits = logits
        self.rows = torch.nonzero(positive).squeeze(1)
        self.empty = not len(self.rows)
        if self.empty:
            return
        self.scores = logits[self.rows].double()
        # What is below changes no sum; most negatives are.
        self.relevant = _places(negative & (logits >= self.scores.min() - delta))
        self.positives = StepSums(self.scores, self.scores, delta)
        self.negatives = StepSums(self.scores, logits[self.relevant], delta)
        self.false_positives = self.negatives.over_values()
        self.own_step = 0.5 if delta else 1.0

    def updated(self, errors: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
        """Return the mean of errors [P], and its gradient [M]: each error is blamed on the negatives above it."""
        blamed = torch.where(self.false_positives > epsilon, errors, 0.0)
        blamed /= len(errors)
        share = blamed / self.false_positives.where(self.false_positives > epsilon, 1.0)
        gradient = torch.zeros_like(self.logits)
        gradient[self.rows] = -blamed.to(gradient.dtype)
        gradient[self.relevant] = self.negatives.over_thresholds(share)
        return errors.mean(), gradient


def _places(mask: Tensor) -> Tensor | slice:
    """Return where ``mask`` [M] is true; a slice, which copies nothing, where that is all of its end."""
    count = int(mask.sum())
    if mask[len(mask) - count :].all():
        return slice(len(mask) - count, len(mask))
    return torch.nonzero(mask).squeeze(1)


def _scalar(value: Tensor, logits: Tensor) -> Tensor:
    """Return ``value`` in the type of ``logits``, but at least float32."""
    return value.to(torch.promote_types(logits.dtype, torch.float32))
