"""``detloss doctor``: is this environment, and a data set, in working order?"""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from detloss.errors import UserError

from .verb import Overrides

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from detloss.data.coco import CocoDataset

PACKAGES = (
    "detloss",
    "torch",
    "torchvision",
    "numpy",
    "hydra-core",
    "omegaconf",
    "pycocotools",
    "lvis",
    "wandb",
)

Check = tuple[str, Callable[[], str]]
"""A name, and a function that returns what it found or raises what is broken."""


def doctor(overrides: Overrides = None) -> None:
    """Check versions, GPUs, operators and the cache; with dataset overrides also that data set."""
    checks: list[Check] = [
        ("versions", _versions),
        ("torch", _torch),
        ("GPUs", _gpus),
        ("numpy and torch", _numpy_bridge),
        ("torchvision operators", _operators),
        ("pycocotools", _pycocotools),
        ("lvis", _lvis),
        ("cache", _cache),
        ("W&B", _wandb),
    ]
    if overrides:
        from . import compose

        cfg = compose.compose(overrides)
        checks += [
            ("training set", lambda: _training_set(cfg)),
            ("validation set", lambda: _validation_set(cfg)),
        ]
    console = Console(highlight=False, soft_wrap=True)
    broken = [name for name, check in checks if not _passes(console, name, check)]
    if broken:
        console.print(f"[red]broken:[/] {', '.join(broken)}")
        raise typer.Exit(1)


def _passes(console: Console, name: str, check: Callable[[], str]) -> bool:
    try:
        found = check()
    except Exception as error:  # whatever a broken installation raises is the finding
        line = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        console.print(f"[red]broken[/]  {name}: ", end="")
        console.print(" ".join(line.split()), markup=False)
        return False
    console.print(f"[green]ok[/]      {name}: ", end="")
    console.print(found, markup=False)
    return True


def _versions() -> str:
    found = [f"Python {platform.python_version()}"]
    missing = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
    if missing:
        raise UserError(f"not installed: {', '.join(missing)}; try `pip install -e .`")
    return ", ".join(found)


def _torch() -> str:
    import torch

    built_for = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU"
    return f"{torch.get_num_threads()} threads on {os.cpu_count()} CPU cores, built for {built_for}"


def _gpus() -> str:
    import torch

    names = []
    for index in range(torch.cuda.device_count()):
        ones = torch.ones(64, 64, device=f"cuda:{index}")
        if (ones @ ones).sum().item() != 64.0**3:
            raise UserError(f"GPU {index} multiplies wrongly")
        memory = torch.cuda.get_device_properties(index).total_memory / 2**30
        names.append(f"{torch.cuda.get_device_name(index)} ({memory:.0f} GiB)")
    return ", ".join(names) or "none, training runs on the CPU"


def _numpy_bridge() -> str:
    """A wheel built for another numpy ABI imports and then fails at the first array that crosses over."""
    import numpy as np
    import torch

    if torch.from_numpy(np.arange(3.0)).numpy().sum() != 3.0:
        raise UserError("arrays change on their way between numpy and torch")
    return "arrays cross over"


def _operators() -> str:
    import torch
    from torchvision.ops import nms, roi_align

    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    for device in devices:
        boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30]], device=device)
        kept = nms(boxes, torch.tensor([0.9, 0.8, 0.7], device=device), 0.5).tolist()
        pooled = roi_align(torch.ones(1, 1, 32, 32, device=device), [boxes], output_size=2)
        if kept != [0, 2] or not torch.allclose(pooled, torch.ones_like(pooled)):
            raise UserError(f"nms or roi_align computes wrongly on {device}")
    return f"nms and roi_align work on {' and '.join(devices)}"


def _pycocotools() -> str:
    import numpy as np
    from pycocotools import mask

    square = np.zeros((8, 8), dtype=np.uint8, order="F")
    square[2:6, 2:6] = 1
    encoded = mask.encode(square)
    if mask.area(encoded) != 16 or (mask.decode(encoded) != square).any():
        raise UserError("masks change when they are encoded and decoded")
    return "masks survive encoding"


def _lvis() -> str:
    import lvis

    return f"imports, with opencv and matplotlib ({lvis.__name__} {version('lvis')})"


def _cache() -> str:
    from detloss.data.cache import cache_folder

    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return f"{folder} can be written"
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror}); set DETLOSS_CACHE to one that can"
        ) from None


def _wandb() -> str:
    from detloss.wandb_account import wandb_key_exists

    return "a key is there" if wandb_key_exists() else "no key: logger=wandb would log offline"


def _training_set(cfg: DictConfig) -> str:
    from detloss import build
    from detloss.data.files import dataset_files

    data = build.training_set(cfg, dataset_files(cfg.dataset))
    without = int((data.stats.instances == 0).sum())
    return f"{_described(data)}, {without} classes without instances"


def _validation_set(cfg: DictConfig) -> str:
    from detloss import build
    from detloss.data.files import dataset_files

    files = dataset_files(cfg.dataset)
    data = build.validation_set(cfg, files)
    unknown = set(data.category_ids) - set(build.training_set(cfg, files).category_ids)
    if unknown:
        raise UserError(f"category ids that the training set does not have: {sorted(unknown)[:10]}")
    return _described(data)


def _described(data: CocoDataset) -> str:
    """Return the counts of a data set, after decoding its first and last image."""
    if len(data) == 0:
        raise UserError("no images")
    height, width = data[0][0].shape[-2:]
    data[len(data) - 1]
    return (
        f"{len(data)} images (the first is {width} x {height}), {data.stats.instances.sum()} instances, "
        f"{len(data.names)} classes, {data.dropped_boxes} degenerate boxes dropped"
    )
