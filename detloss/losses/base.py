"""The two protocols every loss follows, and the step from the first to the second."""

from abc import ABC, abstractmethod
from collections import Counter

import torch
from torch import Tensor, nn

from detloss.losses.coder import ClassCoder
from detloss.losses.samples import Samples


class Watched(nn.Module):
    """A module whose state is worth watching, next to the losses' values."""

    def state_scalars(self) -> dict[str, float]:
        """Return what is worth watching of the state, by name; nothing by default."""
        return {}


class ClassLoss(Watched, ABC):
    """A loss on classification logits alone (cross entropy, focal, ECM, ...)."""

    coder: ClassCoder

    @abstractmethod
    def forward(
        self, logits: Tensor, labels: Tensor, weights: Tensor | None = None, quality: Tensor | None = None
    ) -> Tensor:
        """Return the sum over rows of weight times row loss, a scalar of at least float32.

        Args:
            logits: [N, L].
            labels: [N] int64, 0..C-1, and C for background.
            weights: [N]; None means 1.
            quality: [N], IoU of the positives for losses that use it; None means 1.
        """


class BoxLoss(nn.Module, ABC):
    """A regression loss on the foreground boxes."""

    @abstractmethod
    def forward(self, samples: Samples) -> Tensor:
        """Return the sum over foreground rows of weight times row loss, a scalar."""


class DetectionLoss(Watched, ABC):
    """A loss on everything a head knows; what a model sees."""

    coder: ClassCoder

    @abstractmethod
    def forward(self, samples: Samples) -> dict[str, Tensor]:
        """Return named scalars whose sum is minimised."""


class ClassPlusBox(DetectionLoss):
    """A class loss beside a box loss, each weighted as the head says."""

    def __init__(self, class_loss: ClassLoss, box_loss: BoxLoss) -> None:
        super().__init__()
        self.class_loss = class_loss
        self.box_loss = box_loss
        self.coder = class_loss.coder

    def forward(self, samples: Samples) -> dict[str, Tensor]:
        return {
            "loss_classifier": self.class_loss(
                samples.logits, samples.labels, samples.weights, box_quality(samples)
            ),
            "loss_box_reg": self.box_loss(samples),
            **samples.auxiliary,
        }


def box_quality(samples: Samples) -> Tensor:
    """Return the IoU of every foreground row's predicted box with its ground truth, 0 elsewhere, [N]."""
    overlap = foreground_quality(samples).to(samples.weights.dtype)
    return samples.weights.new_zeros(len(samples.labels)).index_put((samples.foreground,), overlap)


@torch.no_grad()
def foreground_quality(samples: Samples) -> Tensor:
    """Return the IoU of the foreground's predicted boxes with their ground truth, [P]."""
    found, wanted = samples.boxes.detach(), samples.target_boxes
    sides = (torch.minimum(found[:, 2:], wanted[:, 2:]) - torch.maximum(found[:, :2], wanted[:, :2])).clamp(min=0)
    shared = sides.prod(dim=1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1) for boxes in (found, wanted)]
    return shared / (areas[0] + areas[1] - shared).clamp(min=1e-6)


def state_scalars(model: nn.Module) -> dict[str, float]:
    """Return what the losses and memories inside ``model`` report about themselves, as ``state/NAME``.

    Where several report the same name, their place in the model stands before it.
    """
    found = [
        (path, name, value)
        for path, module in model.named_modules()
        if isinstance(module, Watched)
        for name, value in module.state_scalars().items()
    ]
    times = Counter(name for _, name, _ in found)
    return {f"state/{name if times[name] == 1 else f'{path}.{name}'}": value for path, name, value in found}
