"""How many background rows a detector's classifier learns from for each foreground row, on real batches."""

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from detloss import build
from detloss.data.coco import CocoDataset
from detloss.data.files import training_files
from detloss.first_batches import show_first_batches
from detloss.losses import ClassCoder, DetectionLoss, Samples
from detloss.losses.ecm import foreground_and_background
from detloss.models.rcnn import RCNN
from detloss.step import device_name


class RowCounter(DetectionLoss):
    """In place of a loss, the number of foreground and background rows of all samples."""

    def __init__(self, coder: ClassCoder) -> None:
        super().__init__()
        self.coder = coder
        self.rows = torch.zeros(2, dtype=torch.int64)

    @torch.no_grad()
    def forward(self, samples: Samples) -> dict[str, Tensor]:
        """Count the samples; there is no term to minimise."""
        self.rows += foreground_and_background(samples.labels, samples.weights, self.coder.num_classes).cpu()
        return {}

    @property
    def ratio(self) -> float:
        """Background rows per foreground row, r of eq. 35, ECM; a count of 0 counts as 1."""
        foreground, background = self.rows.tolist()
        return max(background, 1) / max(foreground, 1)


def measure_background_ratio(cfg: DictConfig, *, batches: int) -> float:
    """Return r over the first batches that a training of ``cfg`` would see, before it learns from them.

    Rows are sampled proposals in two-stage detectors, anchors or locations in one-stage ones; what the loss
    ignores does not count. The detector starts as the training would. Raises ``UserError`` as training does.
    """
    device = torch.device(device_name(str(cfg.trainer.device)))
    masks = build.training_needs_masks(cfg)
    dataset = CocoDataset(*training_files(cfg.dataset), masks=masks, drop_empty=cfg.dataset.drop_empty)
    torch.manual_seed(cfg.seed)
    detector = build.detector(cfg, dataset.stats).to(device)
    counter = _count_instead_of_learning(detector)
    detector.train()
    show_first_batches(
        cfg, detector, dataset, batches, device=device, accumulate=cfg.trainer.accumulate, title="background"
    )
    return counter.ratio


def _count_instead_of_learning(detector: nn.Module) -> RowCounter:
    """Put a counter in the place of the loss of the detector's classifier."""
    head = detector.roi_heads if isinstance(detector, RCNN) else detector.get_submodule("head")
    assert isinstance(head.loss, DetectionLoss)
    counter = RowCounter(head.loss.coder)
    head.loss = counter
    if isinstance(detector, RCNN):
        detector.roi_heads.memory = None  # LOCE's; remembered features are no rows of a batch
        detector.roi_heads.mask_predictor = None  # masks are not read: they take time and change nothing
    return counter
