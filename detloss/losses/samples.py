"""What a detection head knows about its predictions, as every loss receives it."""

from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class Samples:
    """N classified samples (RoIs, anchors, locations) of a batch, P of them foreground; floats are float32.

    Attributes:
        logits: [N, L], with gradient.
        labels: [N], 0..C-1, and C for background.
        weights: [N], what the detector's paper divides by, as a factor per row; 0 ignores the row.
        foreground: [P], rows that are foreground and not ignored.
        boxes: [P, 4], predicted boxes, xyxy in pixels of the resized image, with gradient.
        target_boxes: [P, 4], the matched ground truth, likewise.
        deltas: [P, 4], predicted boxes as the box coder encodes them, with gradient.
        target_deltas: [P, 4], the ground truth likewise.
        image_index: [N], image of the batch.
        object_index: [P], ground-truth object, unique in the batch.
        auxiliary: named scalar losses of the same head (mask, centre-ness), which a loss that balances
            tasks may scale; any other returns them as they are.
    """

    logits: Tensor
    labels: Tensor
    weights: Tensor
    foreground: Tensor
    boxes: Tensor
    target_boxes: Tensor
    deltas: Tensor
    target_deltas: Tensor
    image_index: Tensor
    object_index: Tensor
    auxiliary: dict[str, Tensor] = field(default_factory=dict)
