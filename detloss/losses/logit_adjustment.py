"""Logit adjustment (Menon et al., ICLR 2021), of which balanced softmax (Ren et al., NeurIPS 2020) is a case."""

import torch
from torch import Tensor
from torch.nn import functional as F

from detloss import margins
from detloss.losses.base import ClassLoss
from detloss.losses.coder import Softmax
from detloss.losses.entries import at_least_float32, weighted_rows
from detloss.stats import ClassStats


class LogitAdjustment(ClassLoss):
    """Cross entropy of z_c + tau log pi_c (eq. 10); scores at inference are the plain softmax.

    pi_c is the share of class c among the instances, and the background's logit stays as it is: detectors
    have no instances of background. With a ``background_ratio`` r the shares are over all C + 1 classes, with
    n_bg = r sum_c n_c; with tau = 1 that is balanced softmax.
    """

    shift: Tensor

    def __init__(self, stats: ClassStats, *, tau: float = 1.0, background_ratio: float | None = None) -> None:
        super().__init__()
        if background_ratio is not None and not 0 < background_ratio < float("inf"):
            raise ValueError(f"background_ratio must be a positive number or None, got {background_ratio}")
        self.coder = Softmax(stats.num_classes)
        self.register_buffer(
            "shift", tau * torch.from_numpy(margins.log_priors(stats.instances, background_ratio))
        )

    def forward(
        self, logits: Tensor, labels: Tensor, weights: Tensor | None = None, quality: Tensor | None = None
    ) -> Tensor:
        logits = at_least_float32(logits)
        rows = F.cross_entropy(logits + self.shift.to(logits.dtype), labels, reduction="none")
        return weighted_rows(rows, weights)
