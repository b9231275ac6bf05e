"""Decoded images kept in memory or on disk, so that each is decoded once."""

import hashlib
import mmap
import multiprocessing
import os
import re
import shutil
import uuid
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from detloss.data.cache import cache_folder
from detloss.errors import UserError

CGROUP = Path("/sys/fs/cgroup")


class ImageCache(ABC):
    """Pixels of images, uint8 [3, H, W] with the channels next to each other, as `decode` returns them."""

    @abstractmethod
    def read(self, index: int, path: Path) -> Tensor | None:
        """Return a copy of what was kept of image ``index`` of the data set, the file ``path``, or None."""

    @abstractmethod
    def keep(self, index: int, path: Path, pixels: Tensor) -> None:
        """Keep the pixels; ``UserError`` where that fails."""


class RamCache(ImageCache):
    """Memory that this process shares with the workers it forks, given back when the last of them ends.

    ``sizes`` is [I, 2] (height, width). Memory is taken image by image, as they are kept.
    """

    def __init__(self, sizes: np.ndarray) -> None:
        self._sizes = sizes
        self._ends = np.cumsum(3 * sizes.astype(np.int64).prod(axis=1))
        try:
            memory = mmap.mmap(-1, int(self._ends[-1]) + len(sizes))
        except OSError as error:
            raise UserError(
                f"data.cache=ram: {self._ends[-1] / 1e9:.2f} GB cannot be had ({error.strerror})"
            ) from None
        self._memory = np.frombuffer(memory, dtype=np.uint8)
        self._kept = self._memory[self._ends[-1] :]

    def read(self, index: int, path: Path) -> Tensor | None:
        return _as_pixels(self._place(index).copy(), self._sizes[index]) if self._kept[index] else None

    def keep(self, index: int, path: Path, pixels: Tensor) -> None:
        self._place(index)[:] = _as_bytes(pixels)
        self._kept[index] = 1  # last: a worker that reads meanwhile sees all of the image or none

    def _place(self, index: int) -> np.ndarray:
        end = self._ends[index]
        return self._memory[end - 3 * int(self._sizes[index].prod()) : end]


class DiskCache(ImageCache):
    """A file for each image, which all runs and ranks share; it may be deleted at any time.

    Files are named after the image's path, size and time of change, so that one that was replaced is decoded
    anew, and appear whole.
    """

    def __init__(self, folder: Path, sizes: np.ndarray) -> None:
        self.folder, self._sizes = folder, sizes

    def read(self, index: int, path: Path) -> Tensor | None:
        try:
            values = np.fromfile(self.file(path), dtype=np.uint8)
        except OSError:
            return None
        size = self._sizes[index]
        return _as_pixels(values, size) if len(values) == 3 * size.prod() else None

    def keep(self, index: int, path: Path, pixels: Tensor) -> None:
        file = self.file(path)
        partial = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            _as_bytes(pixels).tofile(partial)
            os.replace(partial, file)
        except OSError as error:
            with suppress(OSError):
                partial.unlink()
            raise UserError(
                f"data.cache=disk: cannot write in {self.folder} ({error.strerror or error}); "
                "set DETLOSS_CACHE to a folder with room, or data.cache=null"
            ) from None

    def file(self, path: Path) -> Path:
        """Return where the image that now lies at ``path`` is kept."""
        state = path.stat()
        text = f"{path.resolve()} {state.st_size} {state.st_mtime_ns}"
        name = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:40]
        return self.folder / name[:2] / f"{name[2:]}.rgb"


def open_cache(
    kind: str, sizes: np.ndarray, images: Path, *, processes: int, workers: int
) -> tuple[ImageCache, str]:
    """Return a cache for the images of ``sizes`` [I, 2] in a folder, and a line that says what it takes.

    ``kind`` is ``ram``, where each of ``processes`` on this machine keeps its own images, or ``disk``. Raises
    ``UserError`` where there is no room.
    """
    total = int(3 * sizes.astype(np.int64).prod(axis=1).sum())
    if kind == "disk":
        name = hashlib.sha256(str(images.resolve()).encode(errors="surrogateescape")).hexdigest()[:16]
        disk = DiskCache(cache_folder() / "images" / name, sizes)
        there = sum(file.stat().st_size for file in disk.folder.glob("??/*.rgb"))
        what = f"data.cache=disk: {len(sizes)} decoded images in {disk.folder}"
        return disk, _estimate(what, max(total - there, 0), _free_disk(disk.folder))
    if workers and multiprocessing.get_start_method() != "fork":
        raise UserError("data.cache=ram needs data workers that are forked, as on Linux; try data.cache=disk")
    copies = f" in each of {processes} processes" if processes > 1 else ""
    said = _estimate(f"data.cache=ram: {len(sizes)} decoded images{copies}", processes * total, free_memory())
    return RamCache(sizes), said


def free_memory() -> int | None:
    """Return how many bytes the machine and the control group of this process have left; None if unknown."""
    free: list[int] = []
    with suppress(OSError, TypeError):
        available = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        free.append(1024 * int(available[1]))  # type: ignore[index]
    with suppress(OSError, ValueError):  # a limit of "max" is none
        limit, used = ((CGROUP / f"memory.{name}").read_text() for name in ("max", "current"))
        free.append(int(limit) - int(used))
    return min(free, default=None)


def _estimate(what: str, needed: int, free: int | None) -> str:
    """Return what is needed in words; ``UserError`` if it is not there."""
    room = "an unknown amount" if free is None else f"{free / 1e9:.2f} GB"
    said = f"{what} take {needed / 1e9:.2f} GB, and {room} is free"
    if free is not None and needed > free:
        raise UserError(f"{said}; try data.cache=null, or data.cache=disk with DETLOSS_CACHE=FOLDER")
    return said


def _free_disk(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _as_bytes(pixels: Tensor) -> np.ndarray:
    return pixels.permute(1, 2, 0).contiguous().numpy().reshape(-1)


def _as_pixels(values: np.ndarray, size: np.ndarray) -> Tensor:
    height, width = size.tolist()
    return torch.from_numpy(values).reshape(height, width, 3).permute(2, 0, 1)
