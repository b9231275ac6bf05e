"""torchvision's own detectors and training loop, the yardstick of ``detloss bench train``."""

import math
from dataclasses import dataclass

import torch
from omegaconf import DictConfig
from torch import nn
from torch.optim import Optimizer
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign

from detloss.data.loader import TrainingBatch
from detloss.errors import TrainingFailed, UserError
from detloss.models.backbone import ResNetFPN
from detloss.models.rcnn import ASPECT_RATIOS, MASK_PREDICTOR_WIDTH
from detloss.models.transform import DetectorTransform


@dataclass
class ReferenceLoop:
    """A step of torchvision's ``references/detection/engine.py``, without its logging."""

    model: nn.Module
    optimizer: Optimizer
    device: torch.device
    precision: torch.dtype

    def __post_init__(self) -> None:
        self.model.train()
        enabled = self.precision is torch.float16
        self.scaler = torch.amp.GradScaler(self.device.type) if enabled else None

    def __call__(self, batch: TrainingBatch) -> None:
        images = [image.to(self.device) for image in batch[0]]
        targets = [{name: value.to(self.device) for name, value in target.items()} for target in batch[1]]
        with torch.autocast(self.device.type, self.precision, enabled=self.precision is not torch.float32):
            losses = sum(self.model(images, targets).values())
        assert isinstance(losses, torch.Tensor)
        if not math.isfinite(losses.item()):
            raise TrainingFailed(f"torchvision's loss is {losses.item()}")
        self.optimizer.zero_grad()
        if self.scaler is not None:
            self.scaler.scale(losses).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            losses.backward()
            self.optimizer.step()


def equivalent_loss(stage: str) -> str:
    """Return the name of the loss that torchvision's heads of this stage have."""
    return "ce" if stage == "two_stage" else "focal"


def torchvision_detector(cfg: DictConfig, backbone: ResNetFPN, num_classes: int) -> nn.Module:
    """Return torchvision's own class for ``cfg.model`` on ``backbone``, with the same sizes and thresholds.

    Its transform does not resize in training either: the batches come resized.
    """
    makers = {"fasterrcnn": _rcnn, "maskrcnn": _rcnn, "retinanet": _retinanet, "fcos": _fcos}
    if cfg.model.name not in makers:
        raise UserError(f"torchvision has no model={cfg.model.name}; expected one of {', '.join(makers)}")
    model = makers[cfg.model.name](cfg, backbone, num_classes + 1)  # its background is a class
    options = cfg.model.detector
    model.transform = DetectorTransform(options.min_size, options.max_size)
    return model


def _rcnn(cfg: DictConfig, backbone: ResNetFPN, num_classes: int) -> nn.Module:
    options = cfg.model.detector
    channels, width = backbone.out_channels, options.representation_size
    count = len(options.anchor_sizes)
    arguments = dict(
        rpn_anchor_generator=AnchorGenerator(
            tuple((size,) for size in options.anchor_sizes), (ASPECT_RATIOS,) * count
        ),
        rpn_pre_nms_top_n_train=options.rpn_proposals_train,
        rpn_post_nms_top_n_train=options.rpn_proposals_train,
        rpn_fg_iou_thresh=options.rpn_iou_thresholds[0],
        rpn_bg_iou_thresh=options.rpn_iou_thresholds[1],
        rpn_batch_size_per_image=options.rpn_batch_per_image,
        rpn_positive_fraction=options.rpn_positive_fraction,
        box_roi_pool=MultiScaleRoIAlign(backbone.stage_names, output_size=7, sampling_ratio=2),
        box_head=TwoMLPHead(channels * 7 * 7, width),
        box_predictor=FastRCNNPredictor(width, num_classes),
        box_fg_iou_thresh=options.box_iou_threshold,
        box_bg_iou_thresh=options.box_iou_threshold,
        box_batch_size_per_image=options.box_batch_per_image,
        box_positive_fraction=options.box_positive_fraction,
    )
    if not cfg.model.masks:
        return FasterRCNN(backbone, **arguments)
    masks = list(options.mask_channels)
    return MaskRCNN(
        backbone,
        mask_roi_pool=MultiScaleRoIAlign(backbone.stage_names, output_size=14, sampling_ratio=2),
        mask_head=MaskRCNNHeads(channels, masks, 1),
        mask_predictor=MaskRCNNPredictor(masks[-1], min(MASK_PREDICTOR_WIDTH, masks[-1]), num_classes),
        **arguments,
    )


def _retinanet(cfg: DictConfig, backbone: ResNetFPN, num_classes: int) -> nn.Module:
    options = cfg.model.detector
    octaves = tuple((size, int(size * 2 ** (1 / 3)), int(size * 2 ** (2 / 3))) for size in options.anchor_sizes)
    return RetinaNet(
        backbone,
        num_classes,
        anchor_generator=AnchorGenerator(octaves, (ASPECT_RATIOS,) * len(octaves)),
        fg_iou_thresh=options.iou_thresholds[0],
        bg_iou_thresh=options.iou_thresholds[1],
    )


def _fcos(cfg: DictConfig, backbone: ResNetFPN, num_classes: int) -> nn.Module:
    levels = list(cfg.model.detector.levels)
    return FCOS(
        backbone,
        num_classes,
        anchor_generator=AnchorGenerator(tuple((2**level,) for level in levels), ((1.0,),) * len(levels)),
        center_sampling_radius=cfg.model.detector.center_sampling_radius,
    )
