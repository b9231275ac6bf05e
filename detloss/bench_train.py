"""How long a training step takes beside torchvision's or another config's, and how long a run waits for data."""

import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import cycle, islice
from pathlib import Path

import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from torch import nn

from detloss import build
from detloss.bench_reference import ReferenceLoop, equivalent_loss, torchvision_detector
from detloss.data.coco import CocoDataset
from detloss.data.files import dataset_files
from detloss.data.loader import BatchPlan, TrainingBatch, training_loader
from detloss.models.backbone import ResNetFPN
from detloss.probe import GradientProbe
from detloss.progress import Display
from detloss.step import Report, Step, autocast_type, device_name

WARM_UP = 3
"""Steps before the timed ones: allocators, cuDNN's choices and the data workers settle."""

DISTINCT_BATCHES = 4
"""Kept in memory for the comparison, over and over; 16 images of 800 x 1333 pixels take 200 MB."""


Stepper = Callable[[TrainingBatch, int], object]
"""Takes a training step on a batch, given its number."""


def bench_train(cfg: DictConfig, *, steps: int = 20, against: DictConfig | None = None) -> None:
    """Time training steps of ``cfg`` beside those of ``against``, or of torchvision's loop, and print a table.

    Both loops step in turns on the same batches, held in memory, with the same starting weights, so that
    whatever else the machine does meets both. Then ``steps`` of our loop run on the real loader.

    Raises ``UserError`` as training does.
    """
    device = torch.device(device_name(str(cfg.trainer.device)))
    files = dataset_files(cfg.dataset)
    dataset = build.training_set(cfg, files)
    plan = BatchPlan(build.sampler(cfg, dataset), dataset.sizes, batch_size=cfg.schedule.batch_size, seed=cfg.seed)
    torch.manual_seed(cfg.seed)
    detector = build.detector(cfg, dataset.stats).to(device)
    batches = list(islice(_loader(cfg, dataset, plan, DISTINCT_BATCHES, device, workers=0), DISTINCT_BATCHES))

    step = _step(cfg, detector, device, accumulate=1)
    other = (
        _reference(cfg, detector, dataset, device)
        if against is None
        else _other(against, detector, dataset, device)
    )
    seconds, peaks = time_in_turns((_stepper(cfg, step), other), batches, steps, device)
    reports = _steps_with_data(cfg, detector, dataset, plan, steps, device)
    _print(cfg, against, seconds, peaks, reports, len(batches[0][0]), device)


def _reference(cfg: DictConfig, detector: nn.Module, dataset: CocoDataset, device: torch.device) -> Stepper:
    """Return torchvision's loop with its detector, which starts from our weights."""
    assert isinstance(detector.backbone, ResNetFPN)
    reference = torchvision_detector(cfg, deepcopy(detector.backbone), dataset.stats.num_classes).to(device)
    share_weights(detector, reference)
    precision = autocast_type(cfg.trainer.precision, device)
    loop = ReferenceLoop(reference, _optimizer(cfg, reference), device, precision)
    return lambda batch, number: loop(batch)


def _other(cfg: DictConfig, detector: nn.Module, dataset: CocoDataset, device: torch.device) -> Stepper:
    """Return our loop with another config, its detector starting from the same weights where it has them."""
    other = build.detector(cfg, dataset.stats, load=False).to(device)
    share_weights(detector, other)
    return _stepper(cfg, _step(cfg, other, device, accumulate=1))


def _stepper(cfg: DictConfig, step: Step) -> Stepper:
    """Return a run's step, with its gradient probe where that is due."""
    probe = GradientProbe(step.model, step.scaler, every=cfg.trainer.probe.every, last_step=1)

    def take(batch: TrainingBatch, number: int) -> None:
        with probe.on_step(number):
            step(iter([batch]), number)

    return take


def time_in_turns(
    steppers: tuple[Stepper, Stepper], batches: list[TrainingBatch], steps: int, device: torch.device
) -> tuple[tuple[list[float], list[float]], tuple[int, int]]:
    """Return the seconds of each step of both, and what each held at most beyond the start of a step (bytes, 0
    on a CPU)."""
    seconds: tuple[list[float], list[float]] = ([], [])
    peaks = [0, 0]

    def run(which: int, batch: TrainingBatch, number: int) -> None:
        before = _start_measuring(device)
        start = time.perf_counter()
        steppers[which](batch, number)
        _wait(device)
        if number >= WARM_UP:
            seconds[which].append(time.perf_counter() - start)
            peaks[which] = max(peaks[which], _peak(device) - before)

    with Display("compare", WARM_UP + steps) as display:
        for number, batch in enumerate(islice(cycle(batches), WARM_UP + steps)):
            # Who is first changes, since the second finds warm caches.
            for which in (number % 2, 1 - number % 2):
                run(which, batch, number)
            display.advance(number + 1)
    return seconds, (peaks[0], peaks[1])


