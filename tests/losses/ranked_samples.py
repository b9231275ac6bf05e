"""Samples that the tests of ranking losses share, and what they rank, row by row."""

from dataclasses import replace

import torch
from torch import Tensor

from detloss.losses import Samples

CLASSES = 4


def random_samples(seed: int, *, rows: int = 24, images: int = 3, foreground: float = 0.4) -> Samples:
    """A batch in float64 whose logits and boxes carry gradient; every fifth row is ignored."""
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    labels = torch.randint(CLASSES, (rows,), generator=generator)
    labels[rand(rows) > foreground] = CLASSES
    weights = rand(rows) + 0.1
    weights[2::5] = 0
    chosen = torch.nonzero((labels < CLASSES) & (weights > 0)).squeeze(1)
    count = len(chosen)
    corners = rand(count, 2) * 50
    targets = torch.cat([corners, corners + 10 + 20 * rand(count, 2)], dim=1)
    return Samples(
        logits=(torch.randn(rows, CLASSES, generator=generator, dtype=torch.float64)).requires_grad_(),
        labels=labels,
        weights=weights,
        foreground=chosen,
        boxes=(targets + 6 * rand(count, 4) - 3).requires_grad_(),
        target_boxes=targets,
        deltas=rand(count, 4).requires_grad_(),
        target_deltas=rand(count, 4),
        image_index=torch.arange(rows) * images // max(1, rows),
        object_index=torch.arange(count),
    )


def of_images(samples: Samples, *images: int) -> Samples:
    """The rows of these images, as a batch; they share logits and boxes with the whole batch."""
    chosen = torch.isin(samples.image_index, torch.tensor(images))
    rows = torch.nonzero(chosen).squeeze(1)
    own = chosen[samples.foreground]
    place = torch.full_like(samples.labels, -1)
    place[rows] = torch.arange(len(rows))
    return replace(
        samples,
        logits=samples.logits[rows],
        labels=samples.labels[rows],
        weights=samples.weights[rows],
        foreground=place[samples.foreground[own]],
        boxes=samples.boxes[own],
        target_boxes=samples.target_boxes[own],
        deltas=samples.deltas[own],
        target_deltas=samples.target_deltas[own],
        image_index=samples.image_index[rows],
        object_index=samples.object_index[own],
    )


def with_foreground(samples: Samples, kept: Tensor) -> Samples:
    """Only the foreground rows ``kept`` [P], bool; the others are background."""
    labels = samples.labels.clone()
    labels[samples.foreground[~kept]] = CLASSES
    return replace(
        samples,
        labels=labels,
        foreground=samples.foreground[kept],
        boxes=samples.boxes[kept],
        target_boxes=samples.target_boxes[kept],
        deltas=samples.deltas[kept],
        target_deltas=samples.target_deltas[kept],
        object_index=samples.object_index[kept],
    )


def flat_targets(samples: Samples, quality: Tensor) -> Tensor:
    """Targets [N C]: a foreground row's quality at its class, -1 in ignored rows, 0 elsewhere; one by one."""
    rows = samples.foreground.tolist()
    targets = []
    for row, (label, weight) in enumerate(zip(samples.labels.tolist(), samples.weights.tolist(), strict=True)):
        for column in range(CLASSES):
            if weight == 0:
                targets.append(-1.0)
            elif column == label:
                targets.append(float(quality[rows.index(row)]))
            else:
                targets.append(0.0)
    return torch.tensor(targets, dtype=torch.float64)


def gradients(value: Tensor, samples: Samples) -> tuple[Tensor, Tensor]:
    """Derivatives of a scalar with respect to logits and boxes, 0 where there is none."""
    leaves = (samples.logits, samples.boxes)
    found = torch.autograd.grad(value, leaves, allow_unused=True, retain_graph=True)
    first, second = (
        torch.zeros_like(leaf) if gradient is None else gradient
        for gradient, leaf in zip(found, leaves, strict=True)
    )
    return first, second


def assert_same(value: Tensor, expected: Tensor, samples: Samples) -> None:
    """Compare two scalars and their gradients to 1e-9."""
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-12)
    for gradient, wanted in zip(gradients(value, samples), gradients(expected, samples), strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-9, atol=1e-12)
