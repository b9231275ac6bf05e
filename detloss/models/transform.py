"""Normalising and batching inside a detector."""

import torch
from torch import Tensor
from torchvision.models.detection.transform import GeneralizedRCNNTransform

# Of ImageNet, in RGB and 0..1, as torchvision trains.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class DetectorTransform(GeneralizedRCNNTransform):
    """torchvision's transform, which resizes only at inference and also takes uint8 images, of 0..255.

    In training the data pipeline has resized already, because its random scale must be a function of
    (seed, epoch, position). Pixels become numbers here, on the device: on the way they take a quarter of the room.
    """

    def __init__(self, min_size: int, max_size: int) -> None:
        super().__init__(min_size, max_size, list(MEAN), list(STD))

    def normalize(self, image: Tensor) -> Tensor:
        normalized: Tensor = super().normalize(as_float(image))
        return normalized

    def resize(
        self, image: Tensor, target: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        if self.training:
            return image, target
        resized: tuple[Tensor, dict[str, Tensor] | None] = super().resize(image, target)
        return resized


def as_float(image: Tensor) -> Tensor:
    """Return pixels in 0..1: those of uint8 divided by 255, others as they are."""
    return image.to(torch.float32).mul_(1 / 255) if image.dtype == torch.uint8 else image
