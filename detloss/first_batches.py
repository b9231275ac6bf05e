"""A run's own first training batches, shown to a detector that learns nothing from them."""

import torch
from omegaconf import DictConfig
from torch import nn

from detloss import build
from detloss.data.coco import CocoDataset
from detloss.data.loader import BatchPlan, training_loader
from detloss.progress import Display
from detloss.step import autocast_type


@torch.no_grad()
def show_first_batches(
    cfg: DictConfig,
    detector: nn.Module,
    dataset: CocoDataset,
    batches: int,
    *,
    device: torch.device,
    accumulate: int,
    title: str,
) -> None:
    """Run the detector, in training mode already, on the first batches that ``cfg`` would train on.

    A batch comes in ``accumulate`` parts. Whoever wants to know something puts a recorder in the loss's place.
    """
    size = cfg.schedule.batch_size
    plan = BatchPlan(build.sampler(cfg, dataset), dataset.sizes, batch_size=size, seed=cfg.seed)
    images = training_loader(
        dataset,
        build.augmentation(cfg, dataset),
        plan,
        last_step=batches,
        accumulate=accumulate,
        workers=cfg.trainer.workers,
    )
    precision = autocast_type(cfg.trainer.precision, device)
    torch.manual_seed(cfg.seed)  # proposals are drawn at random
    with Display(title, batches) as display:
        for done, (pixels, targets) in enumerate(images, start=1):
            with torch.autocast(device.type, precision, enabled=precision is not torch.float32):
                detector(
                    [image.to(device) for image in pixels],
                    [{key: value.to(device) for key, value in target.items()} for target in targets],
                )
            if done % accumulate == 0:
                display.advance(done // accumulate)
                if done % (50 * accumulate) == 0:
                    display.note(done // accumulate, {})
