"""The file that reading is measured on is one of LVIS's, and every tool gets through it."""

import sys
from pathlib import Path

import pytest
from lvis import LVIS

from detloss.bench_data import bench_data, run, write_lvis
from detloss.data.annotations import read_annotations


def test_the_file_is_lvis_to_lvis_and_to_us(tmp_path: Path) -> None:
    path = tmp_path / "made.json"
    assert list(write_lvis(path, images=50, annotations=12_000)) == [10_000, 12_000]
    official, ours = LVIS(path), read_annotations(path, masks=True)
    assert len(official.anns) == len(ours.boxes) == 12_000 and len(official.imgs) == 50
    assert not ours.segmentations.missing().any()  # type: ignore[union-attr]
    assert len(ours.category_ids) == 1203 and ours.dropped == 0


def test_all_tools_are_in_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    bench_data(images=20, annotations=200, readers=True)
    printed = capsys.readouterr().out
    for name in ("stats, first", "stats, later", "json.load", "pycocotools.COCO", "lvis.LVIS", "4 processes"):
        assert name in printed


def test_a_process_that_fails_is_not_a_measurement() -> None:
    with pytest.raises(RuntimeError, match="no good"):
        run([sys.executable, "-c", "raise SystemExit('no good')"], {})
