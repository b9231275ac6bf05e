"""Results files read in pieces: however they are written, the columns are those of the rows."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from detloss.errors import UserError
from detloss.evaluation import results_file as module
from detloss.evaluation.detections import Detections, read_detections
from detloss.evaluation.ground_truth import GroundTruth, read_ground_truth
from tests.evaluation.conftest import Files, Json
from tests.evaluation.official_tools import hard_scene

Layout = Callable[[list[Json]], str]

LAYOUTS: dict[str, Layout] = {
    "plain": json.dumps,
    "dense": lambda rows: json.dumps(rows, separators=(",", ":")),
    "indented": lambda rows: json.dumps(rows, indent=2),
    "a line each": lambda rows: "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n",
    "other keys": lambda rows: json.dumps([row | {"id": i, "area": 1.5} for i, row in enumerate(rows)]),
    "keys with records": lambda rows: json.dumps([row | {"more": [{"a": 1}, {"b": "}, {"}]} for row in rows]),
    "with a mark of its encoding": lambda rows: "\ufeff" + json.dumps(rows),
    "with a NaN that nobody reads": lambda rows: json.dumps([row | {"more": float("nan")} for row in rows]),
}


@pytest.fixture
def ground_truth(write_files: Callable[..., Files]) -> GroundTruth:
    scene, _ = hard_scene(5, crowds=False)
    return read_ground_truth(write_files(scene, []).annotations, masks=False)


def assert_rows(found: Detections, rows: list[Json], ground_truth: GroundTruth, *, masks: bool) -> None:
    assert ground_truth.image_ids[found.image].tolist() == [row["image_id"] for row in rows]
    assert [ground_truth.category_ids[i] for i in found.category] == [row["category_id"] for row in rows]
    assert found.scores.tolist() == [row["score"] for row in rows]
    assert found.boxes.tolist() == [row["bbox"] for row in rows]
    assert (found.masks is not None) == masks
    if found.masks is not None:
        texts = [found.masks.rle(number)["counts"].decode() for number in range(len(rows))]  # type: ignore[attr-defined]
        assert texts == [row["segmentation"]["counts"] for row in rows]  # type: ignore[index]


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("chunk", [1, 100, 1 << 22])
def test_the_columns_are_the_rows_however_a_file_is_written_and_cut(
    ground_truth: GroundTruth,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    layout: str,
    chunk: int,
    masks: bool,
) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    _, rows = hard_scene(5, crowds=False)
    rows = rows[:12]
    path = tmp_path / "found.json"
    path.write_text(LAYOUTS[layout](rows), encoding="utf-8")
    assert_rows(read_detections(ground_truth, path, masks=masks), rows, ground_truth, masks=masks)


def test_an_error_far_into_a_file_names_its_row(
    ground_truth: GroundTruth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 500)
    _, rows = hard_scene(5, crowds=False)
    path = tmp_path / "found.json"
    for change, message in (
        ({"score": float("nan")}, "'score' must be a finite number, got nan"),
        ({"image_id": 99}, "unknown image_id 99"),
        ({"category_id": 2**70}, "'category_id' must be an integer"),
        ({"bbox": [0, 0, -1, 4]}, "a side is negative"),
        ({"segmentation": {"size": [240, 240], "counts": "5"}}, "damaged"),
        ({"segmentation": {"size": [240, 24], "counts": "5"}}, "are of size"),
        ({"segmentation": {"size": [240, 240], "counts": "é"}}, "need 'counts'"),
    ):
        path.write_text(json.dumps([*rows[:9], rows[9] | change, *rows[10:]]))
        with pytest.raises(UserError) as refusal:
            read_detections(ground_truth, path, masks=True)
        assert "found.json: predictions[9]: " in str(refusal.value) and message in str(refusal.value)
        assert "\n" not in str(refusal.value)


def test_areas_and_boxes_of_many_masks_are_those_of_their_pixels(
    ground_truth: GroundTruth, tmp_path: Path
) -> None:
    _, rows = hard_scene(5, crowds=False)
    path = tmp_path / "found.json"
    without = [{key: value for key, value in row.items() if key != "bbox"} for row in rows]
    path.write_text(json.dumps(without * 30))
    found = read_detections(ground_truth, path, masks=False)
    assert len(found) == 30 * len(rows) > 600 and not found.has_boxes
    for index, row in enumerate(rows):
        pixels = coco_mask.decode(row["segmentation"])
        assert found.areas[index] == found.areas[index - len(rows)] == pixels.sum()
        assert found.boxes[index, 2:].tolist() == [pixels.any(axis=0).sum(), pixels.any(axis=1).sum()]


def test_ranks_within_a_group_are_by_score_then_by_place_in_the_file() -> None:
    scores = np.array([0.5, 0.9, 0.5, 0.1, 0.5])
    zeros, groups = np.zeros(5, dtype=np.int64), np.array([7, 7, 7, 3, 3])
    found = Detections(zeros, zeros, scores, np.zeros((5, 4)), scores, np.arange(5), None)
    assert found.rank_within(groups).tolist() == [1, 0, 2, 1, 0]
    assert found.take(np.array([3, 2, 1])).rank_within(groups[[3, 2, 1]]).tolist() == [0, 1, 0]
