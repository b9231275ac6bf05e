"""Anchors that stay exact under autocast."""

import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator


class Anchors(AnchorGenerator):
    """torchvision's anchors in float32 whatever the features are.

    Its own take the features' type, and in bfloat16 a coordinate of 901 pixels is 900, for proposals, for box
    targets and, since they are cast alike, for the ground truth.
    """

    def set_cell_anchors(self, dtype: torch.dtype, device: torch.device) -> None:
        super().set_cell_anchors(torch.float32, device)
