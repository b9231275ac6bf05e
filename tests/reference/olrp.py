"""oLRP and the correlation of rankings of one class, slow and literal.

Written from the definitions: of LRP (Oksuz et al., arXiv 2011.10772), every number of detections kept being tried,
and of Pearson's coefficient on ranks.
"""

import math


def lowest_lrp(outcomes: list[tuple[float, float]], objects: int, tau: float = 0.5) -> tuple[float | None, ...]:
    """Return oLRP, the mean 1 - IoU, 1 - precision, 1 - recall and the last score, from (score, IoU) pairs."""
    best: tuple[float | None, ...] = (1.0, None, None, 1.0, None)
    if not any(iou for _, iou in outcomes):
        return best
    lowest = math.inf
    for kept in range(1, len(outcomes) + 1):
        hits = [iou for _, iou in outcomes[:kept] if iou]
        mistakes, missed = kept - len(hits), objects - len(hits)
        error = sum((1 - iou) / (1 - tau) for iou in hits) + mistakes + missed
        error /= len(hits) + mistakes + missed
        if error < lowest - 1e-12:
            lowest = error
            loc = sum(1 - iou for iou in hits) / len(hits) if hits else None
            best = (error, loc, mistakes / kept, missed / objects, outcomes[kept - 1][0])
    return best


def correlation_of_ranks(pairs: list[tuple[float, float]]) -> float | None:
    """Return Pearson's coefficient between the ranks of both members of the pairs."""
    first, second = (_ranks([pair[side] for pair in pairs]) for side in (0, 1))
    if len(set(first)) < 2 or len(set(second)) < 2:
        return None
    means = sum(first) / len(first), sum(second) / len(second)
    products = sum((a - means[0]) * (b - means[1]) for a, b in zip(first, second, strict=True))
    squares = [sum((v - mean) ** 2 for v in values) for values, mean in zip((first, second), means, strict=True)]
    return products / math.sqrt(squares[0] * squares[1])


def _ranks(values: list[float]) -> list[float]:
    return [sum(v < value for v in values) + (values.count(value) + 1) / 2 for value in values]
