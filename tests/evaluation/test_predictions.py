"""Predictions files: what is written is read again, and what is wrong is refused in one line."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from detloss.errors import UserError
from detloss.evaluation.coco import evaluate_coco
from detloss.evaluation.predictions import PredictionWriter, encode_masks, merge_shards, read_predictions
from tests.evaluation.conftest import Files, Json

NONE = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32)


def write_shard(folder: Path, rank: int, image_ids: list[int]) -> None:
    boxes = np.array([[1, 2, 4, 8], [0.5, 0, 1.25, 2]], np.float32)
    with PredictionWriter(folder, rank=rank) as writer:
        for image_id in image_ids:
            writer.add(image_id, boxes, np.array([5, 9]), np.array([0.5, 0.1], np.float32))


def test_shards_merge_to_one_file(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, [3])
    with PredictionWriter(tmp_path, rank=1) as writer:
        writer.add(4, *NONE)
    write_shard(tmp_path, 2, [8, 1])
    path = merge_shards(tmp_path, 3)
    rows = read_predictions(path)
    assert [row["image_id"] for row in rows] == [3, 3, 8, 8, 1, 1]
    assert rows[1] == {
        "image_id": 3,
        "category_id": 9,
        "bbox": [0.5, 0, 0.75, 2],  # x, y, width, height
        "score": float(np.float32(0.1)),
    }
    with np.load(path) as columns:  # anybody's numpy opens it
        assert columns["bbox"].tolist() == [row["bbox"] for row in rows]
        assert set(columns.files) == {"image_id", "category_id", "bbox", "score"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["predictions.npz"]


def test_ranks_without_detections_merge_to_an_empty_list(tmp_path: Path) -> None:
    for rank in (0, 1):
        with PredictionWriter(tmp_path, rank=rank) as writer:
            writer.add(4, *NONE, masks=[])
    assert read_predictions(merge_shards(tmp_path, 2)) == []


def test_a_missing_shard_is_named_and_the_earlier_file_stays(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, [7])
    earlier = merge_shards(tmp_path, 1).read_bytes()
    write_shard(tmp_path, 0, [3])
    with pytest.raises(UserError, match=r"predictions\.rank1 of 2 shards"):
        merge_shards(tmp_path, 2)
    assert (tmp_path / "predictions.npz").read_bytes() == earlier


def test_a_shard_whose_writer_died_is_refused(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, [3])
    boxes = np.array([[1, 2, 4, 8]])
    with pytest.raises(KeyError), PredictionWriter(tmp_path, rank=1) as writer:
        writer.add(4, boxes, np.array([5]), np.array([0.5]))
        raise KeyError
    with pytest.raises(UserError, match=r"rank1: the shard is not complete"):
        merge_shards(tmp_path, 2)
    assert not list(tmp_path.glob("predictions.npz*"))


def test_a_shard_of_an_earlier_attempt_counts_no_longer_once_its_rank_writes_again(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, [3])
    with pytest.raises(KeyError), PredictionWriter(tmp_path):
        raise KeyError
    with pytest.raises(UserError, match="not complete"):
        merge_shards(tmp_path, 1)


def test_the_file_of_an_earlier_version_gives_way_and_other_files_stay(tmp_path: Path) -> None:
    for name in ("predictions.json", "predictions_of_mine.json"):
        (tmp_path / name).write_text("[]")
    write_shard(tmp_path, 0, [3])
    merge_shards(tmp_path, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["predictions.npz", "predictions_of_mine.json"]


MASKED = ("image_id", "category_id", "bbox", "score", "size", "length", "counts")


@pytest.mark.parametrize("column", MASKED)
@pytest.mark.parametrize("lost", [1, 8, "all"])
def test_a_shard_that_lost_a_part_of_a_column_is_refused(tmp_path: Path, column: str, lost: int | str) -> None:
    masks = encode_masks(np.ones((2, 9, 7), np.uint8))
    for rank in (0, 1):
        with PredictionWriter(tmp_path, rank=rank) as writer:
            writer.add(4, np.array([[1, 2, 4, 8], [0, 0, 1, 1]]), np.array([5, 9]), np.array([0.5, 0.1]), masks)
    path = tmp_path / "predictions.rank1" / column
    whole = path.read_bytes()
    if lost == "all":
        path.unlink()
    else:
        path.write_bytes(whole[: -int(lost)])
    with pytest.raises(UserError, match=r"predictions\.rank1: the shard is not complete") as refusal:
        merge_shards(tmp_path, 2)
    assert "\n" not in str(refusal.value)
    path.write_bytes(whole)
    assert len(read_predictions(merge_shards(tmp_path, 2))) == 4


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_writer_refuses_what_json_cannot_hold(tmp_path: Path, bad: float) -> None:
    box, score = np.array([[0, 0, 5, 5.0]]), np.array([0.5])
    with PredictionWriter(tmp_path) as writer:
        with pytest.raises(UserError, match=r"image 12: .* not finite"):
            writer.add(12, box, np.array([5]), score * bad)
        with pytest.raises(UserError, match=r"image 12: .* not finite"):
            writer.add(12, box + bad, np.array([5]), score)


def test_masks_become_run_lengths_and_back() -> None:
    masks = (np.random.default_rng(0).random((3, 7, 5)) < 0.5).astype(np.uint8)
    encoded = json.loads(json.dumps(encode_masks(masks)))
    assert [rle["size"] for rle in encoded] == [[7, 5]] * 3
    np.testing.assert_array_equal(np.stack([coco_mask.decode(rle) for rle in encoded]), masks)
    assert encode_masks(np.zeros((0, 7, 5), np.uint8)) == []


def test_what_a_writer_wrote_scores_1_against_the_same_objects(
    write_files: Callable[..., Files], one_class: Json, tmp_path: Path
) -> None:
    masks = np.zeros((2, 100, 100), np.uint8)
    masks[0, :40, :40] = masks[1, 10:50, 10:50] = 1
    corners = np.array([[0, 0, 40, 40], [10, 10, 50, 50]], np.float32)
    with PredictionWriter(tmp_path / "run") as writer:
        for index, annotation in enumerate(one_class["annotations"]):  # type: ignore[arg-type]
            encoded = encode_masks(masks[index : index + 1])
            annotation["segmentation"] = encoded[0]
            box, score = corners[index : index + 1], np.array([0.3], np.float32)
            writer.add(annotation["image_id"], box, np.array([5]), score, encoded)
    files = write_files(one_class, [])
    result = evaluate_coco(files.annotations, merge_shards(tmp_path / "run", 1))
    assert (result.metrics["bbox"]["AP"], result.metrics["segm"]["AP"]) == (1.0, 1.0)


GOOD: Json = {"image_id": 1, "category_id": 5, "bbox": [1, 2, 3, 4], "score": 0.5}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": math.nan}, "'score' must be a finite number, got nan"),
        ({"score": math.inf}, "'score' must be a finite number, got inf"),
        ({"score": "0.5"}, "'score' must be a finite number, got '0.5'"),
        ({"score": 10**400}, "'score' must be a finite number"),
        ({"score": None}, "no 'score'"),
        ({"bbox": [1, 2, math.nan, 4]}, "'bbox' must be 4 finite numbers"),
        ({"bbox": [1, 2, 3]}, "'bbox' must be 4 numbers"),
        ({"bbox": [1, 2, -3, 4]}, "'bbox' must be x, y, width, height; a side is negative"),
        ({"image_id": "1"}, "'image_id' must be an integer"),
        ({"image_id": 99}, "unknown image_id 99; the annotation file lists 2 ids from 1 to 2"),
        ({"category_id": 99}, "unknown category_id 99; the annotation file lists 1 ids from 5 to 5"),
    ],
)
def test_a_wrong_row_is_named_in_one_line(
    write_files: Callable[..., Files], one_class: Json, change: Json, message: str
) -> None:
    files = write_files(one_class, [GOOD, GOOD | change])
    with pytest.raises(UserError) as refusal:
        evaluate_coco(*files, iou_types=("bbox",))
    assert f"predictions.json: predictions[1]: {message}" in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"size": [9, 9], "counts": "0"}, "are of size [9, 9], the image is [100, 100]"),
        ({"size": [100, 100], "counts": "ab"}, "damaged"),
        ({"size": [100, 100], "counts": [5, 5]}, "sum up to 100 x 100"),
        ([[1, 2, 3, 4]], "three points or more"),
        (None, "has no 'segmentation'"),
        (7, "must be polygons or run lengths, got int"),
    ],
)
def test_a_damaged_mask_is_named_in_one_line(
    write_files: Callable[..., Files], one_class: Json, segmentation: object, message: str
) -> None:
    for annotation in one_class["annotations"]:  # type: ignore[attr-defined]
        annotation["segmentation"] = [[0, 0, 40, 0, 40, 40]]
    files = write_files(one_class, [GOOD | {"segmentation": segmentation}])
    with pytest.raises(UserError) as refusal:
        evaluate_coco(*files)
    assert "predictions[0]" in str(refusal.value) and message in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[{", "malformed JSON at line 1"),
        ("{}", "expected a list of detections"),
        ("[3]", r"predictions\[0\]: expected an object, got 3"),
        ('[{"image_id": 1, "category_id": 5, "score": 1}]', "has neither 'bbox' nor 'segmentation'"),
        (json.dumps([GOOD, {**GOOD, "bbox": None}]), "must be 4 numbers"),
    ],
)
def test_what_is_no_results_file_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "predictions.json"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_predictions(path)


def test_rows_with_and_without_boxes_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "predictions.json"
    mask_only = {k: v for k, v in GOOD.items() if k != "bbox"} | {"segmentation": {}}
    path.write_text(json.dumps([GOOD, mask_only]))
    with pytest.raises(UserError, match=r"predictions\[1\]: has no 'bbox', though other rows have one"):
        read_predictions(path)


def test_a_missing_file_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "predictions.json").write_text("[]")
    with pytest.raises(UserError, match=r"no such file; did you mean 'predictions\.json'"):
        read_predictions(tmp_path / "prediction.json")
