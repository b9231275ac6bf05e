"""Predictions in columns: the same as COCO's JSON to the last bit, flat in memory, and never a traceback."""

import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from detloss.errors import UserError
from detloss.evaluation.coco import evaluate_coco
from detloss.evaluation.fixed_ap import evaluate_lvis_fixed
from detloss.evaluation.lvis import evaluate_lvis
from detloss.evaluation.prediction_columns import open_columns, save_columns
from detloss.evaluation.predictions import (
    PredictionWriter,
    convert_predictions,
    encode_masks,
    merge_shards,
    read_predictions,
)
from tests.evaluation.conftest import Files, Json
from tests.evaluation.official_tools import hard_scene

WITHOUT: dict[str, set[str]] = {"boxes and masks": set(), "masks": {"bbox"}, "boxes": {"segmentation"}}


def some_rows(without: str) -> list[Json]:
    """Rows whose numbers have all the digits that a float64 holds."""
    _, rows = hard_scene(3, crowds=False)
    random = np.random.default_rng(0)
    for row in rows:
        row["score"] = random.random() * 10.0 ** random.integers(-9, 1)
        row["bbox"] = (random.random(4) * 300).tolist()
        row["image_id"] = int(row["image_id"]) + 2**40  # type: ignore[call-overload]
    return [{key: value for key, value in row.items() if key not in WITHOUT[without]} for row in rows]


@pytest.fixture
def columns(tmp_path: Path) -> Path:
    """A file of columns with boxes and masks."""
    source = tmp_path / "source.json"
    source.write_text(json.dumps(some_rows("boxes and masks")))
    convert_predictions(source, tmp_path / "found.npz")
    return tmp_path / "found.npz"


@pytest.mark.parametrize("without", WITHOUT)
@pytest.mark.parametrize("number", [0, 1, None])
def test_json_becomes_columns_and_the_same_json_again(tmp_path: Path, without: str, number: int | None) -> None:
    rows = some_rows(without)[:number]
    source, made, again = (tmp_path / name for name in ("source.json", "made.npz", "again.json"))
    source.write_text(json.dumps(rows))
    assert len(convert_predictions(source, made)) == len(rows)
    convert_predictions(made, again)
    assert json.loads(again.read_text()) == rows == read_predictions(made)
    assert len(again.read_text().splitlines()) == len(rows) + (2 if rows else 1)  # a row a line
    assert not list(tmp_path.glob("*.part"))


def test_plain_run_lengths_become_compressed_ones_of_the_same_pixels(tmp_path: Path) -> None:
    row = some_rows("boxes")[0] | {"segmentation": {"size": [3, 4], "counts": [2, 5, 4, 1]}}
    source = tmp_path / "source.json"
    source.write_text(json.dumps([row]))
    convert_predictions(source, tmp_path / "made.npz")
    (found,) = read_predictions(tmp_path / "made.npz")
    pixels = np.repeat([0, 1, 0, 1], [2, 5, 4, 1]).reshape(4, 3).T
    np.testing.assert_array_equal(coco_mask.decode(found.pop("segmentation")), pixels)  # type: ignore[arg-type]
    del row["segmentation"]
    assert found == row


@pytest.mark.parametrize("evaluate", [evaluate_coco, evaluate_lvis, evaluate_lvis_fixed])
@pytest.mark.parametrize("kinds", [("bbox", "segm"), ("bbox",)])
def test_columns_score_as_their_json_does_to_the_last_bit(
    write_files: Callable[..., Files], tmp_path: Path, evaluate: Callable, kinds: tuple[str, ...]
) -> None:
    files = write_files(*hard_scene(5, crowds=False))
    convert_predictions(files.predictions, tmp_path / "made.npz")
    (tmp_path / "made.npz").rename(tmp_path / "no_suffix")  # what a file is, its content says
    groups = {3: "r", 4: "c", 9: "f", 40: "f"}
    one = evaluate(files.annotations, files.predictions, iou_types=kinds, groups=groups)
    other = evaluate(files.annotations, tmp_path / "no_suffix", iou_types=kinds, groups=groups)
    assert (one.metrics, one.per_class, one.warnings) == (other.metrics, other.per_class, other.warnings)
    assert one.metrics["bbox"]["AP"] > 0


