"""Both loaders give the same images, so that their speeds can be compared; and the table says so."""

from pathlib import Path

import numpy as np
import pytest
import torch
from lvis import LVIS
from PIL import Image

from detloss import bench_loader
from detloss.data.augment import Plain, ShortestSide
from detloss.data.coco import CocoDataset


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    return bench_loader.write_photographs(tmp_path, images=12)


def test_made_photographs_are_a_data_set_of_lvis(photographs: Path, tmp_path: Path) -> None:
    official = LVIS(photographs)
    assert len(official.imgs) == 12 and len(official.anns) == 13 * 12
    files = sorted((tmp_path / "train2017").iterdir())
    assert len(files) == 12 and all(Image.open(file).size == (640, 480) for file in files)
    # Half of coco_mini's photographs take 3.6 to 5.8 bits a pixel, the median is 4.7.
    assert 4.2 < np.mean([8 * file.stat().st_size / (640 * 480) for file in files]) < 5.2


def test_both_loaders_give_the_same_images_boxes_and_masks_but_for_their_edges(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = ShortestSide([300], 500, flip=1.0)
    ours = CocoDataset(photographs, tmp_path, masks=True, drop_empty=True)
    theirs = bench_loader._torchvision(photographs, tmp_path, draw, set(ours.image_ids))
    assert len(theirs) == len(ours)
    for index in range(4):
        image, target = Plain(draw, True)(ours, index)
        other_image, other = theirs[index]
        assert torch.equal(image, (255 * other_image).round().to(torch.uint8))
        assert torch.allclose(target["boxes"], other["boxes"].as_subclass(torch.Tensor), atol=1e-3)
        assert [ours.category_ids[label - 1] for label in target["labels"]] == other["labels"].tolist()
        together = (target["masks"].bool() & other["masks"].bool()).sum()
        assert together / (target["masks"].bool() | other["masks"].bool()).sum() > 0.95


def test_the_table_shows_both_loaders_at_one_and_two_workers(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rates = bench_loader.bench_loader(photographs, tmp_path, ShortestSide([64], 100), batches=2, rounds=2)
    assert (
        [len(found.ours) for found in rates.values()] == [len(found.theirs) for found in rates.values()] == [2, 2]
    )
    printed = capsys.readouterr().out
    for word in ("12 photographs", "13.0 objects", "detloss, images/s", "torchvision, images/s", "ratio"):
        assert word in printed


def test_a_ratio_is_the_median_over_neighbouring_runs() -> None:
    """The machine slows down over time; the ratio of medians would be 2 / 1.5."""
    assert bench_loader.Rates([8.0, 2.0, 1.0], [4.0, 1.5, 0.5]).ratio() == 2.0


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="reads what processes hold in /proc")
def test_workers_are_weighed() -> None:
    found = bench_loader.memory_of_workers(30, 300, workers=2)
    assert len(found) == 2 and all(1e6 < worker.own < 3e8 and worker.mapped == 0 for worker in found)
