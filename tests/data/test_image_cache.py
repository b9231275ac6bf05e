"""Pixels come out of a cache as they were decoded; what it takes is said, and refused, beforehand."""

import os
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detloss.data import image_cache
from detloss.data.augment import Plain, ShortestSide
from detloss.data.coco import CocoDataset
from detloss.data.image_cache import DiskCache, ImageCache, RamCache, free_memory, open_cache
from detloss.data.loader import BatchPlan, training_loader
from detloss.data.samplers import Uniform
from detloss.errors import UserError


def _cache(kind: str, dataset: CocoDataset, folder: Path) -> ImageCache:
    return RamCache(dataset.sizes) if kind == "ram" else DiskCache(folder / "cache", dataset.sizes)


def _stream(dataset: CocoDataset, workers: int) -> list[torch.Tensor]:
    plan = BatchPlan(Uniform(dataset.image_labels), dataset.sizes, batch_size=2, seed=0)
    augment = Plain(ShortestSide([24, 48], 64), masks=True)
    batches = training_loader(dataset, augment, plan, last_step=12, workers=workers)
    return [image for images, _ in batches for image in images]


@pytest.mark.parametrize("kind", ["ram", "disk"])
@pytest.mark.parametrize("workers", [0, 2])
def test_training_images_are_the_same_from_a_cache(tiny_coco, tmp_path, monkeypatch, kind, workers):
    """Six images in twelve batches of two are each shown four times, and each decoded once a process."""
    dataset = CocoDataset(*tiny_coco(6, size=(64, 40)), masks=True)
    expected = _stream(dataset, 0)
    dataset.cache = _cache(kind, dataset, tmp_path)
    assert all(map(torch.equal, _stream(dataset, workers), expected))
    for path in dataset.images_path.iterdir():  # nothing is decoded any more
        _damage(path)
    assert all(map(torch.equal, _stream(dataset, workers), expected))


def _damage(path: Path) -> None:
    """Spoil a file and leave its size and time as they were."""
    state = path.stat()
    path.write_bytes(b"x" * state.st_size)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_what_is_read_is_a_copy(tiny_coco, tmp_path, kind):
    dataset = CocoDataset(*tiny_coco(2))
    dataset.cache = _cache(kind, dataset, tmp_path)
    expected = dataset.image(1).clone()
    dataset.pixels(1).zero_()
    assert expected.any() and torch.equal(dataset.image(1), expected)


def test_an_image_that_was_replaced_is_decoded_anew(tiny_coco, tmp_path):
    dataset = CocoDataset(*tiny_coco(2))
    dataset.cache = _cache("disk", dataset, tmp_path)
    dataset.image(0)
    Image.new("RGB", (64, 64), "red").save(dataset.image_path(0))
    assert (dataset.image(0)[0] == 255).all()


def test_a_file_that_was_cut_short_is_decoded_anew(tiny_coco, tmp_path):
    dataset = CocoDataset(*tiny_coco(2))
    dataset.cache = _cache("disk", dataset, tmp_path)
    expected = dataset.image(0)
    (file,) = (tmp_path / "cache").glob("??/*.rgb")
    file.write_bytes(file.read_bytes()[:-1])
    assert torch.equal(dataset.image(0), expected)
    assert file.stat().st_size == 3 * 64 * 64
    assert [path.name for path in file.parent.iterdir()] == [file.name], "no partial file stays"


def test_a_data_set_with_a_disk_cache_can_be_pickled(tiny_coco, tmp_path):
    dataset = CocoDataset(*tiny_coco(2))
    dataset.cache = _cache("disk", dataset, tmp_path)
    assert torch.equal(pickle.loads(pickle.dumps(dataset)).image(1), dataset.image(1))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads what the process holds in /proc")
def test_the_memory_of_a_ram_cache_is_taken_as_images_come():
    """Three gigabytes that nobody has touched are none."""
    before = _resident()
    cache = RamCache(np.full((1000, 2), 1000))
    pixels = torch.randint(0, 256, (1000, 1000, 3), dtype=torch.uint8).permute(2, 0, 1)
    for index in (0, 700, 999):
        assert cache.read(index, Path("x")) is None
        cache.keep(index, Path("x"), pixels)
        assert torch.equal(cache.read(index, Path("x")), pixels)
    assert cache.read(1, Path("x")) is None
    assert 9e6 < _resident() - before < 1e8


def _resident() -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(found[1])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="other systems may promise any memory")
def test_more_memory_than_there_is_is_one_line():
    with pytest.raises(UserError, match=r"data\.cache=ram: 3000000\.00 GB cannot be had"):
        RamCache(np.full((1000, 2), 1_000_000))


def test_what_a_cache_takes_is_said_before_it_starts(tmp_path, monkeypatch):
    monkeypatch.setenv("DETLOSS_CACHE", str(tmp_path))
    monkeypatch.setattr(image_cache, "free_memory", lambda: 8_000_000_000)
    sizes = np.array([[1000, 1000]] * 1000)
    assert (
        "1000 decoded images take 3.00 GB, and 8.00 GB is free"
        in open_cache("ram", sizes, tmp_path, processes=1, workers=2)[1]
    )
    assert "in each of 2 processes take 6.00 GB" in open_cache("ram", sizes, tmp_path, processes=2, workers=2)[1]
    with pytest.raises(UserError, match=r"in each of 3 processes take 9\.00 GB, and 8\.00 GB is free; try"):
        open_cache("ram", sizes, tmp_path, processes=3, workers=2)


def test_what_lies_in_a_disk_cache_already_needs_no_more_room(tmp_path, monkeypatch):
    monkeypatch.setenv("DETLOSS_CACHE", str(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 20_000))
    sizes = np.array([[50, 60], [40, 100]])  # 21,000 bytes
    with pytest.raises(UserError, match=r"data\.cache=disk: 2 decoded images in .*; try data\.cache=null"):
        open_cache("disk", sizes, tmp_path, processes=1, workers=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 40_000))
    cache, _ = open_cache("disk", sizes, tmp_path, processes=1, workers=0)
    (tmp_path / "a.jpg").touch()
    cache.keep(0, tmp_path / "a.jpg", torch.zeros(3, 50, 60, dtype=torch.uint8))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 13_000))
    open_cache("disk", sizes, tmp_path, processes=1, workers=0)


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    (tmp_path / "a.jpg").touch()
    with pytest.raises(UserError, match=r"data\.cache=disk: cannot write in .*DETLOSS_CACHE"):
        DiskCache(tmp_path / "cache", np.array([[2, 2]])).keep(
            0, tmp_path / "a.jpg", torch.zeros(3, 2, 2, dtype=torch.uint8)
        )


def test_a_control_group_with_less_than_the_machine_decides(tmp_path, monkeypatch):
    monkeypatch.setattr(image_cache, "CGROUP", tmp_path)
    of_machine = free_memory()
    (tmp_path / "memory.max").write_text("5000000\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    assert free_memory() == 4_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert of_machine is None or abs(free_memory() - of_machine) < 1e9  # type: ignore[operator]
