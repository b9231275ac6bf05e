"""What every loss costs, beside torch's own binary cross entropy in the same run."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from detloss import build
from detloss.errors import UserError
from detloss.losses import ClassLoss, DetectionLoss, Samples
from detloss.peak_memory import peak_memory
from detloss.progress import Display
from detloss.stats import ClassStats

MIB = 2**20

ROUNDS = 3
"""Each loss and the reference run in turns of ``repeats``, after two to warm up: memory is then as in training."""


@dataclass(frozen=True)
class Setting:
    """What a kind of head gives its loss: rows, classes, and the share of foreground rows."""

    head: str
    rows: int
    classes: int
    foreground: float


def settings(dense_classes: int) -> dict[str, Setting]:
    """Return the sizes: the RoIs of two images on LVIS, and the anchors of an image on COCO."""
    return {
        "two_stage": Setting("two-stage", 1024, 1203, 0.25),
        "one_stage": Setting("one-stage", 200_000, dense_classes, 0.001),
    }


@dataclass(frozen=True)
class Cost:
    """A loss's forward and backward: median milliseconds, the median ratio to the reference, and peak memory.

    ``peak`` is in bytes beyond the logits [N, L], which take ``logits`` bytes; None where it is unknown.
    """

    milliseconds: float
    ratio: float
    peak: int | None
    logits: int


def bench_losses(
    losses: Sequence[tuple[str, str, str]], *, repeats: int, dense_classes: int, device: torch.device
) -> None:
    """Measure losses, each given as (name, stage, class path), and print a table.

    The loss and the reference run on the same labels in turns, so that whatever else the machine does meets
    both. Raises ``UserError`` when a loss needs more memory than there is.
    """
    table = Table(caption=_caption(repeats, device), caption_justify="left")
    for column in ("loss", "head", "N x L"):
        table.add_column(column)
    for column in ("ms", "ratio", "peak MiB", "peak / logits"):
        table.add_column(column, justify="right")
    with Display("bench", len(losses)) as display:
        for done, (name, stage, path) in enumerate(losses, start=1):
            setting = settings(dense_classes)[stage]
            loss, shape = _built(path, setting, device)
            try:
                cost = measure(loss, setting, repeats, device)
            except (MemoryError, RuntimeError) as error:  # torch's CPU allocator raises a plain RuntimeError
                if "memory" not in str(error):
                    raise
                raise UserError(f"{name} at {shape}: out of memory; try fewer --classes") from error
            table.add_row(name, setting.head, shape, *_cells(cost))
            display.advance(done)
    console = Console()
    if not console.is_terminal:  # a file has room for whole names
        console = Console(width=110)
    console.print(table)


def measure(loss: ClassLoss | DetectionLoss, setting: Setting, repeats: int, device: torch.device) -> Cost:
    """Return what ``loss`` costs at this size."""
    generator = torch.Generator().manual_seed(0)
    stats = _stats(setting.classes)
    labels = _labels(setting, stats, generator).to(device)
    logits = _logits(setting.rows, loss.coder.num_logits, generator, device)
    own = _call(loss, logits, labels, generator)
    plain = _logits(setting.rows, setting.classes + 1, generator, device)
    reference = partial(binary_cross_entropy, plain, labels)
    rounds = []
    for _ in range(ROUNDS):
        mine = statistics.median([_seconds(own, logits, device) for _ in range(repeats + 2)][2:])
        other = statistics.median([_seconds(reference, plain, device) for _ in range(repeats + 2)][2:])
        rounds.append((mine, mine / other))
    plain.grad = logits.grad = None
    return Cost(
        1e3 * statistics.median(seconds for seconds, _ in rounds),
        statistics.median(ratio for _, ratio in rounds),
        peak_memory(lambda: torch.autograd.grad(own(), logits), device),
        logits.numel() * logits.element_size(),
    )


def binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return torch's own, with a one-hot target made here: what every loss is measured against."""
    target = torch.zeros_like(logits).scatter_(1, labels[:, None], 1.0)
    return F.binary_cross_entropy_with_logits(logits, target, reduction="sum")


