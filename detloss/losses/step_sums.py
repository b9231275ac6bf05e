"""Sums of step functions over all pairs of two sets of scores, without making the pairs.

H(x) = min(max(x / (2 delta) + 1/2, 0), 1) is the smoothed step of the ranking losses (Chen et al., "AP loss",
CVPR 2019), and H(x) = 1 where x >= 0 the hard one, delta = 0. For P thresholds t_i and N values v_j, the 2 P
points t_i - delta and t_i + delta cut the line into intervals in which every H(v - t_i) is linear. So it is
enough to know, of every interval, how many values it holds and how far they stand from its left end: each sum
takes O((P + N) log P) time, and the values are never sorted. They are read in chunks, so that beside them only
the interval of each is kept.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from detloss.losses.interval_search import intervals

CHUNK = 1 << 17
"""Values read at once on a CPU: what is found of them fits in its cache."""

GPU_CHUNK = 1 << 24


class StepSums:
    """H(v_j - t_i) between thresholds [P] and values [N], summed over either in float64.

    With ``groups``, whole numbers of the thresholds [P] and of the values [N], only pairs of one group count.
    """

    def __init__(
        self, thresholds: Tensor, values: Tensor, delta: float, groups: tuple[Tensor, Tensor] | None = None
    ) -> None:
        if delta < 0:
            raise ValueError(f"delta must be at least 0, got {delta}")
        self.delta = delta
        self.values = values
        thresholds = thresholds.double()
        ends = [thresholds - delta, thresholds + delta] if delta else [thresholds]
        points = torch.cat(ends)
        # Value j lies in [points[b - 1], points[b]), where b is its interval; b = 0 is below all of them.
        if groups is None:
            keys, owners = points, torch.zeros_like(points, dtype=torch.int64)
            sorted_keys, order = keys.sort()
            self.points, self.interval = sorted_keys, intervals(sorted_keys, values)
        else:
            owners = groups[0].repeat(len(ends))
            keys, value_keys = _keys(points, owners, values.double(), groups[1])
            sorted_keys, order = keys.sort()
            self.points, owners = points[order], owners[order]
            interval = torch.searchsorted(sorted_keys, value_keys, right=True)
            # Between two groups' points: below all of the second's.
            behind = owners[(interval - 1).clamp(min=0)]
            self.interval = interval.where(behind == groups[1], 0).int()
        # Where each interval starts; nothing counts of what is below all points.
        self.left = torch.cat([self.points[:1], self.points])
        # Of every point, the first point of its group and the end of the group.
        self.first, self.stop = (torch.searchsorted(owners, owners, right=right) for right in (False, True))
        # Of every threshold, the places of its points, and of the first point above it.
        self.start, self.end = torch.searchsorted(sorted_keys, keys).view(len(ends), -1)[[0, -1]]
        self.upper = torch.searchsorted(sorted_keys, keys[: len(thresholds)], right=True)

    def over_values(self, weights: Tensor | None = None) -> Tensor:
        """Return sum_j w_j H(v_j - t_i), [P]; weights [N] None means 1."""
        inside = self.left.new_zeros(len(self.left))
        stretch = torch.zeros_like(inside)
        for chunk in self._chunks():
            interval, size = self.interval[chunk], len(inside)
            weight = None if weights is None else weights[chunk].double()
            inside += torch.bincount(interval, weight, minlength=size)
            if self.delta:
                distance = self.values[chunk] - self.left.index_select(0, interval)
                distance = distance if weight is None else distance.mul_(weight)
                stretch += torch.bincount(interval, distance, minlength=size)
        above = _suffix_sums(inside)
        beyond = above[self.stop + 1]
        if not self.delta:
            return above[self.upper] - beyond[self.start]
        # sum_j w_j H(v_j - t) is the integral of C(s) = sum_j w_j [v_j > s] from t - delta to t + delta, over
        # 2 delta. In an interval, C is what lies above it plus what it holds, as far as that stands from its left.
        integral = stretch[1:-1] + self.points.diff() * (above[2:-1] - beyond[:-1])
        # Summed from the top, where few values lie above, small sums keep their digits. What no window covers
        # would only add rounding.
        total = _suffix_sums(torch.where(self._covered(), integral, 0.0))
        return (total[self.start] - total[self.end]) / (2 * self.delta)

    def over_thresholds(self, weights: Tensor) -> Tensor:
        """Return sum_i w_i H(v_j - t_i), [N], in the type of the values; weights [P]."""
        zero = weights.new_zeros(1, dtype=torch.float64)
        change = zero.new_zeros(len(self.points)).index_add_(0, self.start, weights.double())
        if not self.delta:
            height, slope = change.cumsum(0), None
            before = torch.cat([zero, height])[self.first]
        else:
            change.index_add_(0, self.end, -weights.double())
            slope = torch.where(self._covered(), change.cumsum(0)[:-1], 0.0) / (2 * self.delta)
            height = torch.cat([zero, (slope * self.points.diff()).cumsum(0)])
            before = height[self.first]
            slope = torch.cat([zero, slope, zero])
        # The sum at every point, and how it grows until the next; below the first there is nothing.
        height = torch.cat([zero, height - before])
        sums = torch.empty_like(self.values)
        for chunk in self._chunks():
            interval = self.interval[chunk]
            found = height.index_select(0, interval)
            if slope is not None:
                found.addcmul_(
                    slope.index_select(0, interval), self.values[chunk] - self.left.index_select(0, interval)
                )
            sums[chunk] = found
        return sums

    def _chunks(self) -> Iterator[slice]:
        step = CHUNK if self.values.device.type == "cpu" else GPU_CHUNK
        for start in range(0, len(self.values), step):
            yield slice(start, start + step)

    def _covered(self) -> Tensor:
        """Return whether a window [t_i - delta, t_i + delta] covers each interval between two points."""
        size = len(self.points)
        change = torch.bincount(self.start, minlength=size) - torch.bincount(self.end, minlength=size)
        return change.cumsum(0)[:-1] > 0


def _keys(points: Tensor, owners: Tensor, values: Tensor, value_groups: Tensor) -> tuple[Tensor, Tensor]:
    """Return whole numbers that order points and values by group, and within a group as they are."""
    distinct, rank = torch.cat([points, values]).unique(return_inverse=True)
    keys = torch.cat([owners, value_groups]) * len(distinct) + rank
    return keys[: len(points)], keys[len(points) :]


def _suffix_sums(values: Tensor) -> Tensor:
    """Return at k the sum from k on; one 0 more at the end."""
    return torch.cat([values.flip(0).cumsum(0).flip(0), values.new_zeros(1)])
