"""What a process must know of its fellow ranks: who it is, sums, and agreement. One process is one rank."""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor


def active() -> bool:
    """Whether this process belongs to a process group."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    return dist.get_rank() if active() else 0


def world_size() -> int:
    return dist.get_world_size() if active() else 1


def sum_over_ranks(values: Tensor) -> Tensor:
    """Return the sum of ``values`` over all ranks, on every rank; every rank must call it."""
    if not active():
        return values
    total = values.detach().clone()
    dist.all_reduce(total)
    return total


def mean_over_ranks(values: Tensor) -> Tensor:
    """Return the mean of floating-point ``values`` over all ranks, on every rank."""
    return sum_over_ranks(values) / world_size()


def from_every_rank(values: Tensor) -> list[Tensor]:
    """Return the ``values`` [n, ...] of every rank, on every rank and without gradient; n may differ."""
    if not active():
        return [values.detach()]
    count = torch.tensor([len(values)], device=values.device)
    counts = [torch.empty_like(count) for _ in range(world_size())]
    dist.all_gather(counts, count)
    sizes = [int(size) for size in counts]
    padded = values.new_zeros(max(sizes), *values.shape[1:])
    padded[: len(values)] = values.detach()
    gathered = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(gathered, padded)
    return [part[:size] for part, size in zip(gathered, sizes, strict=True)]


def any_rank(flag: bool, device: torch.device) -> bool:
    """Return whether ``flag`` is set on any rank, the same answer on every rank."""
    if not active():
        return flag
    return bool(sum_over_ranks(torch.tensor(int(flag), device=device)) > 0)


def from_leader(value: float, device: torch.device) -> float:
    """Return rank 0's ``value`` on every rank."""
    if not active():
        return value
    shared = torch.tensor(value, dtype=torch.float64, device=device)
    dist.broadcast(shared, src=0)
    return float(shared)


def share(tensors: Iterable[Tensor]) -> None:
    """Give every rank rank 0's values of ``tensors``, in place."""
    if active():
        for tensor in tensors:
            dist.broadcast(tensor, src=0)


def barrier() -> None:
    if active():
        dist.barrier()