def _call(
    loss: ClassLoss | DetectionLoss, logits: Tensor, labels: Tensor, generator: torch.Generator
) -> Callable[[], Tensor]:
    """Return the loss of these logits as a function; a detection loss gets boxes that fit."""
    weights = logits.new_full((len(labels),), 1 / len(labels))
    if isinstance(loss, ClassLoss):
        return lambda: loss(logits, labels, weights)
    foreground = torch.nonzero(labels < loss.coder.num_classes).squeeze(1)
    corners = torch.rand(len(foreground), 2, generator=generator) * 500
    boxes = torch.cat([corners, corners + 50], dim=1).to(logits)
    samples = Samples(
        logits=logits,
        labels=labels,
        weights=weights,
        foreground=foreground,
        boxes=boxes,
        target_boxes=boxes,
        deltas=torch.zeros_like(boxes),
        target_deltas=torch.zeros_like(boxes),
        image_index=torch.zeros_like(labels),
        object_index=torch.arange(len(foreground), device=logits.device) // 4,
    )
    return lambda: torch.stack(list(loss(samples).values())).sum()


def _seconds(function: Callable[[], Tensor], logits: Tensor, device: torch.device) -> float:
    logits.grad = None
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    function().backward()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _built(path: str, setting: Setting, device: torch.device) -> tuple[ClassLoss | DetectionLoss, str]:
    loss = build.instantiate(OmegaConf.create({"_target_": path}), _stats(setting.classes), option=path)
    assert isinstance(loss, ClassLoss | DetectionLoss)
    return loss.to(device), f"{setting.rows:,} x {loss.coder.num_logits:,}"


def _stats(classes: int) -> ClassStats:
    """Return the counts of LVIS v1, or of as many classes spread evenly over its long tail."""
    lvis = ClassStats.lvis_v1()
    order = np.argsort(-lvis.instances, kind="stable")
    chosen = order[np.linspace(0, lvis.num_classes - 1, classes).round().astype(np.int64)]
    names = tuple(f"class {index}" for index in range(classes))
    return ClassStats(
        names, tuple(range(1, classes + 1)), lvis.num_images, lvis.instances[chosen], lvis.images[chosen]
    )


def _labels(setting: Setting, stats: ClassStats, generator: torch.Generator) -> Tensor:
    """Return labels with the setting's share of foreground, classes as frequent as their instances."""
    classes = torch.multinomial(
        torch.from_numpy(stats.instances).double(), setting.rows, replacement=True, generator=generator
    )
    foreground = torch.rand(setting.rows, generator=generator) < setting.foreground
    return classes.where(foreground, setting.classes)


def _logits(rows: int, columns: int, generator: torch.Generator, device: torch.device) -> Tensor:
    return (torch.randn(rows, columns, generator=generator) - 3).to(device).requires_grad_()


def _cells(cost: Cost) -> list[str]:
    peak = "-" if cost.peak is None else f"{(cost.peak + cost.logits) / MIB:,.0f}"
    share = "-" if cost.peak is None else f"{(cost.peak + cost.logits) / cost.logits:.1f}"
    return [f"{cost.milliseconds:.1f}", f"{cost.ratio:.2f}", peak, share]


def _caption(repeats: int, device: torch.device) -> str:
    if device.type == "cuda":
        where = torch.cuda.get_device_name(device)
    else:
        where = f"a CPU, {torch.get_num_threads()} thread(s)"
    return (
        f"Forward and backward, median of {ROUNDS} x {repeats} on {where}, torch {torch.__version__}. Ratio: to "
        "torch's BCEWithLogits on C + 1 columns, its one-hot target made in the run. The peak counts the logits."
    )
