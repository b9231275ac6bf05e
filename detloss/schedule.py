"""The learning rate as a function of the step."""

import math
from collections.abc import Sequence


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
