"""Class coders: how many logits a classifier has, how they start, and what scores they mean."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

FOCAL_PRIOR = 0.01
"""Probability of every class at the start (focal loss, ICCV 2017, section 4.1)."""


class ClassCoder(ABC):
    """The twin of torchvision's ``BoxCoder``: between C classes and the L logits of a classifier."""

    def __init__(self, num_classes: int) -> None:
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {num_classes}")
        self.num_classes = num_classes

    @property
    @abstractmethod
    def num_logits(self) -> int:
        """L, the logits per sample."""

    @property
    def class_columns(self) -> Tensor:
        """The columns [C] of the classes among the L logits."""
        return torch.arange(self.num_classes)

    @abstractmethod
    def decode(self, logits: Tensor) -> Tensor:
        """Return scores [..., C] in [0, 1] for logits [..., L]."""

    @abstractmethod
    def initial_bias(self) -> Tensor:
        """Return the classifier's bias [L] at the start of training."""


class Softmax(ClassCoder):
    """C classes and, last, the background: scores are the classes' softmax probabilities."""

    @property
    def num_logits(self) -> int:
        return self.num_classes + 1

    def decode(self, logits: Tensor) -> Tensor:
        return logits.softmax(dim=-1)[..., :-1]

    def initial_bias(self) -> Tensor:
        return torch.zeros(self.num_logits)


class Sigmoid(ClassCoder):
    """One logit per class; background is the absence of all."""

    def __init__(self, num_classes: int, prior: float = FOCAL_PRIOR) -> None:
        super().__init__(num_classes)
        self.prior = prior

    @property
    def num_logits(self) -> int:
        return self.num_classes

    def decode(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()

    def initial_bias(self) -> Tensor:
        return torch.full((self.num_logits,), math.log(self.prior / (1 - self.prior)))


class SigmoidWithObjectness(ClassCoder):
    """One logit per class and, last, one for background: a score is sigma(z_c) (1 - sigma(z_background))."""

    def __init__(self, num_classes: int, prior: float = FOCAL_PRIOR) -> None:
        super().__init__(num_classes)
        self.prior = prior

    @property
    def num_logits(self) -> int:
        return self.num_classes + 1

    def decode(self, logits: Tensor) -> Tensor:
        # 1 - sigma(z) = sigma(-z), which keeps its digits where sigma(z) rounds to 1.
        return logits[..., :-1].sigmoid() * (-logits[..., -1:]).sigmoid()

    def initial_bias(self) -> Tensor:
        bias = torch.full((self.num_logits,), math.log(self.prior / (1 - self.prior)))
        bias[-1] = 0.0
        return bias
