"""Batches, comparisons and samples that the tests of softmax losses share."""

import torch
from torch import Tensor

from detloss.losses import Samples

BATCHES = ["seed 0", "seed 1", "seed 2", "background only", "one row", "one row of background", "ties"]
"""What ``batch_of`` makes."""


def batch_of(kind: str, columns: int, num_classes: int, rows: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    """Logits in float64 with gradient, labels that include background, and weights of which some are 0."""
    generator = torch.Generator().manual_seed(BATCHES.index(kind))
    rows = 1 if kind.startswith("one row") else rows
    logits = torch.randn(rows, columns, generator=generator, dtype=torch.float64) * 2
    labels = torch.randint(num_classes + 1, (rows,), generator=generator)
    weights = torch.rand(rows, generator=generator, dtype=torch.float64) + 0.1
    weights[1::4] = 0
    if kind == "one row":
        labels[:] = 0
    elif "background" in kind:
        labels[:] = num_classes
    elif kind == "ties":
        logits = logits.sign().clamp(min=0)
    return logits.requires_grad_(), labels, weights


def assert_same(value: Tensor, expected: Tensor, logits: Tensor) -> None:
    """Compare two float64 scalars, and their gradients with respect to ``logits``, to 1e-9."""
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-12)
    gradient, expected_gradient = (torch.autograd.grad(tensor, logits)[0] for tensor in (value, expected))
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-9, atol=1e-12)


def samples_with_objects(logits: Tensor, labels: Tensor, weights: Tensor, objects: Tensor) -> Samples:
    """Samples whose row n, where it is foreground and not ignored, shows object ``objects[n]``."""
    num_classes = logits.shape[1] - 1
    foreground = torch.nonzero((labels < num_classes) & (weights > 0)).squeeze(1)
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(len(foreground), 1)
    deltas = torch.zeros(len(foreground), 4)
    return Samples(
        logits=logits,
        labels=labels,
        weights=weights,
        foreground=foreground,
        boxes=boxes,
        target_boxes=boxes.clone(),
        deltas=deltas,
        target_deltas=deltas + 2.0,
        image_index=torch.zeros_like(labels),
        object_index=objects[foreground],
    )
