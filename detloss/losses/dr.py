"""DR loss (Qian et al., "DR Loss: Improving Object Detection by Distributional Ranking", CVPR 2020)."""

import math
from typing import Literal

from torch import Tensor

from detloss.losses.base import BoxLoss, DetectionLoss
from detloss.losses.box import SmoothL1
from detloss.losses.coder import Sigmoid
from detloss.losses.distributional_ranking import distributional_ranking
from detloss.losses.samples import Samples
from detloss.stats import ClassStats

PRIOR = 0.5
"""Probability of every class at the start: nothing is known beforehand (section 4.2)."""


class DR(DetectionLoss):
    """The hard negatives' expected score is ranked below the hard positives', beside a box loss; C logits.

    ``scope`` says what has a distribution of its own: "image", over all its levels, as in the paper, or "batch",
    all rows of this rank, as in the authors' code. ``negative_lambda`` None is the paper's 0.1 / log 3.5.
    """

    def __init__(
        self,
        stats: ClassStats,
        *,
        box_loss: BoxLoss | None = None,
        positive_lambda: float = 1.0,
        negative_lambda: float | None = None,
        smoothness: float = 6.0,
        tau: float = 4.0,
        margin: float = 0.5,
        scope: Literal["image", "batch"] = "image",
    ) -> None:
        super().__init__()
        if scope not in ("image", "batch"):
            raise ValueError(
                f"scope={scope}: expected image or batch; the distributions of DR are not of many ranks"
            )
        self.box_loss = SmoothL1() if box_loss is None else box_loss
        self.positive_lambda = positive_lambda
        self.negative_lambda = 0.1 / math.log(3.5) if negative_lambda is None else negative_lambda
        self.smoothness = smoothness
        self.tau = tau
        self.margin = margin
        self.scope = scope
        self.coder = Sigmoid(stats.num_classes, prior=PRIOR)

    def forward(self, samples: Samples) -> dict[str, Tensor]:
        ranking = distributional_ranking(
            samples.logits,
            samples.labels.masked_fill(samples.weights == 0, -1),
            samples.image_index if self.scope == "image" else None,
            positive_lambda=self.positive_lambda,
            negative_lambda=self.negative_lambda,
            smoothness=self.smoothness,
            tau=self.tau,
            margin=self.margin,
        )
        return {"loss_classifier": ranking, "loss_box_reg": self.box_loss(samples), **samples.auxiliary}