def share_weights(detector: nn.Module, reference: nn.Module) -> None:
    """Give the reference our starting weights, but for layers whose size the classes decide."""
    expected = reference.state_dict()
    state = {
        name: value
        for name, value in detector.state_dict().items()
        if name in expected and value.shape == expected[name].shape
    }
    reference.load_state_dict(state, strict=False)


def data_share(reports: list[Report]) -> float:
    """Return the share of the time of steps that they waited for data."""
    return sum(report.data_seconds for report in reports) / sum(report.seconds for report in reports)


def _steps_with_data(
    cfg: DictConfig, detector: nn.Module, dataset: CocoDataset, plan: BatchPlan, steps: int, device: torch.device
) -> list[Report]:
    """Train as a run does and return the reports of the steps after the warm-up."""
    step = _step(cfg, detector, device, accumulate=cfg.trainer.accumulate)
    total = WARM_UP + steps
    # As many steps are planned again, so that the workers have no end in sight to be idle at.
    batches = _loader(cfg, dataset, plan, 2 * total, device, workers=cfg.trainer.workers)
    with Display("with data", total) as display:
        reports = []
        for number in range(total):
            reports.append(step(batches, number))
            display.advance(number + 1)
    return reports[WARM_UP:]


def _loader(
    cfg: DictConfig, dataset: CocoDataset, plan: BatchPlan, steps: int, device: torch.device, *, workers: int
) -> Iterator[TrainingBatch]:
    """Return the loader of rank 0 as a run of all its devices would have it."""
    return training_loader(
        dataset,
        build.augmentation(cfg, dataset),
        plan,
        last_step=steps,
        world_size=cfg.trainer.devices * cfg.trainer.nodes,
        accumulate=cfg.trainer.accumulate,
        workers=workers,
        pin_memory=device.type == "cuda",
    )


def _step(cfg: DictConfig, detector: nn.Module, device: torch.device, *, accumulate: int) -> Step:
    precision = autocast_type(cfg.trainer.precision, device)
    return Step(
        detector,
        _optimizer(cfg, detector),
        torch.amp.GradScaler(device.type, enabled=precision is torch.float16),
        device,
        accumulate,
        cfg.schedule.clip_norm,
        precision,
        rescue=Path(tempfile.gettempdir()) / f"detloss_bench_{os.getpid()}.pt",
    )


def _optimizer(cfg: DictConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Return the run's optimizer at a rate so low that both models stay where they are."""
    optimizer = build.optimizer(cfg, model)
    for group in optimizer.param_groups:
        group["lr"] = 1e-9
    return optimizer


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _start_measuring(device: torch.device) -> int:
    """Return the bytes held on the GPU now, and forget its peak."""
    if device.type != "cuda":
        return 0
    _wait(device)
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def _peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


def _print(
    cfg: DictConfig,
    against: DictConfig | None,
    seconds: tuple[list[float], list[float]],
    peaks: tuple[int, int],
    reports: list[Report],
    images: int,
    device: torch.device,
) -> None:
    ours, theirs = seconds
    ratios = sorted(first / second for first, second in zip(ours, theirs, strict=True))
    table = Table(title=f"A step of {images} images: {cfg.model.name}, {cfg.loss.name}")
    table.add_column("")
    other = "torchvision" if against is None else f"{against.model.name}, {against.loss.name}"
    for name in ("detloss" if against is None else "this", other, "ratio"):
        table.add_column(name, justify="right")
    low, high = ratios[len(ratios) // 4], ratios[(3 * len(ratios) - 1) // 4]
    table.add_row(
        f"seconds, median of {len(ours)}",
        f"{statistics.median(ours):.4f}",
        f"{statistics.median(theirs):.4f}",
        f"{statistics.median(ratios):.3f}",
    )
    if device.type == "cuda":
        table.add_row("GB at most, above weights", *(f"{peak / 1e9:.2f}" for peak in peaks), "")
    table.caption = f"Half of the ratios are between {low:.3f} and {high:.3f}."
    if against is None:
        kind = equivalent_loss(cfg.model.stage)
        table.caption += f" torchvision: its detector and loop, loss {kind}"
        table.caption += f"; loss={kind} compares like with like." if cfg.loss.name != kind else "."
    console = Console()
    console.print(table)
    total = sum(report.seconds for report in reports) / len(reports)
    console.print(
        f"With the real loader, {cfg.trainer.workers} workers, {len(reports)} steps of {total:.3f} s: "
        f"[bold]{100 * data_share(reports):.1f}%[/] of the time is waiting for data."
    )
    console.print(f"Peak memory of the process, with both models and the batches: {_process_peak():.2f} GB.")
    console.print(_machine(device), highlight=False)


def _process_peak() -> float:
    """Return GB; the kernel counts in kB, but in bytes on a Mac."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e9 if sys.platform == "darwin" else 1e6)


def _machine(device: torch.device) -> str:
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return (
        f"{hardware}; {os.cpu_count()} CPU cores{load}, {torch.get_num_threads()} threads; "
        f"torch {torch.__version__}"
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
