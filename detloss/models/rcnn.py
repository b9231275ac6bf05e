"""Faster R-CNN (Ren et al., NeurIPS 2015) and Mask R-CNN (He et al., ICCV 2017), from torchvision's parts."""

from collections.abc import Mapping, Sequence

from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads
from torchvision.ops import MultiScaleRoIAlign

from detloss.losses import DetectionLoss
from detloss.models.anchors import Anchors
from detloss.models.backbone import ResNetFPN
from detloss.models.feature_memory import FeatureMemory
from detloss.models.predictor import BoxPredictor, mask_predictor
from detloss.models.roi_heads import RoIHeads
from detloss.models.rpn import NMS_THRESHOLD, RPN, RankedRPN, RPNHead
from detloss.models.transform import DetectorTransform

ASPECT_RATIOS = (0.5, 1.0, 2.0)
MASK_PREDICTOR_WIDTH = 256
POOLED_SIZE = 7

EVERY_PROPOSAL = 1 << 30
"""Proposals to sample an image when all are wanted: more than there are."""


class RCNN(GeneralizedRCNN):
    """Faster R-CNN; with ``mask_channels``, Mask R-CNN; with ``feature_memory``, LOCE's other half.

    Images go in as float tensors [3, H, W] in 0..1 and targets as dicts of ``boxes``, ``labels`` (1..C) and
    ``masks``; losses come out in training, and detections otherwise, as from torchvision's models.
    """

    def __init__(
        self,
        backbone: ResNetFPN,
        loss: DetectionLoss,
        rpn_loss: DetectionLoss | None = None,
        *,
        anchor_sizes: Sequence[int],
        representation_size: int = 1024,
        mask_channels: Sequence[int] | None = None,
        classifier: str = "linear",
        temperature: float = 20.0,
        min_size: int = 800,
        max_size: int = 1333,
        rpn_proposals_train: int = 2000,
        rpn_proposals_test: int = 1000,
        rpn_batch_per_image: int = 256,
        rpn_positive_fraction: float = 0.5,
        rpn_iou_thresholds: Sequence[float] = (0.7, 0.3),
        rpn_loss_weight: float = 0.2,
        box_batch_per_image: int | None = 512,
        box_positive_fraction: float = 0.25,
        box_iou_threshold: float = 0.5,
        score_threshold: float = 0.05,
        nms_threshold: float = 0.5,
        detections_per_image: int = 100,
        feature_memory: Mapping[str, int] | None = None,
    ) -> None:
        """Build the detector; sizes are in pixels, thresholds in 0..1, defaults torchvision's.

        With ``rpn_loss``, a loss of one class, the RPN learns by it from all anchors, ``rpn_loss_weight`` times;
        with ``box_batch_per_image`` None the second stage learns from all proposals. Ranking losses do both.
        ``feature_memory`` holds options of `FeatureMemory`, such as ``queue_size``; only the loss LOCE takes one.
        """
        channels, classes = backbone.out_channels, loss.coder.num_classes
        anchors = Anchors(tuple((size,) for size in anchor_sizes), (ASPECT_RATIOS,) * len(anchor_sizes))
        proposals = {"training": rpn_proposals_train, "testing": rpn_proposals_test}
        head = RPNHead(channels, len(ASPECT_RATIOS))
        rpn = (
            RPN(
                anchors,
                head,
                *rpn_iou_thresholds,
                rpn_batch_per_image,
                rpn_positive_fraction,
                proposals,
                proposals,
                NMS_THRESHOLD,
            )
            if rpn_loss is None
            else RankedRPN(
                anchors,
                head,
                rpn_loss,
                iou_thresholds=rpn_iou_thresholds,
                proposals=proposals,
                weight=rpn_loss_weight,
            )
        )
        if box_batch_per_image is None:
            box_batch_per_image, box_positive_fraction = EVERY_PROPOSAL, 1.0
        with_masks = mask_channels is not None
        roi_heads = RoIHeads(
            loss,
            box_roi_pool=MultiScaleRoIAlign(backbone.stage_names, output_size=POOLED_SIZE, sampling_ratio=2),
            box_head=TwoMLPHead(channels * POOLED_SIZE**2, representation_size),
            box_predictor=BoxPredictor(
                representation_size, loss.coder, classifier=classifier, temperature=temperature
            ),
            iou_threshold=box_iou_threshold,
            batch_per_image=box_batch_per_image,
            positive_fraction=box_positive_fraction,
            score_threshold=score_threshold,
            nms_threshold=nms_threshold,
            detections_per_image=detections_per_image,
            mask_roi_pool=MultiScaleRoIAlign(backbone.stage_names, output_size=14, sampling_ratio=2)
            if with_masks
            else None,
            mask_head=MaskRCNNHeads(channels, list(mask_channels), 1) if mask_channels is not None else None,
            mask_predictor=mask_predictor(
                mask_channels[-1],
                min(MASK_PREDICTOR_WIDTH, mask_channels[-1]),
                classes,
                classifier=classifier,
                temperature=temperature,
            )
            if mask_channels is not None
            else None,
            memory=FeatureMemory(classes, (channels, POOLED_SIZE, POOLED_SIZE), **feature_memory)
            if feature_memory is not None
            else None,
        )
        super().__init__(backbone, rpn, roi_heads, DetectorTransform(min_size, max_size))
