"""What a class loss asks of one logit, without a model: its value and gradient against the logit."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from detloss.losses import ClassLoss
from detloss.stats import ClassStats

ROLES = ("own", "others", "background")
"""Whose row the logit is in: one of its class, of the most frequent other class, or of background."""

COPIES = 64
"""Rows of which a point is the mean, for losses that spare entries by chance."""

MOST_ROWS = 1_000_000
BACKGROUND_ROWS = 3
"""A foreground row's, as RoI heads sample them."""

CLASSES = 12
"""Of LVIS v1, at even steps of its counts."""


@dataclass(frozen=True, eq=False)
class Curve:
    """A row's loss, less its least value here, and its gradient at each of the ``logits``; all [K]."""

    logits: np.ndarray
    values: np.ndarray
    gradients: np.ndarray


def sample_stats(counts: Sequence[int] | None) -> ClassStats:
    """Return statistics of classes with these instances, one to an image, or of a long tail as LVIS v1's."""
    if counts is not None:
        numbers = np.array(counts, dtype=np.int64)
        names = tuple(f"class {index}" for index in range(len(counts)))
        return ClassStats(names, tuple(range(1, len(counts) + 1)), max(1, int(numbers.sum())), numbers, numbers)
    whole = ClassStats.lvis_v1()
    order = np.argsort(whole.images, kind="stable")
    chosen = np.sort(order[((np.arange(CLASSES) + 0.5) * len(order) / CLASSES).astype(np.int64)])
    return ClassStats(
        tuple(whole.names[index] for index in chosen),
        tuple(whole.category_ids[index] for index in chosen),
        whole.num_images,
        whole.instances[chosen],
        whole.images[chosen],
        whole.num_annotated_images,
    )


def drawn_classes(stats: ClassStats) -> list[int]:
    """Return a rare, a common and a frequent class: the middle ones of each third by instances."""
    order = np.argsort(stats.instances, kind="stable")
    places = [len(order) // 6, len(order) // 2, 5 * len(order) // 6]
    return list(dict.fromkeys(int(order[place]) for place in places))


def loss_curves(loss: ClassLoss, stats: ClassStats, index: int, logits: np.ndarray) -> dict[str, Curve]:
    """Return the curve of class ``index``'s logit in each of `ROLES` (no "others" where there is no other class).

    All other logits are what the coder starts with. The loss has seen the data set once: a batch whose labels
    follow the counts, from which losses with a state have it. The mean over rows is told, each of weight 1.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        show_data(loss.train(), stats)
        loss.eval()
        labels = {"own": index, "background": stats.num_classes}
        if stats.num_classes > 1:
            others = np.where(np.arange(stats.num_classes) == index, -1, stats.instances)
            labels["others"] = int(others.argmax())
        return {role: _curve(loss, index, labels[role], logits) for role in ROLES if role in labels}


def show_data(loss: ClassLoss, stats: ClassStats) -> None:
    """Give the loss one batch with every instance (a share of them if they are too many) and background."""
    share = min(1.0, MOST_ROWS / (1 + BACKGROUND_ROWS) / max(1, int(stats.instances.sum())))
    counts = np.ceil(stats.instances * share).astype(np.int64)
    counts = np.append(counts, BACKGROUND_ROWS * counts.sum())
    labels = torch.from_numpy(np.repeat(np.arange(len(counts)), counts))
    logits = loss.coder.initial_bias().double().repeat(len(labels), 1)
    with torch.no_grad():
        loss(logits, labels, torch.full((len(labels),), 1 / max(1, len(labels)), dtype=torch.float64))


def _curve(loss: ClassLoss, index: int, label: int, logits: np.ndarray) -> Curve:
    column = int(loss.coder.class_columns[index])
    start = loss.coder.initial_bias().double().repeat(COPIES, 1)
    labels = torch.full((COPIES,), label)
    weights = torch.full((COPIES,), 1 / COPIES, dtype=torch.float64)
    values, gradients = [], []
    for logit in logits.tolist():
        rows = start.index_fill(1, torch.tensor(column), logit).requires_grad_()
        value = loss(rows, labels, weights)
        (gradient,) = torch.autograd.grad(value, rows)
        values.append(value.item())
        gradients.append(gradient[:, column].sum().item())
    return Curve(logits, np.array(values) - min(values), np.array(gradients))
