"""Sigmoid losses of long-tailed detection written out literally in float64, slow on purpose.

Weights and targets are filled in entry by entry; autograd differentiates the sum. Labels are 0..C-1 and C for
background, a row weight of 0 leaves its row out. Facts are those of the authors' published code:

EQL: "Equalization Loss for Long-Tailed Object Recognition" (CVPR 2020). EQLv2: "Equalization Loss v2" (CVPR 2021).
Federated: "Probabilistic two-stage detection" (2021). DropLoss: "DropLoss for Long-Tail Instance Segmentation"
(AAAI 2021). ACSL: "Adaptive Class Suppression Loss for Long-Tail Object Detection" (CVPR 2021). GOL: "Long-tailed
Instance Segmentation using Gumbel Optimized Loss" (ECCV 2022). EFL: "Equalized Focal Loss for Dense Long-Tailed
Object Detection" (CVPR 2022). Quality focal: "Generalized Focal Loss" (NeurIPS 2020). Varifocal: "VarifocalNet"
(CVPR 2021).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def eql(
    logits: Tensor, labels: Tensor, weights: Tensor, images: Sequence[int], num_images: int, tail_fraction: float
) -> Tensor:
    """Foreground rows do not push down the tail classes that they do not show; background rows do."""
    num_classes = len(images)
    tail = tail_classes(images, num_images, tail_fraction)
    kept = torch.ones(len(labels), num_classes, dtype=torch.float64)
    for row, label in enumerate(labels.tolist()):
        for column in tail:
            if label != num_classes and label != column:
                kept[row, column] = 0
    return total(kept * cross_entropies(sigmoid(logits), targets(labels, num_classes)), weights)


class EQLv2:
    """Weights from the ratio of positive to negative gradient so far; they also weigh what is collected."""

    def __init__(self, num_classes: int, gamma: float = 12.0, mu: float = 0.8, alpha: float = 4.0) -> None:
        self.gamma, self.mu, self.alpha = gamma, mu, alpha
        self.positive = [0.0] * num_classes
        self.negative = [0.0] * num_classes
        self.batches = 0

    def __call__(self, logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        columns = len(self.positive) + 1
        positive_weight, negative_weight = [1.0] * columns, [1.0] * columns  # the last is background's and stays
        for column in range(columns - 1 if self.batches else 0):
            ratio = self.positive[column] / (self.negative[column] + 1e-10)
            negative_weight[column] = 1 / (1 + math.exp(-self.gamma * (ratio - self.mu)))
            positive_weight[column] = 1 + self.alpha * (1 - negative_weight[column])
        target = targets(labels, columns)
        scores = sigmoid(logits)
        weight = torch.zeros_like(target)
        for row, label in enumerate(labels.tolist()):
            for column in range(columns):
                weight[row, column] = (positive_weight if label == column else negative_weight)[column]
        self._collect(scores.tolist(), labels.tolist(), weights.tolist(), weight.tolist())
        return total(weight * cross_entropies(scores, target), weights)

    def _collect(
        self, scores: list[list[float]], labels: list[int], weights: list[float], entry: list[list[float]]
    ) -> None:
        """Add |dBCE/dz| times the entry's weight; rows count once whatever the loss is divided by."""
        for row, label in enumerate(labels):
            if weights[row] == 0:
                continue
            for column in range(len(self.positive)):
                if label == column:
                    self.positive[column] += (1 - scores[row][column]) * entry[row][column]
                else:
                    self.negative[column] += scores[row][column] * entry[row][column]
        self.batches += 1


def federated(logits: Tensor, labels: Tensor, weights: Tensor, kept_classes: Sequence[int]) -> Tensor:
    """Binary cross entropy of the classes that are kept in this batch."""
    num_classes = logits.shape[1]
    kept = torch.zeros(len(labels), num_classes, dtype=torch.float64)
    for column in kept_classes:
        kept[:, column] = 1
    return total(kept * cross_entropies(sigmoid(logits), targets(labels, num_classes)), weights)


def drop_weights(labels: Tensor, tail: Sequence[int], num_classes: int, dropped: Tensor) -> Tensor:
    """0 at the tail classes a foreground row does not show, and where ``dropped`` [N, tail] is in the others."""
    kept = torch.ones(len(labels), num_classes, dtype=torch.float64)
    for row, label in enumerate(labels.tolist()):
        for position, column in enumerate(tail):
            if label != column and (label != num_classes or bool(dropped[row, position])):
                kept[row, column] = 0
    return kept


def droploss(logits: Tensor, labels: Tensor, weights: Tensor, tail: Sequence[int], dropped: Tensor) -> Tensor:
    num_classes = logits.shape[1]
    kept = drop_weights(labels, tail, num_classes, dropped)
    return total(kept * cross_entropies(sigmoid(logits), targets(labels, num_classes)), weights)


