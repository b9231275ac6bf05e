"""The set that scoring is measured on is LVIS's and COCO's, and every tool finds the same numbers on it."""

import json
from pathlib import Path

import pytest

from detloss.bench_eval import bench_eval, differences, write_set
from detloss.evaluation.lvis import evaluate_lvis


def test_the_set_has_what_was_asked_for_and_a_detector_is_neither_right_nor_wrong_on_it(tmp_path: Path) -> None:
    assert list(write_set(tmp_path, images=20, detections=3_000)) == ["annotations.json", "bbox.json", "segm.json"]
    content = json.loads((tmp_path / "annotations.json").read_text())
    assert (len(content["images"]), len(content["annotations"]), len(content["categories"])) == (20, 240, 1203)
    boxes, masks = (json.loads((tmp_path / f"{kind}.json").read_text()) for kind in ("bbox", "segm"))
    assert len(boxes) == len(masks) == 3_000 and "segmentation" not in boxes[0]
    assert boxes == [{key: value for key, value in row.items() if key != "segmentation"} for row in masks]
    metrics = evaluate_lvis(tmp_path / "annotations.json", tmp_path / "segm.json").metrics
    assert 0.1 < metrics["bbox"]["AP"] < 0.9 and 0.1 < metrics["segm"]["AP"] < 0.9  # type: ignore[operator]


@pytest.mark.parametrize(("rules", "tool"), [("lvis", "lvis"), ("coco", "pycocotools")])
def test_every_tool_is_in_the_table_and_off_by_nothing(
    rules: str, tool: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    bench_eval(images=3, detections=300, rules=[rules], kinds=["segm"])
    printed = capsys.readouterr().out
    ours, theirs = (
        next(line for line in printed.splitlines() if f"│ {name} " in line) for name in ("detloss", tool)
    )
    assert "0e+00 of 6," in ours and "0e+00 of 6," in theirs  # 1,203 classes, 5 numbers each, and the averages
    assert "hotcoco" in printed


def test_what_is_undefined_is_the_official_tools_minus_1() -> None:
    assert differences({"AP": None, "APs": 0.5, "own": 3.0}, {"AP": -1.0, "APs": 0.25}) == [0.0, 0.25]
