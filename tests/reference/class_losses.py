"""Classification losses written out literally, entry by entry, in float64; slow on purpose.

ECM: eq. 8, 10, 11, 35-37 of "Long-tail Detection with Effective Class-Margins" (ECCV 2022), in exponentials.
Focal: eq. 5 of "Focal Loss for Dense Object Detection" (ICCV 2017).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def ecm(logits: Tensor, labels: Tensor, counts: Sequence[int], background_ratio: float) -> Tensor:
    """Eq. 10 summed over rows and the C + 1 columns of float64 logits, the last of which is background."""
    occurring = [max(count, 1) for count in counts]
    occurring = [*occurring, background_ratio * sum(occurring)]  # eq. 35
    total = torch.zeros((), dtype=torch.float64)
    for row, label in zip(logits, labels.tolist(), strict=True):
        for column in range(len(occurring)):
            score, weight = surrogate(row[column], occurring, column)
            hit = label == column
            total = total - weight * torch.log(score if hit else 1 - score)
    return total


def focal_ecm(
    logits: Tensor, labels: Tensor, counts: Sequence[int], gamma: float = 2.0, alpha: float = 0.25
) -> Tensor:
    """m_c times focal loss of the surrogate score, with counts over the foreground classes only."""
    occurring = [max(count, 1) for count in counts]
    total = torch.zeros((), dtype=torch.float64)
    for row, label in zip(logits, labels.tolist(), strict=True):
        for column in range(len(occurring)):
            score, weight = surrogate(row[column], occurring, column)
            total = total + weight * focal_entry(score, label == column, gamma, alpha)
    return total


def focal(logits: Tensor, labels: Tensor, gamma: float, alpha: float) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for row, label in zip(logits, labels.tolist(), strict=True):
        for column, logit in enumerate(row):
            total = total + focal_entry(1 / (1 + torch.exp(-logit)), label == column, gamma, alpha)
    return total


def focal_entry(score: Tensor, hit: bool, gamma: float, alpha: float) -> Tensor:
    p_t = score if hit else 1 - score
    alpha_t = alpha if hit else 1 - alpha
    return -alpha_t * (1 - p_t) ** gamma * torch.log(p_t)


def surrogate(logit: Tensor, counts: Sequence[float], column: int) -> tuple[Tensor, float]:
    """Return eq. 11 and m_c for one logit, from the counts of all columns."""
    positive = counts[column]
    negative = max(sum(count for other, count in enumerate(counts) if other != column), 1)  # eq. 37
    gamma_plus = negative**0.25 / (positive**0.25 + negative**0.25)  # eq. 8
    gamma_minus = positive**0.25 / (positive**0.25 + negative**0.25)
    w_plus, w_minus = 1 / gamma_plus, 1 / gamma_minus
    numerator = w_plus * torch.exp(logit)
    alpha = negative / positive
    return numerator / (numerator + w_minus * torch.exp(-logit)), alpha * math.log((1 + alpha) / alpha)
