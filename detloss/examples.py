"""A few images of a validation set to look at, of its rarest to its most frequent classes, and what was found."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from detloss.data.coco import CocoDataset
from detloss.evaluation.detections import Detections
from detloss.picture import Objects


@dataclass(frozen=True, eq=False)
class Example:
    """An image, uint8 [H, W, 3], and its ground truth."""

    image_id: int
    pixels: np.ndarray
    truth: Objects


def telling_images(dataset: CocoDataset, frequency: np.ndarray, count: int) -> list[int]:
    """Return the indices of at most ``count`` images of ``dataset``, each for another class.

    The classes are spread evenly over ``frequency`` [C], counts of a training set, the rarest first; each has the
    first image that shows it and is not taken. The same data set gives the same images.
    """
    image, shown = dataset.image_labels.pairs
    classes = np.unique(shown)
    classes = classes[np.argsort(frequency[classes], kind="stable")]
    spread = np.linspace(0, len(classes) - 1, min(count, len(classes))).round().astype(np.int64)
    chosen: list[int] = []
    for category in classes[spread].tolist():
        free = np.setdiff1d(image[shown == category], chosen)
        chosen += free[:1].tolist()
    return chosen


def example(dataset: CocoDataset, index: int) -> Example:
    """Return an image of ``dataset`` with its objects, and their masks where they were read."""
    image, target = dataset[index]
    return Example(dataset.image_ids[index], image.permute(1, 2, 0).numpy(), objects_of(target))


def objects_of(target: Mapping[str, Tensor | int]) -> Objects:
    """Return the ground truth of a sample of `CocoDataset`."""
    arrays = {name: torch.as_tensor(value).numpy() for name, value in target.items()}
    return Objects(arrays["boxes"], arrays["labels"] - 1, masks=arrays.get("masks"))


def found_on(detections: Detections, image: int, *, score: float) -> Objects:
    """Return what was found with ``score`` or more on the image at a position of the ground truth."""
    rows = detections.take((detections.image == image) & (detections.scores >= score))
    boxes = rows.boxes.copy()
    boxes[:, 2:] += boxes[:, :2]
    masks = None
    if rows.masks is not None:
        masks = np.array([coco_mask.decode(rle) for rle in rows.masks.rles(rows.row)], dtype=np.uint8)
    return Objects(boxes, rows.category, rows.scores, masks)
