"""How fast training images come, beside torchvision's ``CocoDetection`` with the same augmentations, and what a
data worker holds in memory."""

import contextlib
import io
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader, RandomSampler
from torchvision import tv_tensors
from torchvision.datasets import CocoDetection, wrap_dataset_for_transforms_v2
from torchvision.transforms import v2

from detloss.bench_data import MB, write_lvis
from detloss.data.augment import Plain, ShortestSide
from detloss.data.coco import CocoDataset
from detloss.data.file_names import named_file
from detloss.data.files import dataset_files
from detloss.data.loader import BatchPlan, training_loader
from detloss.data.samplers import Uniform
from detloss.models.transform import as_float

BATCH = 2
"""Images in a batch: a GPU's share of the papers' 16."""

PHOTOGRAPHS = 200
"""Pictures that are made where the user names none, with the objects of as many images of LVIS."""

WARM_UP = 8
"""Batches before the timed ones: those that two workers have ready while they start."""


@dataclass(frozen=True)
class Rates:
    """Images a second of both loaders in turns, [R] each."""

    ours: list[float]
    theirs: list[float]

    def ratio(self) -> float:
        """Return the median of the ratios of neighbouring runs."""
        return statistics.median(a / b for a, b in zip(self.ours, self.theirs, strict=True))


@dataclass(frozen=True)
class WorkerMemory:
    """Bytes that a process shares with no other: its own, and stored annotations that it alone has mapped."""

    own: int
    mapped: int


def bench_photographs(cfg: DictConfig, *, rounds: int, images: int, annotations: int) -> None:
    """Run `bench_loader` on the training set of ``cfg``, or on made photographs where that names no files.

    What workers hold is measured on a made file of ``images`` and ``annotations``. Raises ``UserError`` as
    training does.
    """
    options = cfg.dataset
    draw = ShortestSide(options.scales and list(options.scales), options.max_size, options.flip)
    with tempfile.TemporaryDirectory(prefix="detloss_bench_") as name:
        if options.root is None and options.train.annotations is None:
            path, folder = write_photographs(Path(name)), Path(name)
        else:
            files = dataset_files(options)
            path, folder = files.train_annotations, files.train_images
        bench_loader(path, folder, draw, rounds=rounds)
    _print_memory(images, annotations)


def bench_loader(
    annotations: Path, images: Path, draw: ShortestSide, *, batches: int = 100, rounds: int = 5
) -> dict[int, Rates]:
    """Time both loaders in turns, with masks, for one data worker and for two, and print a table.

    Both get the images that have objects; what comes out is float32, as the detector computes with.

    Raises ``UserError`` as training does.
    """
    dataset = CocoDataset(annotations, images, masks=True, drop_empty=True)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools talks
        theirs = _torchvision(annotations, images, draw, set(dataset.image_ids))
    rates = {}
    for workers in (1, 2):
        found = Rates([], [])
        for number in range(rounds):
            runs: list[tuple[list[float], Callable[[], Iterator[object]]]] = [
                (found.ours, lambda w=workers: _ours(dataset, draw, WARM_UP + batches, w)),  # type: ignore[misc]
                (found.theirs, lambda w=workers: _theirs(theirs, WARM_UP + batches, w)),  # type: ignore[misc]
            ]
            for rate, start in runs if number % 2 else reversed(runs):  # who is first changes
                rate.append(_images_per_second(start(), batches))
        rates[workers] = found
    Console().print(_table(rates, dataset))
    return rates