def gol(logits: Tensor, labels: Tensor, weights: Tensor, tail: Sequence[int], dropped: Tensor) -> Tensor:
    """DropLoss on the Gumbel distribution function; without tail classes every entry counts.

    torch's binary cross entropy of probabilities, as the authors use it: its gradient is not that of the formula
    where p (1 - p) is below 1e-12.
    """
    num_classes = logits.shape[1]
    scores = 1 / torch.exp(torch.exp(-torch.clamp(logits, min=-4, max=10)))
    kept = drop_weights(labels, tail, num_classes, dropped)
    entries = F.binary_cross_entropy(scores, targets(labels, num_classes), reduction="none")
    return total(kept * entries, weights)


def acsl(
    logits: Tensor,
    labels: Tensor,
    weights: Tensor,
    groups: Sequence[str],
    rare_rows: Sequence[int],
    common_rows: Sequence[int],
    score_threshold: float = 0.7,
) -> Tensor:
    """Foreground rows train their class and what scores high; background rows itself and what is drawn for it."""
    num_classes = len(groups)
    scores = sigmoid(logits)
    high = (scores >= score_threshold).tolist()
    kept = torch.zeros(len(labels), num_classes + 1, dtype=torch.float64)
    for row, label in enumerate(labels.tolist()):
        for column in range(num_classes + 1):
            if label == column:
                kept[row, column] = 1
            elif label != num_classes:
                kept[row, column] = high[row][column]
            elif groups[column] == "r":
                kept[row, column] = row in rare_rows
            elif groups[column] == "c":
                kept[row, column] = row in common_rows
            else:
                kept[row, column] = 1
    return total(kept * cross_entropies(scores, targets(labels, num_classes + 1)), weights)


class EFL:
    """Focal loss whose gamma grows with the imbalance of the gradient collected so far."""

    def __init__(self, num_classes: int, gamma: float = 2.0, scale: float = 8.0, alpha: float = 0.25) -> None:
        self.gamma, self.scale, self.alpha = gamma, scale, alpha
        self.positive = [0.0] * num_classes
        self.negative = [0.0] * num_classes
        self.batches = 0

    def __call__(self, logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        num_classes = len(self.positive)
        gammas = []
        for positive, negative in zip(self.positive, self.negative, strict=True):
            ratio = min(max(positive / (negative + 1e-10), 0), 1) if self.batches else 1.0
            gammas.append(self.gamma + self.scale * (1 - ratio))
        target = targets(labels, num_classes)
        scores = sigmoid(logits)
        of_target = scores * target + (1 - scores) * (1 - target)
        exponent = torch.tensor(gammas, dtype=torch.float64).expand(len(labels), num_classes)
        balance = self.alpha * target + (1 - self.alpha) * (1 - target)
        focal = -balance * exponent / self.gamma * (1 - of_target) ** exponent * torch.log(of_target)
        value = total(focal, weights)
        self._collect(torch.autograd.grad(value, logits, retain_graph=True)[0].tolist(), labels.tolist())
        return value

    def _collect(self, gradient: list[list[float]], labels: list[int]) -> None:
        """Add the size of the gradient of the loss as it is, divided and weighted as its rows are."""
        for row, label in enumerate(labels):
            for column, slope in enumerate(gradient[row]):
                (self.positive if label == column else self.negative)[column] += abs(slope)
        self.batches += 1


def quality_focal(logits: Tensor, labels: Tensor, weights: Tensor, quality: Tensor, beta: float = 2.0) -> Tensor:
    """|target - p|^beta times cross entropy with the target, which is the quality at the label and else 0."""
    target = targets(labels, logits.shape[1], quality)
    scores = sigmoid(logits)
    return total((target - scores).abs() ** beta * cross_entropies(scores, target), weights)


def varifocal(
    logits: Tensor, labels: Tensor, weights: Tensor, quality: Tensor, gamma: float = 2.0, alpha: float = 0.75
) -> Tensor:
    """Cross entropy with the quality, times the quality where it is above 0 and alpha p^gamma where it is not."""
    target = targets(labels, logits.shape[1], quality)
    scores = sigmoid(logits)
    weight = torch.where(target > 0, target, alpha * scores**gamma)
    return total(weight * cross_entropies(scores, target), weights)


def tail_classes(images: Sequence[int], num_images: int, tail_fraction: float) -> list[int]:
    """Return the classes in less than this share of the images; one that never occurs counts as in one image."""
    return [index for index, count in enumerate(images) if max(count, 1) / num_images < tail_fraction]


def targets(labels: Tensor, columns: int, quality: Tensor | None = None) -> Tensor:
    """Return [N, columns], 1 (or the row's quality) at the label and 0 elsewhere."""
    target = torch.zeros(len(labels), columns, dtype=torch.float64)
    for row, label in enumerate(labels.tolist()):
        if label < columns:
            target[row, label] = 1 if quality is None else quality[row]
    return target


def sigmoid(logits: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-logits))


def cross_entropies(scores: Tensor, target: Tensor) -> Tensor:
    return -target * torch.log(scores) - (1 - target) * torch.log(1 - scores)


def total(entries: Tensor, weights: Tensor) -> Tensor:
    """Return the sum over rows of weight times the sum of the row's entries."""
    value = torch.zeros((), dtype=torch.float64)
    for row, weight in zip(entries, weights.tolist(), strict=True):
        value = value + weight * row.sum()
    return value
