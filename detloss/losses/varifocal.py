"""Varifocal loss (Zhang et al., "VarifocalNet", CVPR 2021)."""

import torch
from torch import Tensor

from detloss.losses.base import ClassLoss
from detloss.losses.coder import Sigmoid
from detloss.losses.dense import Negatives, dense_loss
from detloss.losses.entries import at_least_float32, soft_binary_cross_entropy
from detloss.stats import ClassStats


class Varifocal(ClassLoss):
    """q BCE(p, q) for positives, whose IoU is q, and alpha p^gamma BCE(p, 0) elsewhere; C logits, no background.

    A positive with q = 0 counts as a negative, as in the authors' code. ``quality`` None means q = 1.
    """

    def __init__(self, stats: ClassStats, *, gamma: float = 2.0, alpha: float = 0.75) -> None:
        super().__init__()
        self.gamma = gamma
        self.alpha = alpha
        self.coder = Sigmoid(stats.num_classes)

    def forward(
        self, logits: Tensor, labels: Tensor, weights: Tensor | None = None, quality: Tensor | None = None
    ) -> Tensor:
        logits = at_least_float32(logits)
        if quality is None:
            quality = logits.new_ones(len(logits))
        else:
            quality = quality.to(logits.dtype)
            labels = torch.where(quality > 0, labels, self.coder.num_classes)

        def positives(targets: Tensor, rows: Tensor, classes: Tensor) -> Tensor:
            return quality[rows] * soft_binary_cross_entropy(targets, quality[rows])

        return dense_loss(logits, labels, weights, Negatives(self.gamma, self.alpha), positives)
