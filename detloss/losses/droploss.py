"""DropLoss (Hsieh et al., "DropLoss for Long-Tail Instance Segmentation", AAAI 2021)."""

import torch
from torch import Tensor

from detloss.losses.base import ClassLoss
from detloss.losses.coder import Sigmoid
from detloss.losses.entries import at_least_float32, binary_cross_entropy, keep_targets, weighted_sum
from detloss.losses.eql import PRIOR
from detloss.stats import ClassStats


class DropLoss(ClassLoss):
    """EQL, with which background rows, too, spare tail classes, by chance.

    An entry of a background row and a tail class is dropped with probability 1 - s, where s is the share of
    tail classes among the foreground rows of the batch; a batch without foreground drops nothing. Tail classes
    are those on less than ``tail_fraction`` of the annotated images. C logits.
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
        counted = labels if weights is None else labels.where(weights > 0, self.coder.num_classes)
        kept = kept_entries(labels, self.tail, self.sample_dropped(counted))
        return weighted_sum(binary_cross_entropy(logits, labels) * kept, weights)

    def sample_dropped(self, labels: Tensor) -> Tensor:
        """Return which entries of rows [N] and the T tail classes are dropped if the row is background, [N, T]."""
        return sample_dropped(labels, self.tail)


def sample_dropped(labels: Tensor, tail: Tensor) -> Tensor:
    """Return [N, T], true with probability 1 - s, s the share of tail classes among the foreground rows."""
    # Without foreground the share is NaN, and nothing is greater.
    share = tail[labels[labels < len(tail)]].double().mean()
    return torch.rand(len(labels), int(tail.sum()), device=labels.device) > share


def kept_entries(labels: Tensor, tail: Tensor, dropped: Tensor) -> Tensor:
    """Return which of the entries [N, C] count: all but tail classes that are not the row's own.

    Foreground rows spare all of these, background rows those in ``dropped`` [N, T].
    """
    foreground = labels < len(tail)
    kept = torch.ones(len(labels), len(tail), dtype=torch.bool, device=labels.device)
    kept[:, tail] = ~(dropped | foreground[:, None])
    return keep_targets(kept, labels)