def test_a_writer_stores_what_the_model_gave_as_json_would(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    corners = random.uniform(0, 1000, (50, 4)).astype(np.float32)
    corners[:, 2:] += corners[:, :2]
    scores = random.random(50).astype(np.float32)
    with PredictionWriter(tmp_path) as writer:
        writer.add(2**40, corners, np.arange(50), scores)
    rows = read_predictions(merge_shards(tmp_path, 1))
    for row, (left, top, right, bottom), score in zip(rows, corners.tolist(), scores.tolist(), strict=True):
        text = json.dumps({"bbox": [left, top, right - left, bottom - top], "score": score, "image_id": 2**40})
        assert {key: row[key] for key in ("bbox", "score", "image_id")} == json.loads(text)


def test_masks_are_those_that_were_written_whichever_rank_wrote_them(tmp_path: Path) -> None:
    masks = (np.random.default_rng(0).random((5, 9, 7)) < 0.5).astype(np.uint8)
    for rank, own in enumerate((masks[:2], masks[2:2], masks[2:])):
        with PredictionWriter(tmp_path, rank=rank) as writer:
            for mask in own:
                writer.add(rank, np.ones((1, 4)), np.array([5]), np.array([0.5]), encode_masks(mask[None]))
    rows = read_predictions(merge_shards(tmp_path, 3))
    assert [row["image_id"] for row in rows] == [0, 0, 2, 2, 2]
    found = [coco_mask.decode(row["segmentation"]) for row in rows]  # type: ignore[arg-type]
    np.testing.assert_array_equal(np.stack(found), masks)


def test_masks_of_some_images_only_are_refused(tmp_path: Path) -> None:
    given = np.ones((1, 4)), np.array([5]), np.array([0.5])
    with PredictionWriter(tmp_path) as writer:
        writer.add(1, *given)
        writer.add(2, *given, encode_masks(np.ones((1, 2, 2), np.uint8)))
    with pytest.raises(UserError, match="not complete; its size has 8 of 16 bytes"):
        merge_shards(tmp_path, 1)


def peak_bytes(function: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_writing_needs_no_more_memory_for_more_images(tmp_path: Path) -> None:
    boxes, masks = np.ones((100, 4), np.float32), encode_masks(np.ones((100, 64, 64), np.uint8))

    def write(images: int) -> None:
        with PredictionWriter(tmp_path / str(images)) as writer:
            for image in range(images):
                writer.add(image, boxes, np.arange(100), boxes[:, 0], masks)
        merge_shards(tmp_path / str(images), 1)

    write(1)  # what is imported and compiled once
    few, many = peak_bytes(lambda: write(20)), peak_bytes(lambda: write(200))
    assert (
        many < few + 200_000
    )  # the lengths of 18,000 masks more, which are added up once: 72 kB, and as much again


def test_the_masks_text_is_mapped_and_not_loaded(tmp_path: Path, columns: Path) -> None:
    opened = open_columns(columns)
    assert opened.masks is not None
    text = np.frombuffer(b"0" * 10_000_000, np.uint8)
    lengths = np.full(len(opened), len(text) // len(opened))
    lengths[0] += len(text) - lengths.sum()
    ends = np.concatenate([[0], lengths.cumsum()])
    save_columns(replace(opened, masks=replace(opened.masks, text=text, ends=ends)), columns)
    assert peak_bytes(lambda: open_columns(columns)) < 1_000_000


@pytest.mark.parametrize("share", [0.001, 0.01, 0.2, 0.5, 0.9, 0.99, 0.999])
def test_a_file_that_was_cut_off_is_one_clear_line(columns: Path, share: float) -> None:
    whole = columns.read_bytes()
    columns.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(UserError, match=r"found\.npz: ") as refusal:
        read_predictions(columns)
    assert "\n" not in str(refusal.value)


def test_damage_anywhere_is_an_answer_and_no_crash(columns: Path, tmp_path: Path) -> None:
    whole, random = columns.read_bytes(), np.random.default_rng(0)
    for place in random.integers(4, len(whole), 300).tolist():
        columns.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        try:
            open_columns(columns)
        except UserError as refusal:
            assert str(columns) in str(refusal) and "\n" not in str(refusal)


Change = Callable[[dict[str, np.ndarray]], object]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("score"), "not a file of predictions, it has no column 'score'"),
        (lambda c: c.pop("length"), "it has no column 'length'"),
        (lambda c: (c.pop("bbox"), c.pop("counts")), "it has no column 'counts'"),
        (lambda c: c.update(score=c["score"].astype("f4")), r"column 'score' is float32 .*, expected <f8"),
        (lambda c: c.update(score=c["score"][:-1]), r"column 'score' is float64 \(\d+,\), expected <f8 \(\d+,\)"),
        (lambda c: c.update(bbox=c["bbox"][:, :3].copy()), r"column 'bbox' is float64 \(\d+, 3\)"),
        (lambda c: c.update(counts=c["counts"][:-1]), "column 'counts' is uint8"),
        (lambda c: c["length"].__setitem__(slice(2), [-1, c["length"][:2].sum() + 1]), "holds a negative number"),
        (
            lambda c: c["score"].__setitem__(3, np.nan),
            r"predictions\[3\]: 'score' must be a finite number, got nan",
        ),
        (lambda c: c["bbox"].__setitem__(3, np.inf), r"predictions\[3\]: 'bbox' must be 4 finite numbers"),
        (lambda c: c.update(image_id=np.array(3)), "column 'bbox' is"),
        (lambda c: c.update(category_id=c["category_id"].astype(object)), "damaged"),  # pickled
    ],
)
def test_columns_that_do_not_fit_are_one_clear_line(columns: Path, change: Change, message: str) -> None:
    with np.load(columns) as file:
        content = dict(file)
    change(content)
    np.savez(columns, **content)
    with pytest.raises(UserError, match=message) as refusal:
        open_columns(columns)
    assert str(columns) in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"category_id": 99}, "unknown category_id 99"),
        ({"image_id": 99}, "unknown image_id 99"),
        ({"segmentation": {"size": [240, 24], "counts": "5"}}, "are of size"),
        ({"segmentation": {"size": [240, 240], "counts": "5"}}, "damaged"),
    ],
)
def test_a_wrong_row_in_columns_is_named(
    write_files: Callable[..., Files], tmp_path: Path, change: Json, message: str
) -> None:
    scene, rows = hard_scene(5, crowds=False)
    files = write_files(scene, [*rows[:9], rows[9] | change, *rows[10:]])
    convert_predictions(files.predictions, tmp_path / "made.npz")
    with pytest.raises(UserError) as refusal:
        evaluate_coco(files.annotations, tmp_path / "made.npz")
    assert "made.npz: predictions[9]: " in str(refusal.value) and message in str(refusal.value)


