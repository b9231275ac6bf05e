"""Focal loss (Lin et al., ICCV 2017)."""

import torch
from torch import Tensor

from detloss.losses.base import ClassLoss
from detloss.losses.coder import Sigmoid
from detloss.losses.dense import Negatives, dense_loss
from detloss.losses.entries import at_least_float32, softplus
from detloss.stats import ClassStats


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
        return dense_loss(
            at_least_float32(logits),
            labels,
            weights,
            Negatives(self.gamma, 1 - self.alpha),
            lambda positive, rows, classes: self.alpha * focal_positive(positive, self.gamma),
        )


def focal_positive(logits: Tensor, gamma: float | Tensor) -> Tensor:
    """Return (1 - p)^gamma (-log p) for logits [P] of targets."""
    cost = softplus(-logits)
    # 1 - p = sigma(-z) = exp(-softplus(z)), a power that is finite with its derivative for every z.
    return cost * torch.exp(-gamma * softplus(logits))
