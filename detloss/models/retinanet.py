"""RetinaNet (Lin et al., ICCV 2017) on torchvision's anchors and matching."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.detection import retinanet
from torchvision.models.detection._utils import Matcher

from detloss.losses import DetectionLoss
from detloss.models.anchors import Anchors
from detloss.models.backbone import ResNetFPN
from detloss.models.dense import Targets, dense_detections, dense_samples, start_at_prior
from detloss.models.transform import DetectorTransform


class RetinaNetHead(retinanet.RetinaNetHead):
    """torchvision's head with the classifier's width from the coder and the loss given."""

    def __init__(self, in_channels: int, num_anchors: int, loss: DetectionLoss) -> None:
        super().__init__(in_channels, num_anchors, loss.coder.num_logits)
        start_at_prior(self.classification_head.cls_logits, loss.coder)
        self.loss = loss

    def compute_loss(
        self,
        targets: Targets,
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> dict[str, Tensor]:
        """Return the loss terms; each image counts the same and is divided by its foreground anchors."""
        matches = torch.stack(matched_idxs)
        per_image = 1 / (len(targets) * (matches >= 0).sum(dim=1).clamp(min=1))
        weights = torch.where(matches == Matcher.BETWEEN_THRESHOLDS, 0.0, per_image[:, None])
        deltas = head_outputs["bbox_regression"].flatten(0, 1)
        samples = dense_samples(head_outputs["cls_logits"], deltas, weights, matches, targets, self.loss.coder)
        foreground_anchors = torch.cat(anchors)[samples.foreground]
        coder = self.regression_head.box_coder
        samples.boxes = coder.decode_single(samples.deltas, foreground_anchors)
        samples.target_deltas = coder.encode_single(samples.target_boxes, foreground_anchors)
        terms: dict[str, Tensor] = self.loss(samples)
        return terms


class RetinaNet(retinanet.RetinaNet):
    """RetinaNet with nine anchors a location; inputs and outputs as torchvision's."""

    def __init__(
        self,
        backbone: ResNetFPN,
        loss: DetectionLoss,
        *,
        anchor_sizes: Sequence[int],
        min_size: int = 800,
        max_size: int = 1333,
        iou_thresholds: Sequence[float] = (0.5, 0.4),
        candidates_per_level: int = 1000,
        score_threshold: float = 0.05,
        nms_threshold: float = 0.5,
        detections_per_image: int = 300,
    ) -> None:
        """Build the detector; sizes are in pixels, thresholds in 0..1, defaults torchvision's."""
        octaves = tuple((size, int(size * 2 ** (1 / 3)), int(size * 2 ** (2 / 3))) for size in anchor_sizes)
        anchors = Anchors(octaves, ((0.5, 1.0, 2.0),) * len(octaves))
        head = RetinaNetHead(backbone.out_channels, anchors.num_anchors_per_location()[0], loss)
        super().__init__(
            backbone,
            loss.coder.num_classes,
            anchor_generator=anchors,
            head=head,
            score_thresh=score_threshold,
            nms_thresh=nms_threshold,
            detections_per_img=detections_per_image,
            fg_iou_thresh=iou_thresholds[0],
            bg_iou_thresh=iou_thresholds[1],
            topk_candidates=candidates_per_level,
        )
        self.transform = DetectorTransform(min_size, max_size)

    def postprocess_detections(
        self,
        head_outputs: dict[str, list[Tensor]],
        anchors: list[list[Tensor]],
        image_shapes: list[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        """Return detections per image, with the coder's scores."""
        logits, coder = head_outputs["cls_logits"], self.head.loss.coder
        return dense_detections(
            lambda image, level: coder.decode(logits[level][image].float()),
            head_outputs["bbox_regression"],
            anchors,
            image_shapes,
            decode_boxes=self.box_coder.decode_single,
            score_threshold=self.score_thresh,
            candidates_per_level=self.topk_candidates,
            nms_threshold=self.nms_thresh,
            limit=self.detections_per_img,
        )
