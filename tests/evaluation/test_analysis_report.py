"""What ``detloss eval`` shows and writes beyond AP."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from detloss.errors import UserError
from detloss.evaluate import report_analysed
from detloss.evaluation.analysis import analyse_all
from detloss.evaluation.analysis_report import error_table
from detloss.evaluation.coco import evaluate_coco
from detloss.evaluation.fixed_ap import evaluate_lvis_fixed
from detloss.evaluation.lvis import evaluate_lvis
from detloss.stats import ClassStats
from tests.evaluation.conftest import Files, Json
from tests.evaluation.crowded_scenes import CATEGORIES, crowded_scene
from tests.evaluation.official_tools import hard_scene
from tests.evaluation.test_error_types import ONE_OF_EACH, scene_of_cats_and_dogs

Write = Callable[..., Files]
BOX = ("bbox",)


def stats_of(category_ids: tuple[int, ...]) -> ClassStats:
    counts = np.arange(len(category_ids))[::-1] * 30  # the last is in no image
    return ClassStats(tuple(f"class {c}" for c in category_ids), category_ids, 100, counts, counts)


def test_the_files_hold_the_errors_by_group_and_by_class(write_files: Write, tmp_path: Path) -> None:
    evaluation = evaluate_coco(
        *write_files(*scene_of_cats_and_dogs(ONE_OF_EACH)), iou_types=BOX, groups={1: "f", 2: "r"}
    )
    report_analysed(evaluation, stats_of((1, 2)), tmp_path / "eval", None)
    assert sorted(p.name for p in (tmp_path / "eval").iterdir()) == [
        "errors.json",
        "metrics.json",
        "per_class.csv",
    ]
    errors = json.loads((tmp_path / "eval" / "errors.json").read_text())["bbox"]
    assert list(errors["groups"]) == ["all", "r", "c", "f"] and errors["groups"]["c"] is None
    assert errors["groups"]["r"]["errors"] == {
        "localisation": 0, "classification": 1, "duplicate": 0, "background": 1, "both": 0, "missed": 1
    }  # fmt: skip
    assert errors["groups"]["all"]["AP50_lost"]["classification"] == pytest.approx(51 / 202)
    assert errors["confusions"] == [{"object": "class 2", "detected_as": "class 1", "count": 1, "share": 0.5}]
    with (tmp_path / "eval" / "per_class.csv").open(encoding="utf-8", newline="") as file:
        cat, dog = csv.DictReader(file)
    assert (cat["bbox_localisation"], dog["bbox_localisation"], dog["bbox_missed"]) == ("1", "0", "1")
    # A cat is first, the other is not found: all four mistakes are above it.
    assert float(cat["bbox_ranking_error"]) == 0.5
    assert float(cat["bbox_detection_error_lowest"]) < float(cat["bbox_detection_error"])


def test_the_table_has_a_row_per_group_in_80_columns(write_files: Write) -> None:
    scene, rows = hard_scene(1, crowds=True)
    evaluation = evaluate_lvis(*write_files(scene, rows), iou_types=("bbox", "segm", "boundary"))
    text = io.StringIO()
    Console(file=text, width=80).print(error_table(analyse_all(evaluation)))
    lines = [line.replace("│", " ").split() for line in text.getvalue().splitlines() if line.startswith("│")]
    assert [line[0] for line in lines] == ["boxes", "r", "c", "masks", "r", "c"]
    assert "…" not in text.getvalue()
    expected = analyse_all(evaluation)["segm"].reliability["all"].error
    assert expected is not None and lines[3][-2] == f"{100 * expected:.1f}"


def test_the_official_engine_leaves_no_errors_behind(write_files: Write, tmp_path: Path) -> None:
    scene = crowded_scene(0, lvis=False)
    files = write_files(scene.ground_truth, scene.rows)
    stats = stats_of(CATEGORIES)
    report_analysed(evaluate_coco(*files, iou_types=BOX), stats, tmp_path / "eval", None)
    report_analysed(evaluate_coco(*files, iou_types=BOX, engine="official"), stats, tmp_path / "eval", None)
    assert not (tmp_path / "eval" / "errors.json").exists()


@pytest.mark.parametrize("evaluate", [evaluate_coco, evaluate_lvis, evaluate_lvis_fixed])
@pytest.mark.parametrize("left_out", ["objects", "detections", "both"])
def test_whatever_is_missing_there_are_answers(
    write_files: Write, tmp_path: Path, evaluate: Callable, left_out: str
) -> None:
    scene, rows = hard_scene(0, crowds=False)
    if left_out in ("objects", "both"):
        scene["annotations"] = []
    if left_out in ("detections", "both"):
        rows = []
    evaluation = evaluate(*write_files(scene, rows))
    report_analysed(evaluation, stats_of((3, 4, 9, 40)), tmp_path / "eval", None)
    content = json.loads((tmp_path / "eval" / "errors.json").read_text())
    for kind in ("bbox", "segm"):
        everything = content[kind]["groups"]["all"]
        assert everything["AP50_lost"]["missed"] == (1 if left_out == "detections" else None)
        if left_out != "objects":
            assert everything["ECE"] is None and everything["reliability"] == []
        assert {row["precision"] for row in everything["reliability"]} <= {0}
        assert everything["ranking_error"] is None and content[kind]["confusions"] == []


def test_a_folder_that_cannot_be_written_is_named(write_files: Write, tmp_path: Path, one_class: Json) -> None:
    evaluation = evaluate_coco(*write_files(one_class, []), iou_types=BOX)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/figures: figures cannot be written"):
        report_analysed(evaluation, stats_of((5,)), tmp_path / "eval", tmp_path / "file" / "figures")
