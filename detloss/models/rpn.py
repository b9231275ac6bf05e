"""Region proposal network whose losses do not depend on how images are spread over ranks."""

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection import rpn

from detloss.models.normalizer import count_per_rank


class RPNHead(rpn.RPNHead):
    """torchvision's head with float32 outputs, also under autocast: proposals are decoded from them."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        logits, deltas = super().forward(x)
        return [level.float() for level in logits], [level.float() for level in deltas]


class RPN(rpn.RegionProposalNetwork):
    """torchvision's RPN, its losses divided by the samples of all ranks instead of this rank's."""

    def compute_loss(
        self,
        objectness: Tensor,
        pred_bbox_deltas: Tensor,
        labels: list[Tensor],
        regression_targets: list[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Return the objectness and box losses of sampled anchors (Faster R-CNN, NeurIPS 2015, eq. 1).

        Args:
            objectness: [A, 1] logits of all anchors of the batch.
            pred_bbox_deltas: [A, 4].
            labels: per image, 1 object, 0 background, -1 ignored.
            regression_targets: per image, [anchors, 4].
        """
        positive_masks, negative_masks = self.fg_bg_sampler(labels)
        positive = torch.nonzero(torch.cat(positive_masks)).squeeze(1)
        sampled = torch.cat([positive, torch.nonzero(torch.cat(negative_masks)).squeeze(1)])
        count = count_per_rank(len(sampled), objectness.device)
        objectness_loss = F.binary_cross_entropy_with_logits(
            objectness.flatten()[sampled], torch.cat(labels)[sampled], reduction="sum"
        )
        box_loss = F.smooth_l1_loss(
            pred_bbox_deltas[positive], torch.cat(regression_targets)[positive], beta=1 / 9, reduction="sum"
        )
        return objectness_loss / count, box_loss / count
