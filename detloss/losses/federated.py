"""Federated loss (Zhou et al., "Probabilistic two-stage detection", arXiv 2103.07461)."""

import torch
from torch import Tensor

from detloss import margins
from detloss.losses.base import ClassLoss
from detloss.losses.coder import Sigmoid
from detloss.losses.entries import at_least_float32, binary_cross_entropy, weighted_sum
from detloss.stats import ClassStats


class Federated(ClassLoss):
    """Binary cross entropy over the classes of the batch and some negative ones; C logits, no background.

    Per batch, negative classes are drawn with probability proportional to their images^power until there are
    ``num_classes`` with those present, background included, as in the authors' code.
    """

    class_weight: Tensor

    def __init__(self, stats: ClassStats, *, num_classes: int = 50, power: float = 0.5) -> None:
        super().__init__()
        self.num_sampled = num_classes
        self.coder = Sigmoid(stats.num_classes)
        self.register_buffer("class_weight", torch.from_numpy(margins.sampling_weights(stats.images, power)))

    def forward(
        self, logits: Tensor, labels: Tensor, weights: Tensor | None = None, quality: Tensor | None = None
    ) -> Tensor:
        logits = at_least_float32(logits)
        kept = torch.zeros(self.coder.num_classes + 1, dtype=logits.dtype, device=logits.device)
        kept[self.sample_classes(labels if weights is None else labels[weights > 0])] = 1
        return weighted_sum(binary_cross_entropy(logits, labels) * kept[:-1], weights)

    def sample_classes(self, labels: Tensor) -> Tensor:
        """Return the classes that take part [K]: those in ``labels``, C for background, and the drawn ones."""
        present = labels.unique()
        chance = torch.cat([self.class_weight, self.class_weight.new_zeros(1)])
        chance[present] = 0
        missing = min(self.num_sampled - len(present), int((chance > 0).sum()))
        if missing <= 0:
            return present
        return torch.cat([present, torch.multinomial(chance, missing, replacement=False)])
