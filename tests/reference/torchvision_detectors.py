"""torchvision's own detectors beside ours: the same tiny networks, their parameters carried over row by row."""

import copy

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS as TorchvisionFCOS
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection import RetinaNet as TorchvisionRetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign

from detloss.losses import L1, ClassLoss, ClassPlusBox, CrossEntropy, DetectionLoss, Focal, GIoU, SmoothL1
from detloss.models.backbone import ResNetFPN
from detloss.models.fcos import FCOS
from detloss.models.rcnn import RCNN
from detloss.models.retinanet import RetinaNet
from detloss.stats import ClassStats

MODELS = ("fasterrcnn", "maskrcnn", "retinanet", "fcos")
CHANNELS = 32
WIDTH = 48
ANCHOR_SIZES = (16, 32, 64)
SIZES = {"min_size": 96, "max_size": 128}
CLASS_LAYERS = ("box_predictor.", "classification_head.cls_logits.", "mask_predictor.mask_fcn_logits.")

TERMS = {
    "loss_classifier": ("loss_classifier", "classification"),
    "loss_box_reg": ("loss_box_reg", "bbox_regression"),
    "loss_mask": ("loss_mask",),
    "loss_centerness": ("bbox_ctrness",),
    "loss_objectness": ("loss_objectness",),
    "loss_rpn_box_reg": ("loss_rpn_box_reg",),
}
"""Our loss terms and what torchvision calls them."""


def class_stats(num_classes: int) -> ClassStats:
    counts = np.arange(num_classes, dtype=np.int64)[::-1] ** 2  # the last class never occurs
    names = tuple(f"class_{index}" for index in range(num_classes))
    return ClassStats(names, tuple(range(num_classes)), 1000, counts, counts.copy())


def default_loss(model: str, stats: ClassStats) -> DetectionLoss:
    """The loss that torchvision's own detector has."""
    if model in ("fasterrcnn", "maskrcnn"):
        return ClassPlusBox(CrossEntropy(stats), SmoothL1())
    return ClassPlusBox(Focal(stats), L1() if model == "retinanet" else GIoU())


def with_class_loss(model: str, class_loss: ClassLoss) -> DetectionLoss:
    return ClassPlusBox(class_loss, GIoU() if model == "fcos" else L1())


def ours(model: str, loss: DetectionLoss, *, classifier: str = "linear") -> nn.Module:
    """A tiny detector of detloss with group norm, its class layers scaled up so that scores differ."""
    levels = [3, 4, 5] if model != "retinanet" else [3, 4, 5, 6, 7]
    backbone = ResNetFPN(depth=18, levels=levels, channels=CHANNELS, norm="group")
    detector: nn.Module
    if model == "retinanet":
        detector = RetinaNet(backbone, loss, anchor_sizes=(*ANCHOR_SIZES, 128, 256), score_threshold=0.03, **SIZES)
    elif model == "fcos":
        detector = FCOS(backbone, loss, levels=levels, score_threshold=0.02, **SIZES)
    else:
        detector = RCNN(
            backbone,
            loss,
            anchor_sizes=ANCHOR_SIZES,
            representation_size=WIDTH,
            mask_channels=[CHANNELS, CHANNELS] if model == "maskrcnn" else None,
            classifier=classifier,
            rpn_proposals_train=60,
            rpn_proposals_test=40,
            rpn_batch_per_image=64,
            box_batch_per_image=32,
            detections_per_image=70,
            **SIZES,
        )
    scatter_class_layers(detector)
    return detector


@torch.no_grad()
def scatter_class_layers(detector: nn.Module) -> None:
    """Draw weights at which classes, boxes and masks differ visibly, as trained ones do."""
    for name, parameter in detector.named_parameters():
        if parameter.ndim < 2:
            continue
        if any(part in name for part in CLASS_LAYERS):
            nn.init.normal_(parameter, std=0.2 if "mask_fcn" in name else 0.05)
        elif any(part in name for part in ("rpn.head", "bbox_reg.", "bbox_ctrness.")):
            nn.init.normal_(parameter, std=0.03)
        elif "head.classification_head.conv" in name or "head.regression_head.conv" in name:
            nn.init.kaiming_normal_(parameter)  # torchvision's 0.01 lets signals of 32 channels die out


