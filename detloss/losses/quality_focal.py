"""Quality focal loss (Li et al., "Generalized Focal Loss", NeurIPS 2020)."""

from torch import Tensor

from detloss.losses.base import ClassLoss
from detloss.losses.coder import Sigmoid
from detloss.losses.dense import Negatives, dense_loss
from detloss.losses.entries import at_least_float32, soft_binary_cross_entropy
from detloss.stats import ClassStats


class QualityFocal(ClassLoss):
    """|q - p|^beta BCE(p, q), where the target q is a positive's IoU and 0 elsewhere; C logits, no background.

    The gradient also flows through |q - p|, as in the authors' code. ``quality`` None means q = 1, focal loss
    without alpha.
    """

    def __init__(self, stats: ClassStats, *, beta: float = 2.0) -> None:
        super().__init__()
        self.beta = beta
        self.coder = Sigmoid(stats.num_classes)

    def forward(
        self, logits: Tensor, labels: Tensor, weights: Tensor | None = None, quality: Tensor | None = None
    ) -> Tensor:
        logits = at_least_float32(logits)
        wanted = logits.new_ones(len(logits)) if quality is None else quality.to(logits.dtype)

        def positives(targets: Tensor, rows: Tensor, classes: Tensor) -> Tensor:
            distance = (wanted[rows] - targets.sigmoid()).abs()
            return distance**self.beta * soft_binary_cross_entropy(targets, wanted[rows])

        return dense_loss(logits, labels, weights, Negatives(self.beta), positives)
