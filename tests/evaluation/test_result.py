"""What an evaluation writes and shows."""

import csv
import json
from pathlib import Path

import pytest
from rich.console import Console

from detloss.evaluation.result import ClassRow, Evaluation

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf")
BOXES = dict(zip(NAMES, (0.3141, 0.5, 0.25, 0.1, 0.2, None, None, 0.12345, 1.0), strict=True))
MASKS = dict.fromkeys(NAMES, 0.02) | {"APl": None}
ROWS: tuple[ClassRow, ...] = (
    {"category_id": 3, "name": 'a "small", one', "group": "r", "instances": 4, "bbox_AP": 0.25},
    {"category_id": 7, "name": "naïve", "group": None, "instances": 0, "bbox_AP": None},
)


def shown(evaluation: Evaluation) -> str:
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(evaluation.table())
    return console.export_text()


def test_metrics_json_holds_numbers_and_nulls(tmp_path: Path) -> None:
    Evaluation({"bbox": BOXES, "segm": MASKS}, ROWS).write(tmp_path / "new" / "folder")
    written = json.loads((tmp_path / "new" / "folder" / "metrics.json").read_text())
    assert written == {"bbox": BOXES, "segm": MASKS}
    assert {entry.name for entry in (tmp_path / "new" / "folder").iterdir()} == {
        "metrics.json",
        "per_class.csv",
    }


def test_json_never_holds_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        Evaluation({"bbox": BOXES | {"AP": float("nan")}}, ROWS).write(tmp_path)
    assert not (tmp_path / "metrics.json").exists()


def test_per_class_csv_has_a_row_per_class_and_empty_cells_for_none(tmp_path: Path) -> None:
    Evaluation({"bbox": BOXES}, ROWS).write(tmp_path)
    with (tmp_path / "per_class.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ['a "small", one', "naïve"]
    assert [row["bbox_AP"] for row in rows] == ["0.25", ""]
    assert [row["group"] for row in rows] == ["r", ""]


def test_the_table_shows_hundredths_with_one_decimal_for_boxes_and_masks() -> None:
    text = shown(Evaluation({"bbox": BOXES, "segm": MASKS}, ROWS))
    header, boxes, masks = (line.replace("│", " ").replace("┃", " ").split() for line in _cells(text))
    assert header == ["IoU", "of", *NAMES]
    assert boxes == ["boxes", "31.4", "50.0", "25.0", "10.0", "20.0", "-", "-", "12.3", "100.0"]
    assert masks == ["masks", "2.0", "2.0", "2.0", "2.0", "2.0", "-", "2.0", "2.0", "2.0"]


def test_the_table_says_which_engine_spoke() -> None:
    assert shown(Evaluation({"bbox": BOXES}, ROWS)).splitlines()[0].strip() == "engine: detloss"
    official = Evaluation({"bbox": BOXES}, ROWS, engine="lvis 0.5.3")
    assert shown(official).splitlines()[0].strip() == "engine: lvis 0.5.3"


def test_the_table_ends_with_the_warnings() -> None:
    text = shown(Evaluation({"bbox": BOXES}, ROWS, ("x[1].json holds no detections: AP is 0",)))
    assert text.splitlines()[-1].strip() == "x[1].json holds no detections: AP is 0"


def _cells(text: str) -> list[str]:
    return [line for line in text.splitlines() if line[:1] in "│┃" and line.strip()]
