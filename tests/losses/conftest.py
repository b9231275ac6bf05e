"""Class counts and samples that several tests of losses share."""

import numpy as np
import torch
from torch import Tensor

from detloss.losses import Samples
from detloss.stats import ClassStats

COUNTS = [1000, 40, 7, 1, 0]
"""A long tail whose last class never occurs."""


def stats_of(counts: list[int]) -> ClassStats:
    instances = np.array(counts, dtype=np.int64)
    names = tuple(f"class_{index}" for index in range(len(counts)))
    return ClassStats(names, tuple(range(1, len(counts) + 1)), 1000, instances, instances.copy())


def samples_of(boxes: Tensor, target_boxes: Tensor, deltas: Tensor, target_deltas: Tensor) -> Samples:
    """Four rows with weights 0.5, 0, 2 and 1, of which rows 0 and 2 are foreground."""
    return Samples(
        logits=torch.zeros(4, 3),
        labels=torch.tensor([0, 2, 1, 2]),
        weights=torch.tensor([0.5, 0.0, 2.0, 1.0]),
        foreground=torch.tensor([0, 2][: len(boxes)], dtype=torch.int64),
        boxes=boxes,
        target_boxes=target_boxes,
        deltas=deltas,
        target_deltas=target_deltas,
        image_index=torch.zeros(4, dtype=torch.int64),
        object_index=torch.arange(len(boxes)),
    )
