"""How training images are varied: each function of random choices gives a `View`, drawn from torch's generator."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from detloss.data.coco import CocoDataset, Target
from detloss.data.views import Size, View

DrawView = Callable[[Size], View]
"""Draws what is seen of an image of that size (height, width)."""

Augment = Callable[[CocoDataset, int], tuple[Tensor, Target]]
"""Makes a training sample of an image of the data set: uint8 [3, H, W] and its target."""


@dataclass(frozen=True)
class ShortestSide:
    """Flip with probability ``flip``, then resize the shortest side to one of ``scales`` drawn at random.

    The longest side is at most ``max_size``; sizes round down and pixels are interpolated, without
    antialiasing, as in torchvision's ``GeneralizedRCNNTransform``. ``scales=None`` keeps the size.
    """

    scales: Sequence[int] | None = None
    max_size: int | None = None
    flip: float = 0.5

    def __call__(self, source: Size) -> View:
        flip = chance(self.flip)
        if self.scales is None:
            return View(source, source, source, flip=flip)
        factor = self.scales[int(torch.randint(len(self.scales), ()))] / min(source)
        if self.max_size is not None:
            factor = min(factor, self.max_size / max(source))
        resized = (max(int(source[0] * factor), 1), max(int(source[1] * factor), 1))
        return View(source, resized, resized, flip=flip)


@dataclass(frozen=True)
class LargeScaleJitter:
    """Resize to a random share of a square of ``crop`` pixels and show a random window of its size.

    Source: Ghiasi et al., "Simple Copy-Paste", CVPR 2021, sec. 3; as torchvision's ``ScaleJitter``: the image is
    first made to fit into the square, keeping its shape, and then scaled by a factor drawn evenly from
    ``jitter``. A window beyond the image is padded at the right and at the bottom.
    """

    crop: int
    jitter: tuple[float, float] = (0.1, 2.0)
    flip: float = 0.5

    def __call__(self, source: Size) -> View:
        flip = chance(self.flip)
        low, high = self.jitter
        factor = (low + (high - low) * float(torch.rand(()))) * self.crop / max(source)
        resized = (max(int(source[0] * factor), 1), max(int(source[1] * factor), 1))
        top, left = (int(torch.randint(max(side - self.crop, 0) + 1, ())) for side in resized)
        return View(source, resized, (self.crop, self.crop), (top, left), flip, antialias=True)


@dataclass(frozen=True)
class Plain:
    """Show each image through a view of its own, with masks or without."""

    draw: DrawView
    masks: bool

    def __call__(self, dataset: CocoDataset, index: int) -> tuple[Tensor, Target]:
        return dataset.seen(index, self.draw(dataset.size(index)), masks=self.masks)


def chance(probability: float) -> bool:
    """Return true with ``probability``."""
    return bool(torch.rand(()) < probability)
