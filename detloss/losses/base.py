"""The two protocols every loss follows, and the step from the first to the second."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from detloss.losses.coder import ClassCoder
from detloss.losses.samples import Samples


class ClassLoss(nn.Module, ABC):
    """A loss on classification logits alone (cross entropy, focal, ECM, ...)."""

    coder: ClassCoder

    def state_scalars(self) -> dict[str, float]:
        """Return what is worth watching of the loss's state, by name; nothing by default."""
        return {}

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


class DetectionLoss(nn.Module, ABC):
    """A loss on everything a head knows; what a model sees."""

    coder: ClassCoder

    def state_scalars(self) -> dict[str, float]:
        """Return what is worth watching of the loss's state, by name; nothing by default."""
        return {}

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
            "loss_classifier": self.class_loss(samples.logits, samples.labels, samples.weights),
            "loss_box_reg": self.box_loss(samples),
            **samples.auxiliary,
        }


def state_scalars(model: nn.Module) -> dict[str, float]:
    """Return what the losses inside ``model`` report about themselves, as ``state/NAME``."""
    losses = [module for module in model.modules() if isinstance(module, ClassLoss | DetectionLoss)]
    return {f"state/{name}": value for loss in losses for name, value in loss.state_scalars().items()}
