"""Losses of the softmax family written out literally, entry by entry, in float64; slow on purpose.

Each says which paper or whose code it follows. Rows of weight 0 are left out first, everywhere; a class that
never occurs counts as 1. What is drawn at random is an argument; what is carried from batch to batch is kept
by a small class that is called batch after batch.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import NormalDist, fmean

import torch
from torch import Tensor


class Seesaw:
    """Eq. 2-6 of "Seesaw Loss for Long-Tailed Instance Segmentation" (CVPR 2021), normalised as its code does.

    Columns: the classes, foreground, background. The labels of a batch are counted before its loss; scores
    in the compensation factor carry no gradient, and the one they are divided by is at least ``eps``.
    """

    def __init__(self, num_classes: int, p: float = 0.8, q: float = 2.0, eps: float = 0.01) -> None:
        self.counts = [0] * num_classes
        self.p = p
        self.q = q
        self.eps = eps

    def __call__(self, logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        rows = kept_rows(logits, labels, weights)
        for _, label, _ in rows:
            if label < len(self.counts):
                self.counts[label] += 1
        return self.loss(logits, labels, weights)

    def loss(self, logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """Return the value of a batch without counting it."""
        total = torch.zeros((), dtype=torch.float64)
        for row, label, weight in kept_rows(logits, labels, weights):
            classes, objectness = row[:-2], row[-2:]
            foreground = label < len(self.counts)
            total = total + weight * scaled_softmax_loss(objectness, 0 if foreground else 1, [1.0, 1.0])
            if foreground:
                total = total + weight * scaled_softmax_loss(classes, label, self.factors(classes, label))
        return total

    def factors(self, logits: Tensor, label: int) -> list[float]:
        """Return S_ij of eq. 2 for i = label and every j, with 1 at j = i."""
        scores = softmax(logits)
        own_count, own_score = max(self.counts[label], 1), max(scores[label], self.eps)
        factors = []
        for other, score in enumerate(scores):
            count = max(self.counts[other], 1)
            mitigation = (count / own_count) ** self.p if own_count > count else 1.0
            compensation = (score / own_score) ** self.q if score > own_score else 1.0
            factors.append(1.0 if other == label else mitigation * compensation)
        return factors


class LOCE:
    """Equilibrium loss of "Exploring Classification Equilibrium in Long-Tailed Object Detection" (ICCV 2021).

    As the authors' code has it: an object's score is the mean, over the rows matched to it, of the softmax
    score at its class; a class with k objects in a batch moves by 1 - decay^k to their mean, before the loss.
    """

    def __init__(
        self, num_classes: int, decay: float = 0.9, initial_score: float = 0.01, background_score: float = 0.01
    ) -> None:
        self.decay = decay
        self.mean_score = [initial_score] * num_classes + [background_score]

    def __call__(
        self, logits: Tensor, labels: Tensor, weights: Tensor, foreground: Tensor, object_index: Tensor
    ) -> Tensor:
        """``foreground`` [P] are rows, ``object_index`` [P] their objects."""
        rows_of_object: dict[int, list[int]] = {}
        for row, item in zip(foreground.tolist(), object_index.tolist(), strict=True):
            rows_of_object.setdefault(item, []).append(row)
        scores_of_class: dict[int, list[float]] = {}
        for rows in rows_of_object.values():
            label = int(labels[rows[0]])
            scores_of_class.setdefault(label, []).append(fmean(softmax(logits[row])[label] for row in rows))
        for label, scores in scores_of_class.items():
            kept = self.decay ** len(scores)
            self.mean_score[label] = kept * self.mean_score[label] + (1 - kept) * fmean(scores)
        return self.loss(logits, labels, weights)

    def loss(self, logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """Return the value of a batch with the mean scores as they are."""
        return scaled_cross_entropy(logits, labels, weights, self.mean_score)


def bags(
    logits: Tensor, labels: Tensor, weights: Tensor, classes_of_bin: list[list[int]], drawn: list[list[bool]]
) -> Tensor:
    """Balanced group softmax (CVPR 2020); columns: per bin [others, its classes], last [foreground, background].

    ``drawn`` [bins, N] says which rows take part in a bin; in the last bin all do. A bin is the mean of its rows,
    0 without any, as the authors' code has it; the sum of the means is multiplied by that of ``weights``.
    """
    num_classes = sum(len(classes) for classes in classes_of_bin)
    everyone = [True] * len(labels)
    total = torch.zeros((), dtype=torch.float64)
    start = 0
    for classes, takes_part in zip([*classes_of_bin, [num_classes]], [*drawn, everyone], strict=True):
        end = start + 1 + len(classes)
        losses = []
        for row, label, weight, taken in zip(logits, labels.tolist(), weights.tolist(), takes_part, strict=True):
            if weight > 0 and taken:
                target = 1 + classes.index(label) if label in classes else 0
                losses.append(scaled_softmax_loss(row[start:end], target, [1.0] * (end - start)))
        if losses:
            total = total + torch.stack(losses).mean()
        start = end
    return total * weights.sum()


def bags_bins(counts: Sequence[int], edges: Sequence[int]) -> list[list[int]]:
    """Return the classes of each bin in ascending order: [0, e_0), [e_0, e_1), ..., [e_last, infinity)."""
    bounds = [0, *edges, math.inf]
    return [[index for index, count in enumerate(counts) if low <= count < high] for low, high in pairwise(bounds)]


def logit_adjustment_factors(counts: Sequence[int], tau: float, background_ratio: float | None) -> list[float]:
    """Return pi^tau of "Long-tail learning via logit adjustment" (ICLR 2021), background last.

    Without a ratio, pi are shares among the foreground and background stays as it is; with one, background
    has ``background_ratio`` times as many samples as all classes (balanced softmax, NeurIPS 2020, at tau 1).
    """
    occurring = [float(max(count, 1)) for count in counts]
    if background_ratio is None:
        return [(count / sum(occurring)) ** tau for count in occurring] + [1.0]
    occurring.append(background_ratio * sum(occurring))
    return [(count / sum(occurring)) ** tau for count in occurring]


def ldam(
    logits: Tensor, labels: Tensor, weights: Tensor, counts: Sequence[int], max_margin: float, scale: float
) -> Tensor:
    """LDAM (NeurIPS 2019): margins n^(-1/4), the largest of which is ``max_margin``; none for background."""
    roots = [max(count, 1) ** -0.25 for count in counts]
    margins = [max_margin * root / max(roots) for root in roots] + [0.0]
    total = torch.zeros((), dtype=torch.float64)
    for row, label, weight in kept_rows(logits, labels, weights):
        margin_of_column = [margin if column == label else 0.0 for column, margin in enumerate(margins)]
        moved = scale * (row - torch.tensor(margin_of_column, dtype=torch.float64))
        total = total + weight * scaled_softmax_loss(moved, label, [1.0] * len(moved))
    return total


def iif_weights(variant: str, counts: Sequence[int], documents: int) -> list[float]:
    """Return the factors of the logits in "Inverse Image Frequency" (arXiv 2209.04861), background (1) last.

    ``documents`` is the number of images of the file, or of all instances where instances are counted.
    """
    factors = []
    for count in counts:
        share = max(count, 1) / documents
        match variant:
            case "raw":
                factors.append(-math.log(share))
            case "smooth":
                factors.append(math.log((documents + 1) / (max(count, 1) + 1)) + 1)
            case "rel":
                factors.append(math.log((1 - share) / share))
            case "normit":
                factors.append(-NormalDist().inv_cdf(share))
            case "gombit":
                factors.append(-math.log(-math.log(1 - share)))
            case "base2":
                factors.append(-math.log(share, 2))
            case "base10":
                factors.append(-math.log(share, 10))
            case _:
                raise ValueError(variant)
    return [*factors, 1.0]


def class_balanced_weights(counts: Sequence[int], beta: float) -> list[float]:
    """Eq. 4 of "Class-Balanced Loss Based on Effective Number of Samples" (CVPR 2019), background last.

    (1 - beta^n) / (1 - beta) is a geometric series. The weights of the classes add up to C, background's is 1.
    """
    effective = [sum(beta**power for power in range(max(count, 1))) for count in counts]
    return _normalised([1 / number for number in effective])


def generalized_reweight(counts: Sequence[int], exponent: float) -> list[float]:
    """Eq. 8 and 9 of "Distribution Alignment" (CVPR 2021); they add up to C, background's is 1."""
    occurring = [max(count, 1) for count in counts]
    return _normalised([(sum(occurring) / count) ** exponent for count in occurring])


