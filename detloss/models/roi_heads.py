"""The second stage of Faster and Mask R-CNN: samples for a detection loss, and detections by its coder."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection import roi_heads as torchvision_roi_heads
from torchvision.ops import clip_boxes_to_image

from detloss.errors import UserError
from detloss.losses import LOCE, DetectionLoss, Samples
from detloss.models.detections import select_detections
from detloss.models.feature_memory import FeatureMemory
from detloss.models.normalizer import count_per_rank

BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Inverse standard deviations of box targets (Fast R-CNN's official code)."""

MASKS_AT_ONCE = 512
"""Detections whose masks are predicted at once, of all classes first: 2 GB at LVIS's 1,203."""


class RoIHeads(torchvision_roi_heads.RoIHeads):
    """torchvision's RoI heads with the loss and the scores taken from a ``DetectionLoss``.

    Labels are torchvision's outside (1..C) and detloss's inside (0..C-1, background C). With a ``memory``, rows
    of remembered features join the samples of the class and box loss in training; LOCE alone has the scores
    by which they are drawn.
    """

    def __init__(
        self,
        loss: DetectionLoss,
        *,
        box_roi_pool: nn.Module,
        box_head: nn.Module,
        box_predictor: nn.Module,
        iou_threshold: float,
        batch_per_image: int,
        positive_fraction: float,
        score_threshold: float,
        nms_threshold: float,
        detections_per_image: int,
        mask_roi_pool: nn.Module | None = None,
        mask_head: nn.Module | None = None,
        mask_predictor: nn.Module | None = None,
        memory: FeatureMemory | None = None,
    ) -> None:
        super().__init__(
            box_roi_pool,
            box_head,
            box_predictor,
            iou_threshold,
            iou_threshold,
            batch_per_image,
            positive_fraction,
            BOX_WEIGHTS,
            score_threshold,
            nms_threshold,
            detections_per_image,
            mask_roi_pool,
            mask_head,
            mask_predictor,
        )
        if memory is not None and not isinstance(loss, LOCE):
            raise UserError("model.detector.feature_memory draws by LOCE's mean scores; null it, or use loss=loce")
        self.loss = loss
        self.memory = memory

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Return detections (none in training) and losses (none at inference)."""
        if self.training:
            assert targets is not None
            return [], self.compute_loss(features, proposals, image_shapes, targets)
        return self.detect(features, proposals, image_shapes), {}

    def compute_loss(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]],
    ) -> dict[str, Tensor]:
        """Return the loss terms of sampled proposals."""
        proposals, matches, labels, target_deltas = self.select_training_samples(proposals, targets)
        foreground = [torch.nonzero(image_labels > 0).squeeze(1) for image_labels in labels]
        pooled = self.box_roi_pool(features, proposals, image_shapes)
        logits, deltas = self._predict_boxes(pooled, torch.cat(labels) > 0)
        auxiliary: dict[str, Tensor] = {}
        if self.has_mask():
            boxes = [boxes[rows] for boxes, rows in zip(proposals, foreground, strict=True)]
            objects = [match[rows] for match, rows in zip(matches, foreground, strict=True)]
            auxiliary["loss_mask"] = self._mask_loss(features, boxes, objects, image_shapes, targets)
        samples = self._samples(
            logits, deltas, proposals, matches, labels, foreground, target_deltas, targets, auxiliary
        )
        if self.memory is not None:
            samples = self._with_memory(samples, self.memory, features, image_shapes, targets)
        terms: dict[str, Tensor] = self.loss(samples)
        return terms

    def _predict_boxes(self, pooled: Tensor, is_foreground: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return logits [N, L] and deltas [N, C, 4] of features [N, D, 7, 7], float32 also under autocast."""
        logits, deltas = self.box_predictor(self.box_head(pooled), is_foreground)
        return logits.float(), deltas.float().unflatten(1, (-1, 4))

    def _samples(
        self,
        logits: Tensor,
        deltas: Tensor,
        proposals: list[Tensor],
        matches: list[Tensor],
        labels: list[Tensor],
        foreground: list[Tensor],
        target_deltas: Sequence[Tensor],
        targets: list[dict[str, Tensor]],
        auxiliary: dict[str, Tensor],
    ) -> Samples:
        device, sizes = logits.device, [len(rows) for rows in labels]
        image_index = torch.arange(len(labels), device=device).repeat_interleave(
            torch.tensor(sizes, device=device)
        )
        all_labels = torch.cat(labels)
        rows = torch.nonzero(all_labels > 0).squeeze(1)
        classes = all_labels[rows] - 1
        background = self.loss.coder.num_classes
        objects_per_image = torch.tensor([0] + [len(target["boxes"]) for target in targets[:-1]], device=device)
        object_index = torch.cat(matches)[rows] + objects_per_image.cumsum(0)[image_index[rows]]
        row_deltas = deltas[rows, classes]
        return Samples(
            logits=logits,
            labels=torch.where(all_labels > 0, all_labels - 1, background),
            weights=(1 / count_per_rank(len(logits), device)).expand(len(logits)),
            foreground=rows,
            boxes=self.box_coder.decode_single(row_deltas, torch.cat(proposals)[rows]),
            target_boxes=torch.cat([target["boxes"] for target in targets])[object_index].float(),
            deltas=row_deltas,
            target_deltas=torch.cat(list(target_deltas))[rows],
            image_index=image_index,
            object_index=object_index,
            auxiliary=auxiliary,
        )

    def _with_memory(
        self,
        samples: Samples,
        memory: FeatureMemory,
        features: dict[str, Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]],
    ) -> Samples:
        """Remember the batch's objects, then add what the memory gives to the samples."""
        assert isinstance(self.loss, LOCE)
        boxes = [target["boxes"] for target in targets]
        classes = [target["labels"] - 1 for target in targets]
        memory.store(boxes, classes, image_shapes, lambda made: self.box_roi_pool(features, made, image_shapes))
        remembered = memory.sample(self.loss.mean_score[: self.loss.coder.num_classes])
        logits, deltas = self._predict_boxes(remembered.features)
        return remembered.append_to(
            samples, logits, deltas, coder=self.box_coder, images=len(boxes), objects=sum(map(len, boxes))
        )

    def _mask_loss(
        self,
        features: dict[str, Tensor],
        boxes: list[Tensor],
        objects: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]],
    ) -> Tensor:
        """Return binary cross entropy of the foreground's masks (Mask R-CNN, ICCV 2017, section 3)."""
        logits = self.mask_predictor(self.mask_head(self.mask_roi_pool(features, boxes, image_shapes))).float()
        # torchvision indexes the mask channels by label; ours have no background channel.
        classes = [target["labels"] - 1 for target in targets]
        masks = [target["masks"] for target in targets]
        mean: Tensor = torchvision_roi_heads.maskrcnn_loss(logits, boxes, masks, classes, objects)
        return mean * len(logits) / count_per_rank(len(logits), logits.device)

    def detect(
        self, features: dict[str, Tensor], proposals: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """Return boxes, labels (1..C), scores and, with a mask head, masks [D, 1, 28, 28] per image."""
        logits, deltas = self._predict_boxes(self.box_roi_pool(features, proposals, image_shapes))
        sizes = [len(boxes) for boxes in proposals]
        scores = self.loss.coder.decode(logits).split(sizes)
        boxes = self.box_coder.decode(deltas.flatten(1), proposals).split(sizes)
        detections = [
            self._select(clip_boxes_to_image(image_boxes, shape), image_scores)
            for image_boxes, image_scores, shape in zip(boxes, scores, image_shapes, strict=True)
        ]
        if self.has_mask():
            kept = [detection["boxes"] for detection in detections]
            pooled = self.mask_roi_pool(features, kept, image_shapes)
            classes = torch.cat([detection["labels"] for detection in detections]) - 1
            some = zip(pooled.split(MASKS_AT_ONCE), classes.split(MASKS_AT_ONCE), strict=True)
            masks = torch.cat([self._predict_masks(*each) for each in some]).split([len(boxes) for boxes in kept])
            for detection, image_masks in zip(detections, masks, strict=True):
                detection["masks"] = image_masks
        return detections

    def _predict_masks(self, pooled: Tensor, classes: Tensor) -> Tensor:
        """Return the mask of each detection's class, [D, 1, 28, 28] in 0..1."""
        logits = self.mask_predictor(self.mask_head(pooled)).float()
        # Only the detected class's mask: a sigmoid of all 1,203 would take another gigabyte an image.
        chosen: Tensor = logits[torch.arange(len(classes), device=classes.device), classes, None].sigmoid()
        return chosen

    def _select(self, boxes: Tensor, scores: Tensor) -> dict[str, Tensor]:
        kept_boxes, kept_scores, classes = select_detections(
            boxes,
            scores,
            score_threshold=self.score_thresh,
            nms_threshold=self.nms_thresh,
            limit=self.detections_per_img,
        )
        return {"boxes": kept_boxes, "labels": classes + 1, "scores": kept_scores}
