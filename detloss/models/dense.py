"""What one-stage detectors share: samples for a detection loss, and detections from every pyramid level."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import clip_boxes_to_image

from detloss.losses import Samples
from detloss.losses.coder import ClassCoder
from detloss.models.detections import nms_per_class

Targets = list[dict[str, Tensor]]


def dense_samples(
    logits: Tensor, deltas: Tensor, weights: Tensor, matches: Tensor, targets: Targets, coder: ClassCoder
) -> Samples:
    """Gather what both heads know; decoded boxes and encoded targets are the head's to fill in.

    Args:
        logits: [B, A, L].
        deltas: [B * A, 4].
        weights: [B, A].
        matches: [B, A], ground-truth object of the image, or negative.
    """
    device = matches.device
    sizes = torch.tensor([0] + [len(target["boxes"]) for target in targets[:-1]], device=device)
    object_index = (matches + sizes.cumsum(0)[:, None]).flatten()
    foreground = torch.nonzero(matches.flatten() >= 0).squeeze(1)
    object_index = object_index[foreground]
    labels = torch.full((matches.numel(),), coder.num_classes, device=device)
    labels[foreground] = torch.cat([target["labels"] for target in targets])[object_index] - 1
    target_boxes = torch.cat([target["boxes"] for target in targets])[object_index].float()
    foreground_deltas = deltas[foreground].float()
    return Samples(
        logits=logits.flatten(0, 1).float(),
        labels=labels,
        weights=weights.flatten(),
        foreground=foreground,
        boxes=target_boxes,
        target_boxes=target_boxes,
        deltas=foreground_deltas,
        target_deltas=foreground_deltas,
        image_index=torch.arange(len(matches), device=device).repeat_interleave(matches.shape[1]),
        object_index=object_index,
    )


@torch.no_grad()
def start_at_prior(classifier: nn.Conv2d, coder: ClassCoder) -> None:
    """Set the bias of every anchor's logits to the coder's prior."""
    assert classifier.bias is not None
    bias, start = classifier.get_parameter("bias"), coder.initial_bias()
    bias.copy_(start.repeat(len(bias) // len(start)))


def dense_detections(
    score: Callable[[int, int], Tensor],
    deltas: Sequence[Tensor],
    anchors: Sequence[Sequence[Tensor]],
    image_shapes: Sequence[tuple[int, int]],
    *,
    decode_boxes: Callable[[Tensor, Tensor], Tensor],
    score_threshold: float,
    candidates_per_level: int,
    nms_threshold: float,
    limit: int,
) -> list[dict[str, Tensor]]:
    """Return each image's detections: the best candidates of every level, then NMS within each class.

    Args:
        score: from image and level to [A, C]; a level at a time, as all of them fill memory at 1,203 classes.
        deltas: per level, [B, A, 4].
        anchors: per image and level, [A, 4].
        decode_boxes: from deltas [K, 4] and anchors [K, 4] to boxes.
    """
    detections = []
    for image, shape in enumerate(image_shapes):
        levels = []
        for level, boxes in enumerate(anchors[image]):
            scores, rows, classes = best_candidates(score(image, level), score_threshold, candidates_per_level)
            decoded = decode_boxes(deltas[level][image][rows].float(), boxes[rows])
            levels.append((clip_boxes_to_image(decoded, shape), scores, classes))
        detections.append(merge_levels(levels, nms_threshold, limit))
    return detections


def best_candidates(scores: Tensor, threshold: float, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return scores, rows and classes of the best entries of [A, C] above the threshold, best first."""
    best, entries = scores.flatten().topk(min(limit, scores.numel()))
    above = best > threshold
    best, entries = best[above], entries[above]
    return best, entries // scores.shape[1], entries % scores.shape[1]


def merge_levels(
    levels: list[tuple[Tensor, Tensor, Tensor]], nms_threshold: float, limit: int
) -> dict[str, Tensor]:
    """Join the candidates of all levels of an image and suppress duplicates within each class."""
    boxes, scores, classes = (torch.cat(parts) for parts in zip(*levels, strict=True))
    kept = nms_per_class(boxes, scores, classes, nms_threshold)[:limit]
    return {"boxes": boxes[kept], "scores": scores[kept], "labels": classes[kept] + 1}
