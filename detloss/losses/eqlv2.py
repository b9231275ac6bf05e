"""Equalization loss v2 (Tan et al., "Equalization Loss v2", CVPR 2021)."""

import torch
from torch import Tensor

from detloss.distributed import sum_over_ranks
from detloss.losses.base import ClassLoss
from detloss.losses.coder import SigmoidWithObjectness
from detloss.losses.entries import at_least_float32, binary_cross_entropy, positive_entries, softplus, weighted_sum
from detloss.stats import ClassStats

FIRST_RATIO = 100.0
"""Gradient ratio before any gradient is known; it makes every weight 1."""


class EQLv2(ClassLoss):
    """Binary cross entropy, negatives weighted by f(g_c) and positives by 1 + alpha (1 - f(g_c)).

    f(g) = 1 / (1 + e^(-gamma (g - mu))), and g_c is the ratio of the positive to the negative gradient that
    class c has received so far, weights included, never decayed, summed over all ranks. The last of the C + 1
    logits is background, not weighted; a score is sigma(z_c) (1 - sigma(z_bg)).
    """

    positive_gradient: Tensor
    negative_gradient: Tensor
    ratio: Tensor

    def __init__(self, stats: ClassStats, *, gamma: float = 12.0, mu: float = 0.8, alpha: float = 4.0) -> None:
        super().__init__()
        self.gamma = gamma
        self.mu = mu
        self.alpha = alpha
        self.coder = SigmoidWithObjectness(stats.num_classes)
        for name in ("positive_gradient", "negative_gradient"):
            self.register_buffer(name, torch.zeros(stats.num_classes, dtype=torch.float64))
        self.register_buffer("ratio", torch.full((stats.num_classes,), FIRST_RATIO, dtype=torch.float64))

    def forward(
        self, logits: Tensor, labels: Tensor, weights: Tensor | None = None, quality: Tensor | None = None
    ) -> Tensor:
        logits = at_least_float32(logits)
        mapped = torch.sigmoid(self.gamma * (self.ratio - self.mu)).to(logits.dtype)
        negative = torch.cat([mapped, mapped.new_ones(1)])
        positive = 1 + self.alpha * (1 - negative)
        if self.training:
            self._collect(logits.detach(), labels, weights, positive, negative)
        rows, columns = positive_entries(labels, logits.shape[1])
        losses = binary_cross_entropy(logits, labels) * negative
        # positive / negative would be endless where f(g) is 0, so the targets are written anew.
        targets = positive[columns] * softplus(-logits[rows, columns])
        return weighted_sum(losses.index_put((rows, columns), targets), weights)

    def state_scalars(self) -> dict[str, float]:
        seen = self.ratio[self.negative_gradient > 0]
        return {"gradient_ratio_min": float(seen.min()) if len(seen) else FIRST_RATIO}

    @torch.no_grad()
    def _collect(
        self, logits: Tensor, labels: Tensor, weights: Tensor | None, positive: Tensor, negative: Tensor
    ) -> None:
        """Add the gradients of this batch; a row counts whole or, with weight 0, not at all."""
        scores = logits.sigmoid()
        if weights is not None:
            scores *= (weights > 0)[:, None]
        rows, columns = positive_entries(labels, logits.shape[1])
        missing = (-logits[rows, columns]).sigmoid()
        if weights is not None:
            missing *= weights[rows] > 0
        scores[rows, columns] = 0
        pushed_down = scores.sum(dim=0) * negative
        pushed_up = torch.zeros_like(pushed_down).index_add_(0, columns, missing) * positive
        both = sum_over_ranks(torch.stack([pushed_up, pushed_down])[:, :-1].double())
        self.positive_gradient += both[0]
        self.negative_gradient += both[1]
        known = self.positive_gradient + self.negative_gradient > 0  # a batch of ignored rows says nothing
        ratio = self.positive_gradient / (self.negative_gradient + 1e-10)
        self.ratio.copy_(ratio.where(known, self.ratio))