def write_photographs(folder: Path, *, images: int = PHOTOGRAPHS, seed: int = 0) -> Path:
    """Write JPEG files of 640 x 480, smooth and noisy as photographs are, and return their annotations' file."""
    generator = np.random.default_rng(seed)
    path = folder / "photographs.json"
    for _ in write_lvis(path, images=images, annotations=13 * images):  # LVIS has 12.7 an image
        pass
    (folder / "train2017").mkdir()
    for number in range(1, images + 1):
        coarse = Image.fromarray(generator.integers(0, 256, (30, 40, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((640, 480), Image.Resampling.BICUBIC), dtype=np.float32)
        picture = (smooth + generator.normal(0, 9, smooth.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(picture).save(folder / f"train2017/{number:012d}.jpg", quality=95)
    return path


def memory_of_workers(images: int, annotations: int, *, workers: int = 4) -> list[WorkerMemory]:
    """Return what each worker of a training loader holds alone on a file of that size; nothing if unknown.

    The loader runs in a process of its own, after another has stored the annotations: what this one has done
    before is not measured.
    """
    with tempfile.TemporaryDirectory(prefix="detloss_bench_") as name:
        folder = Path(name)
        write_photographs(folder, images=20)
        for number in range(21, images + 1):
            os.link(folder / f"train2017/{number % 20 + 1:012d}.jpg", folder / f"train2017/{number:012d}.jpg")
        path = folder / "lvis_sized.json"
        for _ in write_lvis(path, images=images, annotations=annotations):
            pass
        environment = {**os.environ, "DETLOSS_CACHE": str(folder / "cache"), "PYTHONWARNINGS": "ignore"}
        code = f"from detloss.bench_loader import look; look({str(path)!r}, {str(folder)!r}, %d)"
        for number in (0, workers):
            process = subprocess.run(
                [sys.executable, "-c", code % number], env=environment, capture_output=True, text=True, check=True
            )
        return [WorkerMemory(*row) for row in json.loads(process.stdout)]


def look(annotations: str, images: str, workers: int) -> None:
    """Load images by a training loader's workers for a while and print what each holds alone, as JSON."""
    dataset = CocoDataset(annotations, images, masks=True, drop_empty=True)
    stream = _ours(dataset, ShortestSide([640, 672, 704, 736, 768, 800], 1333), 40 * workers, workers)
    for _ in zip(range(20 * workers), stream, strict=False):  # not to the end, where workers are gone
        pass
    found = [_own_memory(process) for process in _children()]
    print(json.dumps([[memory.own, memory.mapped] for memory in found]))


def _ours(dataset: CocoDataset, draw: ShortestSide, batches: int, workers: int) -> Iterator[object]:
    plan = BatchPlan(Uniform(dataset.image_labels), dataset.sizes, batch_size=BATCH, seed=0)
    for images, _ in training_loader(dataset, Plain(draw, masks=True), plan, last_step=batches, workers=workers):
        yield [as_float(image) for image in images]


def _torchvision(annotations: Path, images: Path, draw: ShortestSide, shown: set[int]) -> CocoDetection:
    """Return torchvision's data set of the images ``shown``, without crowds, which we do not show either."""
    steps = [v2.ToImage(), v2.RandomHorizontalFlip(draw.flip)]
    if draw.scales is not None:
        steps.append(v2.RandomShortestSize(list(draw.scales), max_size=draw.max_size, antialias=False))
    to_float = v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True)
    pipeline = v2.Compose([*steps, to_float, v2.SanitizeBoundingBoxes()])
    dataset = CocoDetection(images, str(annotations), transforms=pipeline)
    dataset.ids = [image_id for image_id in dataset.ids if image_id in shown]
    for image_id in dataset.ids:
        record = dataset.coco.imgs[image_id]
        record["file_name"] = named_file(record.get("file_name"), record.get("coco_url"))
        kept = [row for row in dataset.coco.imgToAnns[image_id] if not row.get("iscrowd")]
        dataset.coco.imgToAnns[image_id] = kept
    wrapped: CocoDetection = wrap_dataset_for_transforms_v2(
        dataset, target_keys=("boxes", "labels", "masks", "image_id")
    )
    return wrapped


def _theirs(dataset: CocoDetection, batches: int, workers: int) -> Iterator[object]:
    sampler = RandomSampler(dataset, replacement=True, num_samples=batches * BATCH)
    return iter(DataLoader(dataset, BATCH, sampler=sampler, num_workers=workers, collate_fn=_as_lists))


def _as_lists(samples: list[tuple[object, object]]) -> tuple[tuple[object, ...], ...]:
    return tuple(zip(*samples, strict=True))


def _images_per_second(stream: Iterator[object], batches: int) -> float:
    for _ in range(WARM_UP):
        next(stream)
    start = time.perf_counter()
    count = sum(1 for _ in stream)
    assert count == batches
    return BATCH * batches / (time.perf_counter() - start)


def _children() -> list[int]:
    listed = Path(f"/proc/self/task/{os.getpid()}/children")
    return [int(process) for process in listed.read_text().split()] if listed.exists() else []


def _own_memory(process: int) -> WorkerMemory:
    own = mapped = 0
    columns = False
    for line in Path(f"/proc/{process}/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            columns = line.endswith(".npy")
        elif private := re.match(r"Private_(?:Clean|Dirty):\s+(\d+) kB", line):
            own += 0 if columns else 1024 * int(private[1])
            mapped += 1024 * int(private[1]) if columns else 0
    return WorkerMemory(own, mapped)


def _table(rates: dict[int, Rates], dataset: CocoDataset) -> Table:
    objects = dataset.stats.instances.sum() / dataset.stats.num_images
    table = Table(title=f"Training images with masks, {len(dataset)} photographs, {objects:.1f} objects each")
    for column in ("workers", "detloss, images/s", "torchvision, images/s", "ratio"):
        table.add_column(column, justify="right")
    for workers, found in rates.items():
        ours, theirs = statistics.median(found.ours), statistics.median(found.theirs)
        table.add_row(str(workers), f"{ours:.1f}", f"{theirs:.1f}", f"{found.ratio():.2f}")
    table.caption = f"Medians of {len(found.ours)} runs in turns; torchvision: CocoDetection and v2 transforms."
    return table


def _print_memory(images: int, annotations: int) -> None:
    few = 1000
    small = memory_of_workers(few, few * annotations // images)
    large = memory_of_workers(images, annotations)
    if not large:
        print("What a data worker holds alone is not known on this system.")
        return
    base, own = (statistics.median(worker.own for worker in workers) for workers in (small, large))
    mapped = max(worker.mapped for worker in large)
    print(
        f"{len(large)} data workers on {images:,} images with {annotations:,} annotations: {own / MB:.0f} MB of a "
        f"worker's own (median; {base / MB:.0f} MB on {few:,} images: buffers for pictures), and up to "
        f"{mapped / MB:.0f} MB of the stored annotations in the page cache that no other process has mapped yet."
    )