def _normalised(factors: list[float]) -> list[float]:
    return [factor * len(factors) / sum(factors) for factor in factors] + [1.0]


def scaled_cross_entropy(
    logits: Tensor, labels: Tensor, weights: Tensor, factors: Sequence[float] | None = None
) -> Tensor:
    """Add -w log(a_y e^z_y / sum_j a_j e^z_j) over rows, a being ``factors``, or 1."""
    total = torch.zeros((), dtype=torch.float64)
    for row, label, weight in kept_rows(logits, labels, weights):
        total = total + weight * scaled_softmax_loss(row, label, factors or [1.0] * len(row))
    return total


def scaled_softmax_loss(row: Tensor, label: int, factors: Sequence[float]) -> Tensor:
    terms = torch.tensor(factors, dtype=torch.float64) * torch.exp(row)
    return -torch.log(terms[label] / terms.sum())


def softmax(row: Tensor) -> list[float]:
    exponentials = [math.exp(logit) for logit in row.tolist()]
    total = sum(exponentials)
    return [value / total for value in exponentials]


def kept_rows(logits: Tensor, labels: Tensor, weights: Tensor) -> list[tuple[Tensor, int, float]]:
    rows = zip(logits, labels.tolist(), weights.tolist(), strict=True)
    return [(row, label, weight) for row, label, weight in rows if weight > 0]
