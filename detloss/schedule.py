"""How long a run is, and its learning rate as a function of the step."""

import math
from collections.abc import Sequence

from omegaconf import DictConfig
from torch.optim import Optimizer

from detloss.data.loader import BatchPlan


def total_steps(schedule: DictConfig, plan: BatchPlan) -> int:
    """Return the optimizer steps of the run, given or counted from its epochs."""
    if schedule.steps is not None:
        return int(schedule.steps)
    return sum(plan.steps_per_epoch(epoch) for epoch in range(schedule.epochs))


def set_learning_rate(schedule: DictConfig, optimizer: Optimizer, step: int, total: int) -> float:
    """Set and return the rate of an optimizer step, the base rate scaled linearly to the batch."""
    factor = rate_factor(
        step,
        total,
        decay=schedule.decay,
        milestones=schedule.milestones,
        warmup_steps=schedule.warmup_steps,
        warmup_factor=schedule.warmup_factor,
    )
    rate = float(schedule.lr * schedule.batch_size / schedule.reference_batch * factor)
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate


def rate_factor(
    step: int,
    total: int,
    *,
    decay: str,
    milestones: Sequence[float],
    warmup_steps: int,
    warmup_factor: float,
) -> float:
    """Return the factor on the base rate at an optimizer step, counted from 0.

    Linear warm-up from ``warmup_factor`` to 1 over ``warmup_steps`` (Goyal et al., 2017), times either a
    tenfold step down at each of ``milestones`` (shares of ``total``) or half a cosine to 0 (SGDR, ICLR 2017).
    """
    warmup = 1.0
    if step < warmup_steps:
        warmup = warmup_factor + (1 - warmup_factor) * step / warmup_steps
    if decay == "cosine":
        return warmup * 0.5 * (1 + math.cos(math.pi * step / total))
    return warmup * 0.1 ** sum(step >= round(share * total) for share in milestones)
