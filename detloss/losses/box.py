"""Box regression losses: weighted sums over the foreground rows."""

from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import generalized_box_iou_loss

from detloss.losses.base import BoxLoss
from detloss.losses.samples import Samples


class SmoothL1(BoxLoss):
    """Smooth L1 on encoded boxes (Fast R-CNN, ICCV 2015, eq. 3); beta is where it turns linear."""

    def __init__(self, *, beta: float = 1 / 9) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, samples: Samples) -> Tensor:
        rows = F.smooth_l1_loss(samples.deltas, samples.target_deltas, beta=self.beta, reduction="none")
        return (rows.sum(dim=1) * samples.weights[samples.foreground]).sum()


class L1(BoxLoss):
    """L1 on encoded boxes."""

    def forward(self, samples: Samples) -> Tensor:
        rows = F.l1_loss(samples.deltas, samples.target_deltas, reduction="none")
        return (rows.sum(dim=1) * samples.weights[samples.foreground]).sum()


class GIoU(BoxLoss):
    """1 - GIoU on decoded boxes (Rezatofighi et al., CVPR 2019)."""

    def forward(self, samples: Samples) -> Tensor:
        rows = generalized_box_iou_loss(samples.boxes, samples.target_boxes, reduction="none")
        return (rows * samples.weights[samples.foreground]).sum()