def twin(model: str, detector: nn.Module, num_classes: int) -> nn.Module:
    """torchvision's detector with the same settings, its parameters not yet ours."""
    backbone = copy.deepcopy(detector.backbone)
    columns = num_classes + 1
    ratios = (0.5, 1.0, 2.0)
    made: nn.Module
    if model == "retinanet":
        octaves = tuple(
            (size, int(size * 2 ** (1 / 3)), int(size * 2 ** (2 / 3))) for size in (*ANCHOR_SIZES, 128, 256)
        )
        made = TorchvisionRetinaNet(
            backbone,
            columns,
            anchor_generator=AnchorGenerator(octaves, (ratios,) * 5),
            score_thresh=0.03,
            _skip_resize=True,
            **SIZES,
        )
    elif model == "fcos":
        anchors = AnchorGenerator(((8,), (16,), (32,)), ((1.0,),) * 3)
        made = TorchvisionFCOS(
            backbone, columns, anchor_generator=anchors, score_thresh=0.02, _skip_resize=True, **SIZES
        )
    else:
        made = _two_stage_twin(model, backbone, columns)
    return made


def _two_stage_twin(model: str, backbone: nn.Module, columns: int) -> nn.Module:
    anchors = AnchorGenerator(tuple((size,) for size in ANCHOR_SIZES), ((0.5, 1.0, 2.0),) * 3)
    shared = {
        "rpn_anchor_generator": anchors,
        "box_roi_pool": MultiScaleRoIAlign(["0", "1", "2"], output_size=7, sampling_ratio=2),
        "box_head": TwoMLPHead(CHANNELS * 49, WIDTH),
        "box_predictor": FastRCNNPredictor(WIDTH, columns),
        "rpn_pre_nms_top_n_train": 60,
        "rpn_post_nms_top_n_train": 60,
        "rpn_pre_nms_top_n_test": 40,
        "rpn_post_nms_top_n_test": 40,
        "rpn_batch_size_per_image": 64,
        "box_batch_size_per_image": 32,
        "box_detections_per_img": 70,
        "_skip_resize": True,
        **SIZES,
    }
    if model == "fasterrcnn":
        return FasterRCNN(backbone, **shared)
    return MaskRCNN(
        backbone,
        mask_roi_pool=MultiScaleRoIAlign(["0", "1", "2"], output_size=14, sampling_ratio=2),
        mask_head=MaskRCNNHeads(CHANNELS, [CHANNELS, CHANNELS], 1),
        mask_predictor=MaskRCNNPredictor(CHANNELS, CHANNELS, columns),
        **shared,
    )


def to_torchvision(state: dict[str, Tensor], num_classes: int) -> dict[str, Tensor]:
    """Our state dict in torchvision's layout, column 0 first; the dead column of dense heads scores nothing."""
    converted = {}
    for key, value in state.items():
        if "loss." in key:
            continue
        if "cls_score" in key:  # the background moves from the end to the front
            value = torch.stack([value[num_classes], *value[:num_classes]])
        elif "box_predictor.bbox_pred" in key:
            value = torch.cat([torch.full_like(value[:4], 7.0), value])
        elif "mask_fcn_logits" in key:
            value = torch.cat([torch.full_like(value[:1], 7.0), value])
        elif "classification_head.cls_logits" in key:
            rows = []
            for anchor in range(len(value) // num_classes):
                rows.append(torch.full_like(value[0], 0.0 if key.endswith("weight") else -12.0))
                rows += list(value[anchor * num_classes : (anchor + 1) * num_classes])
            value = torch.stack(rows)
        converted[key] = value
    return converted


def images_and_targets(num_classes: int, *, masks: bool) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Three images of 64 to 96 pixels with 3, 0 and 2 objects; labels are 1..C."""
    generator = torch.Generator().manual_seed(5)
    images = [torch.rand(3, *size, generator=generator) for size in ((96, 80), (64, 96), (96, 96))]
    boxes = [
        [[4.0, 6.0, 40.0, 38.0], [30.0, 50.0, 47.0, 68.0], [10.0, 20.0, 70.0, 88.0]],
        [],
        [[50.0, 40.0, 84.0, 78.0], [3.0, 3.0, 21.0, 17.0]],
    ]
    targets = []
    for image, image_boxes in zip(images, boxes, strict=True):
        count = len(image_boxes)
        labels = torch.randint(1, num_classes + 1, (count,), generator=generator)
        target = {"boxes": torch.tensor(image_boxes).reshape(-1, 4), "labels": labels}
        if masks:
            target["masks"] = torch.zeros(count, *image.shape[1:], dtype=torch.uint8)
            for mask, (x1, y1, x2, y2) in zip(target["masks"], image_boxes, strict=True):
                mask[int(y1) : int((y1 + y2) / 2), int(x1) : int(x2)] = 1
        targets.append(target)
    return images, targets
