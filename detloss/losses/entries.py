"""Arithmetic on the entries of [N, L] logits, finite at any size: what sigmoid losses share."""

import torch
from torch import Tensor
from torch.nn import functional as F


def binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return -log sigma(z) at every row's label and -log(1 - sigma(z)) elsewhere, [N, L].

    Labels beyond the last column have no positive. The target is never written out as one-hot.
    """
    rows, columns = positive_entries(labels, logits.shape[1])
    # -log(1 - sigma(z)) = softplus(z), and -log sigma(z) = softplus(-z).
    return softplus(logits).index_put((rows, columns), softplus(-logits[rows, columns]))


def soft_binary_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return -q log sigma(z) - (1 - q) log(1 - sigma(z)) for targets q in 0..1."""
    # softplus(z) - q z is shorter, but loses its digits to cancellation at large z.
    return targets * softplus(-logits) + (1 - targets) * softplus(logits)


def positive_entries(labels: Tensor, num_logits: int) -> tuple[Tensor, Tensor]:
    """Return row and column indices [P] of the entries whose target is 1."""
    rows = torch.nonzero(labels < num_logits).squeeze(1)
    return rows, labels[rows]


def softplus(logits: Tensor) -> Tensor:
    """Return log(1 + e^z); torch's default turns linear at 20, where float64 is still off by 2e-9."""
    return F.softplus(logits, threshold=40.0)


def at_least_float32(logits: Tensor) -> Tensor:
    """Return half-precision logits as float32, others as they are."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def weighted_sum(entries: Tensor, weights: Tensor | None) -> Tensor:
    """Return the sum of entries [N, L] with a weight per row [N]; None means 1."""
    return entries.sum() if weights is None else (entries.sum(dim=1) * weights).sum()


def weighted_rows(rows: Tensor, weights: Tensor | None) -> Tensor:
    """Return the sum of row losses [N] with a weight each; None means 1."""
    return rows.sum() if weights is None else (rows * weights).sum()


def keep_targets(kept: Tensor, labels: Tensor) -> Tensor:
    """Return ``kept`` [N, L], bool, with the entry of every row's label set."""
    rows, columns = positive_entries(labels, kept.shape[1])
    return kept.index_put((rows, columns), kept.new_ones(()))
