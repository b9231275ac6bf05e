"""Sigmoid binary cross entropy."""

from torch import Tensor

from detloss.losses.base import ClassLoss
from detloss.losses.coder import Sigmoid
from detloss.losses.dense import Negatives, dense_loss
from detloss.losses.entries import at_least_float32, softplus
from detloss.stats import ClassStats


class BinaryCrossEntropy(ClassLoss):
    """Independent binary cross entropy per class, summed over the classes; C logits, no background."""

    def __init__(self, stats: ClassStats) -> None:
        super().__init__()
        self.coder = Sigmoid(stats.num_classes)

    def forward(
        self, logits: Tensor, labels: Tensor, weights: Tensor | None = None, quality: Tensor | None = None
    ) -> Tensor:
        logits = at_least_float32(logits)
        return dense_loss(logits, labels, weights, Negatives(), lambda targets, rows, classes: softplus(-targets))
