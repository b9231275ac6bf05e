"""What happens to an image and its target between the file and the model."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2

Target = dict[str, Tensor]
Transform = Callable[[tv_tensors.Image, Mapping[str, Tensor | int]], tuple[Tensor, Target]]


def training_transform(
    scales: Sequence[int] | None = None, max_size: int | None = None, flip: float = 0.5
) -> Transform:
    """Flip with probability ``flip``, then resize the shortest side to one of ``scales`` drawn at random.

    The longest side is at most ``max_size``; sizes round down and pixels are interpolated, without
    antialiasing, as in torchvision's ``GeneralizedRCNNTransform``. ``scales=None`` keeps the size. Random
    choices come from torch's generator.
    """
    steps: list[nn.Module] = [v2.RandomHorizontalFlip(p=flip)]
    if scales is not None:
        # On uint8, where it is several times faster than on float32 and rounds to 1/255.
        steps.append(v2.RandomShortestSize(list(scales), max_size=max_size, antialias=False))
    return v2.Compose([*steps, _to_float(), v2.ClampBoundingBoxes(), DropDegenerateBoxes(), PlainTensors()])


def evaluation_transform() -> Transform:
    """Convert the image to float32 in [0, 1] and nothing else."""
    return v2.Compose([_to_float(), PlainTensors()])


class DropDegenerateBoxes(nn.Module):
    """Remove boxes without area, with their labels and masks: torchvision's detectors refuse them."""

    def forward(self, image: Tensor, target: Mapping[str, Tensor | int]) -> tuple[Tensor, dict[str, Tensor | int]]:
        boxes = target["boxes"]
        assert isinstance(boxes, Tensor)
        keep = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        if keep.all():
            return image, dict(target)
        return image, {key: value[keep] if isinstance(value, Tensor) else value for key, value in target.items()}


class PlainTensors(nn.Module):
    """Strip torchvision's tensor classes and make the image id a tensor, as the detectors expect."""

    def forward(self, image: Tensor, target: Mapping[str, Tensor | int]) -> tuple[Tensor, Target]:
        tensors = {key: torch.as_tensor(value).as_subclass(Tensor) for key, value in target.items()}
        return image.as_subclass(Tensor), tensors


def _to_float() -> nn.Module:
    return v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True)
