"""RetinaNet (Lin et al., ICCV 2017) and FCOS (Tian et al., ICCV 2019) on torchvision's anchors and matching."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection import fcos, retinanet
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import clip_boxes_to_image

from detloss.losses import DetectionLoss, Samples
from detloss.losses.coder import ClassCoder
from detloss.models.backbone import ResNetFPN
from detloss.models.detections import nms_per_class
from detloss.models.normalizer import count_per_rank
from detloss.models.transform import DetectorTransform

Targets = list[dict[str, Tensor]]


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


class FCOSHead(fcos.FCOSHead):
    """torchvision's head with the classifier's width from the coder and the loss given."""

    def __init__(self, in_channels: int, loss: DetectionLoss) -> None:
        super().__init__(in_channels, 1, loss.coder.num_logits)
        start_at_prior(self.classification_head.cls_logits, loss.coder)
        self.loss = loss

    def compute_loss(
        self,
        targets: Targets,
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> dict[str, Tensor]:
        """Return the loss terms, divided by the foreground locations of the batch over all ranks."""
        matches = torch.stack(matched_idxs)
        count = count_per_rank(int((matches >= 0).sum()), matches.device)
        deltas = head_outputs["bbox_regression"].flatten(0, 1)
        weights = (1 / count).expand(matches.shape)
        samples = dense_samples(head_outputs["cls_logits"], deltas, weights, matches, targets, self.loss.coder)
        locations = torch.cat(anchors)[samples.foreground]
        samples.boxes = self.box_coder.decode(samples.deltas, locations)
        samples.target_deltas = self.box_coder.encode(locations, samples.target_boxes)
        centerness = head_outputs["bbox_ctrness"].flatten()[samples.foreground].float()
        samples.auxiliary["loss_centerness"] = (
            F.binary_cross_entropy_with_logits(
                centerness, centerness_target(samples.target_deltas), reduction="sum"
            )
            / count
        )
        terms: dict[str, Tensor] = self.loss(samples)
        return terms


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


def centerness_target(distances: Tensor) -> Tensor:
    """Return sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)) of distances [P, 4] l, t, r, b (FCOS, eq. 3)."""
    horizontal, vertical = distances[:, [0, 2]], distances[:, [1, 3]]
    ratio = horizontal.amin(1) / horizontal.amax(1) * vertical.amin(1) / vertical.amax(1)
    return ratio.sqrt()


@torch.no_grad()
def start_at_prior(classifier: nn.Conv2d, coder: ClassCoder) -> None:
    """Set the bias of every anchor's logits to the coder's prior."""
    assert classifier.bias is not None
    bias, start = classifier.get_parameter("bias"), coder.initial_bias()
    bias.copy_(start.repeat(len(bias) // len(start)))


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
        anchors = AnchorGenerator(octaves, ((0.5, 1.0, 2.0),) * len(octaves))
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
        detections = []
        for image, shape in enumerate(image_shapes):
            levels = []
            for logits, deltas, boxes in zip(
                head_outputs["cls_logits"], head_outputs["bbox_regression"], anchors[image], strict=True
            ):
                scores = self.head.loss.coder.decode(logits[image].float())
                scores, rows, classes = best_candidates(scores, self.score_thresh, self.topk_candidates)
                decoded = self.box_coder.decode_single(deltas[image][rows].float(), boxes[rows])
                levels.append((clip_boxes_to_image(decoded, shape), scores, classes))
            detections.append(merge_levels(levels, self.nms_thresh, self.detections_per_img))
        return detections


class FCOS(fcos.FCOS):
    """FCOS with centre sampling; inputs and outputs as torchvision's."""

    def __init__(
        self,
        backbone: ResNetFPN,
        loss: DetectionLoss,
        *,
        levels: Sequence[int],
        min_size: int = 800,
        max_size: int = 1333,
        center_sampling_radius: float = 1.5,
        candidates_per_level: int = 1000,
        score_threshold: float = 0.05,
        nms_threshold: float = 0.6,
        detections_per_image: int = 100,
    ) -> None:
        """Build the detector; an anchor is a location's square of one stride. Defaults are torchvision's,
        except its score threshold of 0.2, which hides low-scored classes."""
        anchors = AnchorGenerator(tuple((2**level,) for level in levels), ((1.0,),) * len(levels))
        super().__init__(
            backbone,
            loss.coder.num_classes,
            anchor_generator=anchors,
            head=FCOSHead(backbone.out_channels, loss),
            center_sampling_radius=center_sampling_radius,
            score_thresh=score_threshold,
            nms_thresh=nms_threshold,
            detections_per_img=detections_per_image,
            topk_candidates=candidates_per_level,
        )
        self.transform = DetectorTransform(min_size, max_size)

    def postprocess_detections(
        self,
        head_outputs: dict[str, list[Tensor]],
        anchors: list[list[Tensor]],
        image_shapes: list[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        """Return detections per image; a score is the geometric mean of class score and centre-ness."""
        detections = []
        for image, shape in enumerate(image_shapes):
            levels = []
            for logits, deltas, centerness, boxes in zip(
                head_outputs["cls_logits"],
                head_outputs["bbox_regression"],
                head_outputs["bbox_ctrness"],
                anchors[image],
                strict=True,
            ):
                scores = self.head.loss.coder.decode(logits[image].float())
                scores = (scores * centerness[image].float().sigmoid()).sqrt()
                scores, rows, classes = best_candidates(scores, self.score_thresh, self.topk_candidates)
                decoded = self.box_coder.decode(deltas[image][rows].float(), boxes[rows])
                levels.append((clip_boxes_to_image(decoded, shape), scores, classes))
            detections.append(merge_levels(levels, self.nms_thresh, self.detections_per_img))
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
