"""What a training step sees of an image: drawn first, then applied to its pixels, its boxes and its masks."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

Size = tuple[int, int]  # height, width

PADDING = (124, 116, 104)
"""ImageNet's mean in 0..255, which the detectors turn into zeros, as they pad batches."""


@dataclass(frozen=True)
class View:
    """An image perhaps mirrored, then resized, of which a window is then shown. Sizes are (height, width).

    Attributes:
        source: size of the image as stored.
        resized: its size after resizing.
        size: of the window, and so of what comes out; beyond the image there is padding.
        corner: top and left of the window in the resized image.
        flip: whether the image is mirrored, left for right.
        antialias: whether shrinking averages; without it pixels are interpolated, as torchvision's detectors do.
    """

    source: Size
    resized: Size
    size: Size
    corner: tuple[int, int] = (0, 0)
    flip: bool = False
    antialias: bool = False

    @classmethod
    def whole(cls, size: Size) -> "View":
        """Return the image as it is stored."""
        return cls(size, size, size)

    @property
    def is_cut(self) -> bool:
        """Whether the window may leave out a part of the image."""
        return self.corner != (0, 0) or self.size[0] < self.resized[0] or self.size[1] < self.resized[1]

    def pixels(self, image: Tensor) -> Tensor:
        """Return uint8 [3, H, W] of the stored image's, in memory of its own."""
        if self.resized != self.source:
            # On uint8 with the channels last, where it is ten times faster than on float32 and rounds to 1/255.
            image = F.resize(image, list(self.resized), antialias=self.antialias)
        # Mirroring before and after resizing is the same, and afterwards it is part of the one copy.
        rows = image.permute(1, 2, 0).numpy()
        shown = self.window(rows[:, ::-1] if self.flip else rows).transpose(2, 0, 1)
        if shown.shape[1:] == self.size:
            return torch.from_numpy(np.array(shown, order="C"))
        padded = np.empty((3, *self.size), dtype=np.uint8)
        padded[:] = np.array(PADDING, dtype=np.uint8)[:, None, None]
        padded[:, : shown.shape[1], : shown.shape[2]] = shown
        return torch.from_numpy(padded)

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Return [G, 4] float32 of boxes on the stored image, cut off at the window, so that some may be empty."""
        top, left = self.corner
        seen = boxes.astype(np.float32)
        if self.flip:
            seen[:, [0, 2]] = self.source[1] - seen[:, [2, 0]]
        factors = (self.resized[1] / self.source[1], self.resized[0] / self.source[0])
        seen *= np.array(2 * factors, dtype=np.float32)
        seen -= np.array([left, top, left, top], dtype=np.float32)
        # What lies beyond the image is no part of an object, also where the window goes on.
        bottom, right = min(self.size[0], self.resized[0] - top), min(self.size[1], self.resized[1] - left)
        seen[:, 0::2] = seen[:, 0::2].clip(0, right)
        seen[:, 1::2] = seen[:, 1::2].clip(0, bottom)
        return seen

    def window(self, image: np.ndarray) -> np.ndarray:
        """Return the part of a mirrored and resized image [H, W, ...] that is shown; not padded."""
        top, left = self.corner
        return image[top : top + self.size[0], left : left + self.size[1]]
