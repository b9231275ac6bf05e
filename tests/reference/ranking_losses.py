"""Ranking losses written out literally: one loop over the positives, each compared with all that may reach it.

As slow as the authors' published code is; the negatives that reach no positive are left out first, as there. A
gradient is collected next to its value (error-driven update, identity update). All is done in the dtype of the
logits. Labels: 1, 0, others ignored. Targets: above 0 the quality of a positive, 0, below 0 ignored.

AP: "Towards Accurate One-Stage Object Detection with AP-Loss" (CVPR 2019). aLRP: "A Ranking-based, Balanced Loss
Function Unifying Classification and Localisation in Object Detection" (NeurIPS 2020). Rank & Sort: "Rank & Sort
Loss for Object Detection and Instance Segmentation" (ICCV 2021). NDCG has no published code for detectors.
"""

import torch
from torch import Tensor


def step(differences: Tensor, delta: float) -> Tensor:
    """H(x), linear from -delta to delta, or hard."""
    if delta > 0:
        return (differences / (2 * delta) + 0.5).clamp(0, 1)
    return (differences >= 0).to(differences.dtype)


def rows_of(logits: Tensor, positive: Tensor, negative: Tensor, delta: float) -> tuple[Tensor, Tensor]:
    """Rows of the positives, lowest score first, and of the negatives that reach the lowest."""
    rows = positive.nonzero().flatten()
    rows = rows[logits[rows].argsort(stable=True)]
    reaching = negative & (logits >= logits[rows[0]] - delta)
    return rows, reaching.nonzero().flatten()


def average_precision(logits: Tensor, labels: Tensor, delta: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return the value and its gradient [M]."""
    gradient = torch.zeros_like(logits)
    if not (labels == 1).any():
        return logits.new_zeros(()), gradient
    rows, negative_rows = rows_of(logits, labels == 1, labels == 0, delta)
    scores, negatives = logits[rows], logits[negative_rows]
    pushed = torch.zeros_like(negatives)
    best, precisions = 0.0, []
    for place, score in enumerate(scores):
        above = step(scores - score, delta)
        above[place] = 0
        false = step(negatives - score, delta)
        rank = 1 + above.sum() + false.sum()
        best = max(best, float((1 + above.sum()) / rank))
        precisions.append(best)
        gradient[rows[place]] = -(1 - best)
        if false.sum() > 0:
            pushed += (1 - best) * false / false.sum()
    gradient[negative_rows] = pushed
    return logits.new_tensor(1 - sum(precisions) / len(rows)), gradient / len(rows)


def alrp(
    logits: Tensor, labels: Tensor, localisation_errors: Tensor, delta: float = 1.0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the classification value and its gradient [M], the localisation value and its gradient [P]."""
    gradient, slopes = torch.zeros_like(logits), torch.zeros_like(localisation_errors)
    zero = logits.new_zeros(())
    if not (labels == 1).any():
        return zero, gradient, zero, slopes
    rows, negative_rows = rows_of(logits, labels == 1, labels == 0, delta)
    scores, negatives = logits[rows], logits[negative_rows]
    number = {row: index for index, row in enumerate((labels == 1).nonzero().flatten().tolist())}
    numbers = torch.tensor([number[row] for row in rows.tolist()])
    errors = localisation_errors[numbers]
    pushed = torch.zeros_like(negatives)
    classification, localisation = zero.clone(), zero.clone()
    for place, score in enumerate(scores):
        above = step(scores - score, delta)
        above[place] = 0
        false = step(negatives - score, delta)
        rank = 1 + above.sum() + false.sum()
        classification += false.sum() / rank
        # Localisation takes the hard order; of equal scores the later row stands above.
        localisation += errors[place:].sum() / rank
        slopes[numbers[place:]] += 1 / rank
        if false.sum() > 1e-5:
            error = ((above * errors).sum() + false.sum()) / rank
            gradient[rows[place]] = -error
            pushed += error * false / false.sum()
    gradient[negative_rows] = pushed
    count = len(rows)
    return classification / count, gradient / count, localisation / count, slopes / count


def rank_sort(logits: Tensor, targets: Tensor, delta: float = 0.5) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the ranking value and its gradient [M], the sorting value and its gradient [M]."""
    ranking_gradient, sorting_gradient = torch.zeros_like(logits), torch.zeros_like(logits)
    ranking, sorting = logits.new_zeros(()), logits.new_zeros(())
    if not (targets > 0).any():
        return ranking, ranking_gradient, sorting, sorting_gradient
    rows, negative_rows = rows_of(logits, targets > 0, targets == 0, delta)
    scores, negatives = logits[rows], logits[negative_rows]
    quality = targets[rows].to(logits.dtype)
    pushed = torch.zeros_like(negatives)
    for place, score in enumerate(scores):
        above, false = step(scores - score, delta), step(negatives - score, delta)
        error = false.sum() / (above.sum() + false.sum())
        ranking += error
        if false.sum() > 1e-10:
            ranking_gradient[rows[place]] -= error
            pushed += error * false / false.sum()
        better = above * (quality >= quality[place])
        worse = above * (quality < quality[place])
        current = (above * (1 - quality)).sum() / above.sum()
        target = (better * (1 - quality)).sum() / better.sum()
        sorting += current - target
        if worse.sum() > 1e-10:
            sorting_gradient[rows[place]] -= current - target
            sorting_gradient[rows] += (current - target) * worse / worse.sum()
    ranking_gradient[negative_rows] = pushed
    count = len(rows)
    return ranking / count, ranking_gradient / count, sorting / count, sorting_gradient / count


def ndcg(logits: Tensor, targets: Tensor, delta: float = 0.5) -> tuple[Tensor, Tensor]:
    """Return the value and its gradient [M]; of equal quality, positives may stand as they do."""
    gradient = torch.zeros_like(logits)
    if not (targets > 0).any():
        return logits.new_zeros(()), gradient
    rows, negative_rows = rows_of(logits, targets > 0, targets == 0, delta)
    scores, negatives = logits[rows], logits[negative_rows]
    quality = targets[rows].to(logits.dtype)
    gains = 2**quality - 1
    ideal = torch.zeros_like(gains)
    for place, score in enumerate(scores):
        equal = step(scores - score, delta)[(quality == quality[place]) & (torch.arange(len(rows)) != place)]
        ideal[place] = gains[place] / torch.log2(2 + (quality > quality[place]).sum() + equal.sum())
    found = logits.new_zeros(())
    pushed = torch.zeros_like(negatives)
    for place, score in enumerate(scores):
        above, false = step(scores - score, delta), step(negatives - score, delta)
        above[place] = 0
        gain = gains[place] / torch.log2(2 + above.sum() + false.sum())
        found += gain
        missing = (ideal[place] - gain) / ideal.sum()
        worse = above * (quality < quality[place])
        blame = worse.sum() + false.sum()
        if missing > 0 and blame > 1e-10:
            gradient[rows[place]] -= missing
            gradient[rows] += missing * worse / blame
            pushed += missing * false / blame
    gradient[negative_rows] = pushed
    return 1 - found / ideal.sum(), gradient
