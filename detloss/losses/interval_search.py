"""Which interval between sorted points every value lies in, without a search for most of them."""

import math

import torch
from torch import Tensor

CELLS_PER_POINT = 16
"""The finer the grid, the fewer values share a cell with a point; the coarser, the less memory it takes."""

WORTHWHILE = 16
"""Values per point from which on a grid pays."""

CHUNK = 1 << 17
"""Values looked up at once on a CPU: what is found of them fits in its cache."""


def intervals(points: Tensor, values: Tensor) -> Tensor:
    """Return how many ``points`` [Q], sorted and in float64, are at most each of ``values`` [N]; int32, [N].

    That is ``torch.searchsorted`` from the right. On a CPU, of many values, a grid is laid over the points: the
    cell of a number never falls when the number rises, so that every point of a lower cell is smaller than a
    value, and of a higher one larger. Only values whose cell holds points are searched for.
    """
    found = torch.empty(len(values), dtype=torch.int32, device=values.device)
    grid = _Grid.over(points) if len(values) >= WORTHWHILE * len(points) and not values.is_cuda else None
    step = len(values) if values.is_cuda else CHUNK
    for start in range(0, len(values), max(step, 1)):
        chunk = values[start : start + step].double()
        if grid is None:
            found[start : start + step] = torch.searchsorted(points, chunk, right=True, out_int32=True)
            continue
        known = grid.below.index_select(0, grid.cells(chunk))
        unknown = torch.nonzero(known < 0).squeeze(1)
        known[unknown] = torch.searchsorted(points, chunk[unknown], right=True, out_int32=True)
        found[start : start + step] = known
    return found


class _Grid:
    """Equal cells over the range of points, a cell below and one above.

    ``below`` holds how many points are smaller than what is in a cell, -1 for a cell with points.
    """

    def __init__(self, points: Tensor, lowest: float, cells_per_unit: float, cells: int) -> None:
        self.lowest, self.cells_per_unit, self.cells_in_range = lowest, cells_per_unit, cells
        counts = torch.bincount(self.cells(points), minlength=cells + 3)
        self.below = (counts.cumsum(0) - counts).masked_fill_(counts > 0, -1).int()

    @classmethod
    def over(cls, points: Tensor) -> "_Grid | None":
        """Return a grid, or None for points of which no even one can be made."""
        if not len(points):
            return None
        lowest, highest = points[[0, -1]].tolist()
        cells = CELLS_PER_POINT * len(points)
        width = (highest - lowest) / cells
        if not (width > 0 and math.isfinite(width) and math.isfinite(1 / width)):
            return None
        return cls(points, lowest, 1 / width, cells)

    def cells(self, numbers: Tensor) -> Tensor:
        """Return the cell of each number, int32; rounding keeps their order."""
        scaled = (numbers - self.lowest).mul_(self.cells_per_unit)
        # The lowest point is in cell 1; the highest may by rounding be in the one behind the last of the range.
        return scaled.add_(1).clamp_(0, self.cells_in_range + 2).int()
