"""From scored boxes to an image's detections; memory stays small at 1,203 classes and low thresholds."""

import torch
from torch import Tensor
from torchvision.ops import nms

SMALLEST_SIDE = 1e-2
"""Pixels; torchvision drops smaller boxes."""


def select_detections(
    boxes: Tensor, scores: Tensor, *, score_threshold: float, nms_threshold: float, limit: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return boxes [D, 4], scores [D] and classes [D] after NMS per class, best first, D <= limit.

    Args:
        boxes: [N, C, 4], a box per class, clipped to the image.
        scores: [N, C].

    A box can only be suppressed by one that scores higher, so NMS over the best K candidates keeps the same
    boxes as NMS over all of them; K grows until enough are kept.
    """
    sides = boxes[..., 2:] - boxes[..., :2]
    valid = (scores > score_threshold) & (sides >= SMALLEST_SIDE).all(dim=-1)
    candidates = torch.nonzero(valid.flatten()).squeeze(1)
    order = scores.flatten()[candidates].argsort(descending=True, stable=True)
    candidates = candidates[order]
    boxes, scores = boxes.reshape(-1, 4), scores.flatten()
    num_classes = valid.shape[1]
    considered = 8 * limit
    while True:
        best = candidates[:considered]
        kept = best[nms_per_class(boxes[best], scores[best], best % num_classes, nms_threshold)][:limit]
        if len(kept) == limit or considered >= len(candidates):
            return boxes[kept], scores[kept], kept % num_classes
        considered *= 4


def nms_per_class(boxes: Tensor, scores: Tensor, classes: Tensor, threshold: float) -> Tensor:
    """Return indices kept by NMS within each class, best first.

    Classes are moved apart by an offset in float64: in float32 the offset of class 1,203 takes digits from
    the coordinates, and other boxes are kept.
    """
    if not len(boxes):
        return torch.zeros(0, dtype=torch.int64, device=boxes.device)
    boxes = boxes.double()
    offsets = classes * (boxes.max() + 1)
    return nms(boxes + offsets[:, None], scores.double(), threshold)
