"""Equalization loss (Tan et al., "Equalization Loss for Long-Tailed Object Recognition", CVPR 2020)."""

import torch
from torch import Tensor

from detloss.losses.base import ClassLoss
from detloss.losses.coder import Sigmoid
from detloss.losses.entries import at_least_float32, binary_cross_entropy, keep_targets, weighted_sum
from detloss.stats import ClassStats

PRIOR = 0.001
"""Probability of every class at the start, in the authors' code."""


class EQL(ClassLoss):
    """Binary cross entropy in which foreground rows do not discourage tail classes.

    Tail classes are those on less than ``tail_fraction`` of the annotated images: 1.77e-3 as the paper has it
    for LVIS v0.5, 1.1e-3 in the authors' code for v1. Background rows discourage every class. C logits.
    """

    tail: Tensor

    def __init__(self, stats: ClassStats, *, tail_fraction: float = 0.00177) -> None:
        super().__init__()
        self.coder = Sigmoid(stats.num_classes, PRIOR)
        self.register_buffer("tail", torch.from_numpy(stats.tail(tail_fraction)))

    def forward(
        self, logits: Tensor, labels: Tensor, weights: Tensor | None = None, quality: Tensor | None = None
    ) -> Tensor:
        logits = at_least_float32(logits)
        foreground = labels < self.coder.num_classes
        kept = keep_targets(~(foreground[:, None] & self.tail), labels)
        return weighted_sum(binary_cross_entropy(logits, labels) * kept, weights)
