"""Objects of other images pasted into an image, those of rare classes before others."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import masks_to_boxes

from detloss.data.augment import DrawView, chance
from detloss.data.coco import CocoDataset, Target, with_objects
from detloss.data.image_labels import ImageLabels
from detloss.data.samplers import repeat_factors_by_class
from detloss.stats import ClassStats


@dataclass(frozen=True, eq=False)
class PasteSources:
    """Which images objects are taken from, and which of their objects.

    Attributes:
        until: [I] probability of an image or one before it.
        chances: [C] probability that an object of the class is pasted.
    """

    until: np.ndarray
    chances: np.ndarray

    @classmethod
    def of(cls, labels: ImageLabels, stats: ClassStats, threshold: float) -> "PasteSources":
        """Draw images by their repeat factors r (Gupta et al., CVPR 2019), and objects with 1 - 1 / (2 r).

        So frequent classes, r = 1, give half of their objects, which is the paper's random subset, and rare ones
        nearly all. ``threshold`` is the share of images below which a class counts as rare. Images without objects
        are no sources.
        """
        factors = repeat_factors_by_class(stats.images, stats.num_images, threshold)
        by_image = np.zeros(len(labels))
        images, classes = labels.pairs
        np.maximum.at(by_image, images, factors[classes])
        return cls(np.cumsum(by_image) / max(by_image.sum(), 1.0), 1 - 0.5 / factors)

    def image(self) -> int:
        """Draw an image with torch's generator."""
        drawn = float(torch.rand((), dtype=torch.float64))
        return min(int(np.searchsorted(self.until, drawn, side="right")), len(self.until) - 1)

    def objects(self, labels: Tensor) -> Tensor:
        """Draw which of the objects with ``labels`` [G] in 1..C are pasted: [G] bool."""
        return torch.rand(len(labels)) < torch.from_numpy(self.chances)[labels - 1]


@dataclass(frozen=True)
class CopyPaste:
    """With ``probability`` paste objects of another image, seen through a view of its own, into each image.

    Source: Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation",
    CVPR 2021, without blending, which the paper found to make no difference. The data set must have masks;
    targets get them if ``masks`` is set.
    """

    draw: DrawView
    masks: bool
    probability: float
    sources: PasteSources

    def __call__(self, dataset: CocoDataset, index: int) -> tuple[Tensor, Target]:
        view = self.draw(dataset.size(index))
        if not chance(self.probability):
            return dataset.seen(index, view, masks=self.masks)
        image, target = dataset.seen(index, view, masks=True)
        source = self.sources.image()
        # Each image has its own size where there is no jitter; what does not fit is cut off.
        other_view = replace(self.draw(dataset.size(source)), size=view.size)
        other_image, other = dataset.seen(source, other_view, masks=True)
        other = with_objects(other, self.sources.objects(other["labels"]))
        image, target = paste(image, target, other_image, other)
        return image, target if self.masks else {key: value for key, value in target.items() if key != "masks"}


def paste(image: Tensor, target: Target, other_image: Tensor, other: Target) -> tuple[Tensor, Target]:
    """Put the objects of ``other`` in front of those of ``target``, both with masks on the same grid.

    What is covered goes from the masks below, whose boxes then end at what is left; objects that are covered
    wholly go, too.
    """
    cover = other["masks"].any(dim=0).bool()
    left = target["masks"] * ~cover
    changed = (left != target["masks"]).flatten(1).any(dim=1)
    kept = left.flatten(1).any(dim=1).bool() | ~changed
    below = with_objects({**target, "masks": left}, kept)
    cut = changed[kept]
    if cut.any():
        below["boxes"][cut] = _boxes(below["masks"][cut])
    joined = {key: torch.cat([below[key], other[key]]) for key in ("boxes", "labels", "masks")}
    return torch.where(cover, other_image, image), {**joined, "image_id": target["image_id"]}


def _boxes(masks: Tensor) -> Tensor:
    """Return [G, 4] xyxy of masks none of which is empty; a pixel's right edge is one beyond its left one."""
    boxes = masks_to_boxes(masks)
    boxes[:, 2:] += 1
    return boxes
