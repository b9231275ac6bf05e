"""Sums of step functions over the pairs of positives whose qualities stand in the other order."""

import torch
from torch import Tensor

from detloss.losses.step_sums import StepSums

LARGEST_MATRIX = 1024
"""Positives up to which all pairs are compared; above, halving the order of qualities is quicker."""


class LowerQuality:
    """H(s_k - s_i) over pairs of P positives with quality_k < quality_i: k has the lower quality.

    A matrix holds few positives' pairs. For many, the qualities' ranks are read bit by bit: k stands below i in
    quality when, at the first bit in which their ranks differ, k's is 0; so at every bit the positives with the
    same bits before it form a group, in which each 1 meets each 0: O(P log^2 P) time, O(P) memory.
    """

    def __init__(self, scores: Tensor, quality: Tensor, delta: float) -> None:
        self.size = len(scores)
        self.matrix: Tensor | None = None
        self.levels: list[tuple[Tensor, Tensor, StepSums]] = []
        if self.size <= LARGEST_MATRIX:
            step = scores[None] - scores[:, None]
            step = step.div_(2 * delta).add_(0.5).clamp_(0, 1) if delta else (step >= 0).double()
            self.matrix = step.mul_(quality[None] < quality[:, None])
            return
        distinct, rank = quality.unique(return_inverse=True)
        for bit in range((len(distinct) - 1).bit_length()):
            group, upper = rank >> (bit + 1), (rank >> bit) & 1 == 1
            higher, lower = torch.nonzero(upper).squeeze(1), torch.nonzero(~upper).squeeze(1)
            sums = StepSums(scores[higher], scores[lower], delta, (group[higher], group[lower]))
            self.levels.append((higher, lower, sums))

    def over_lower(self, weights: Tensor) -> Tensor:
        """Return sum_k w_k H(s_k - s_i) over k of lower quality than i, [P]."""
        if self.matrix is not None:
            return self.matrix @ weights
        total = torch.zeros_like(weights)
        for higher, lower, sums in self.levels:
            total.index_add_(0, higher, sums.over_values(weights[lower]))
        return total

    def over_higher(self, weights: Tensor) -> Tensor:
        """Return sum_i w_i H(s_k - s_i) over i of higher quality than k, [P]."""
        if self.matrix is not None:
            return weights @ self.matrix
        total = torch.zeros_like(weights)
        for higher, lower, sums in self.levels:
            total.index_add_(0, lower, sums.over_thresholds(weights[higher]))
        return total