def test_boxes_alone_have_no_masks_to_score(write_files: Callable[..., Files], tmp_path: Path) -> None:
    scene, rows = hard_scene(5, crowds=False)
    files = write_files(scene, [{key: row[key] for key in row if key != "segmentation"} for row in rows])
    convert_predictions(files.predictions, tmp_path / "made.npz")
    with pytest.raises(UserError, match=r"predictions\[0\]: has no 'segmentation'"):
        evaluate_coco(files.annotations, tmp_path / "made.npz")
    files.predictions.write_text("[]")
    convert_predictions(files.predictions, tmp_path / "made.npz")
    assert evaluate_coco(files.annotations, tmp_path / "made.npz").metrics["segm"]["AP"] == 0


@pytest.mark.parametrize(
    ("content", "output", "message"),
    [
        ("[]", "made.json", r"made\.json: expected a name that ends in \.npz"),
        ("[{", "made.npz", "malformed JSON"),
        ('[{"image_id": 1, "category_id": 5, "score": 1}]', "made.npz", "has neither 'bbox' nor"),
        (
            '[{"image_id": 1, "category_id": 5, "score": 1, "segmentation": [[0, 0, 1, 0, 1, 1]]}]',
            "made.npz",
            r"predictions\[0\]: has polygons, whose image's size the file does not tell",
        ),
        ("[]", "file/made.npz", "cannot write"),
    ],
)
def test_what_cannot_be_converted_is_refused_and_nothing_written(
    tmp_path: Path, content: str, output: str, message: str
) -> None:
    source = tmp_path / "source.json"
    source.write_text(content)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=message):
        convert_predictions(source, tmp_path / output)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "source.json"]
    with pytest.raises(UserError, match=r"sourc\.json: no such file; did you mean 'source\.json'"):
        convert_predictions(tmp_path / "sourc.json", tmp_path / "made.npz")
