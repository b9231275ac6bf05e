"""The counts that losses are divided by, taken over all ranks, so that two ranks equal one."""

import torch
from torch import Tensor

from detloss.distributed import sum_over_ranks, world_size


def count_per_rank(count: int, device: torch.device) -> Tensor:
    """Return the mean over ranks of ``count``, at least one sample in all, as a float32 scalar.

    Data-parallel training averages gradients over the ranks, so a sum divided by the mean count is the
    global sum divided by the global count.
    """
    total = sum_over_ranks(torch.tensor(float(count), device=device))
    return total.clamp(min=1) / world_size()
