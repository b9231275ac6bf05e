"""Inverse image frequency (Alexandridis et al., "Inverse Image Frequency for Long-tailed Image Recognition",
IEEE TIP 2023)."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from detloss import margins
from detloss.losses.base import ClassLoss
from detloss.losses.coder import ScaledSoftmax
from detloss.losses.entries import at_least_float32, weighted_rows
from detloss.stats import ClassStats


class IIF(ClassLoss):
    """Cross entropy of w_c z_c, where w_c grows with the rarity of class c, and w = 1 for background.

    ``variant`` is a function of the class's share of images, or of instances with ``count="instances"``:
    see `margins.inverse_frequency`. C + 1 logits; scores are softmax(w z).
    """

    multiplier: Tensor

    def __init__(
        self,
        stats: ClassStats,
        *,
        variant: str = "raw",
        count: Literal["images", "instances"] = "images",
    ) -> None:
        super().__init__()
        if count not in ("images", "instances"):
            raise ValueError(f"count must be images or instances, got {count}")
        if count == "images":
            weight = margins.inverse_frequency(stats.images, stats.num_images, variant)
        else:
            weight = margins.inverse_frequency(stats.instances, int(stats.instances.sum()), variant)
        multiplier = torch.cat([torch.from_numpy(weight), torch.ones(1, dtype=torch.float64)])
        self.coder = ScaledSoftmax(stats.num_classes, multiplier)
        self.register_buffer("multiplier", multiplier, persistent=False)

    def forward(
        self, logits: Tensor, labels: Tensor, weights: Tensor | None = None, quality: Tensor | None = None
    ) -> Tensor:
        logits = at_least_float32(logits)
        rows = F.cross_entropy(logits * self.multiplier.to(logits.dtype), labels, reduction="none")
        return weighted_rows(rows, weights)
