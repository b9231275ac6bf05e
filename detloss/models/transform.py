"""Normalising and batching inside a detector."""

from torch import Tensor
from torchvision.models.detection.transform import GeneralizedRCNNTransform

# Of ImageNet, in RGB and 0..1, as torchvision trains.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class DetectorTransform(GeneralizedRCNNTransform):
    """torchvision's transform, which resizes only at inference.

    In training the data pipeline has resized already, because its random scale must be a function of
    (seed, epoch, position).
    """

    def __init__(self, min_size: int, max_size: int) -> None:
        super().__init__(min_size, max_size, list(MEAN), list(STD))

    def resize(
        self, image: Tensor, target: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        if self.training:
            return image, target
        resized: tuple[Tensor, dict[str, Tensor] | None] = super().resize(image, target)
        return resized
