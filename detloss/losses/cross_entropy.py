"""Softmax cross entropy over classes and background."""

from torch import Tensor
from torch.nn import functional as F

from detloss.losses.base import ClassLoss
from detloss.losses.coder import Softmax
from detloss.losses.entries import at_least_float32, weighted_rows
from detloss.stats import ClassStats


class CrossEntropy(ClassLoss):
    """-log softmax(logits)[label], as Fast R-CNN (ICCV 2015) classifies; C + 1 logits, background last."""

    def __init__(self, stats: ClassStats) -> None:
        super().__init__()
        self.coder = Softmax(stats.num_classes)

    def forward(
        self, logits: Tensor, labels: Tensor, weights: Tensor | None = None, quality: Tensor | None = None
    ) -> Tensor:
        rows = F.cross_entropy(at_least_float32(logits), labels, reduction="none")
        return weighted_rows(rows, weights)
