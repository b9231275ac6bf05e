"""Seesaw loss (Wang et al., "Seesaw Loss for Long-Tailed Instance Segmentation", CVPR 2021)."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from detloss.distributed import sum_over_ranks
from detloss.losses.base import ClassLoss
from detloss.losses.coder import SoftmaxWithObjectness
from detloss.losses.entries import at_least_float32
from detloss.stats import ClassStats


class Seesaw(ClassLoss):
    """Cross entropy of the foreground with S_ij = M_ij C_ij on the negatives, plus that of objectness.

    The mitigation factor M_ij = min(1, N_j / N_i)^p is made of labels seen so far, this batch and all
    ranks included; a class not seen counts as 1. The compensation factor C_ij = max(1, sigma_j / sigma_i)^q
    is constant in the gradient, with sigma_i at least ``eps``. C + 2 logits: classes, foreground, background.
    p = q = 0 is cross entropy.
    """

    counts: Tensor

    def __init__(self, stats: ClassStats, *, p: float = 0.8, q: float = 2.0, eps: float = 0.01) -> None:
        super().__init__()
        self.p = p
        self.q = q
        self.eps = eps
        self.coder = SoftmaxWithObjectness(stats.num_classes)
        self.register_buffer("counts", torch.zeros(stats.num_classes, dtype=torch.float64))

    def forward(
        self, logits: Tensor, labels: Tensor, weights: Tensor | None = None, quality: Tensor | None = None
    ) -> Tensor:
        if self.training:
            self._count(labels if weights is None else labels[weights > 0])
        logits = at_least_float32(logits)
        rows = torch.nonzero(labels < self.coder.num_classes).squeeze(1)
        classes, targets = logits[rows, :-2], labels[rows]
        class_loss = F.cross_entropy(
            classes + self._log_factors(classes.detach(), targets), targets, reduction="none"
        )
        objectness_loss = F.cross_entropy(
            logits[:, -2:], (labels == self.coder.num_classes).long(), reduction="none"
        )
        if weights is None:
            return class_loss.sum() + objectness_loss.sum()
        return (class_loss * weights[rows]).sum() + (objectness_loss * weights).sum()

    def state_scalars(self) -> dict[str, float]:
        return {"classes_seen": float((self.counts > 0).sum())}

    @torch.no_grad()
    def _count(self, labels: Tensor) -> None:
        seen = torch.bincount(labels, minlength=self.coder.num_classes + 1)[: self.coder.num_classes]
        self.counts += sum_over_ranks(seen.double())

    def _log_factors(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return log(M_ij C_ij) [P, C], which is 0 at the target itself."""
        log_counts = self.counts.clamp(min=1).log().to(logits.dtype)
        log_scores = logits.log_softmax(dim=1)
        own = log_scores.gather(1, targets[:, None]).clamp(min=math.log(self.eps))
        mitigation = self.p * (log_counts - log_counts[targets, None]).clamp(max=0)
        compensation = self.q * (log_scores - own).clamp(min=0)
        return mitigation + compensation
