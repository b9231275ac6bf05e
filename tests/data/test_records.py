import json
from pathlib import Path

import numpy as np
import pytest

from detloss.data.records import Records, load_json_object
from detloss.errors import UserError


def test_malformed_json_is_reported_with_its_position(tmp_path):
    path = tmp_path / "train.json"
    path.write_text('{"images": [\n{"id": 1,}]}')
    with pytest.raises(UserError, match=r"train\.json: malformed JSON at line 2 column \d+") as raised:
        load_json_object(path)
    assert "\n" not in str(raised.value)


def test_a_cut_off_file_is_malformed(tmp_path):
    path = tmp_path / "train.json"
    path.write_text(json.dumps({"images": [{"id": 1}]})[:-4])
    with pytest.raises(UserError, match="malformed JSON at line 1"):
        load_json_object(path)


@pytest.mark.parametrize("text", ["", "[" * 100_000, "9" * 5000])
def test_texts_that_no_parser_likes_are_one_line_errors(tmp_path, text):
    path = tmp_path / "train.json"
    path.write_text(text)
    with pytest.raises(UserError) as raised:
        load_json_object(path)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_a_missing_file_is_reported_with_the_nearest_name(tmp_path):
    (tmp_path / "instances_train2017.json").write_text("{}")
    with pytest.raises(UserError, match=r"no such file; did you mean 'instances_train2017\.json'\?"):
        load_json_object(tmp_path / "instances_train_2017.json")


def test_a_folder_and_a_picture_are_not_annotation_files(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        load_json_object(tmp_path)
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(UserError, match="not UTF-8"):
        load_json_object(tmp_path / "photo.jpg")


def test_a_list_of_predictions_is_not_an_annotation_file(tmp_path):
    path = tmp_path / "predictions.json"
    path.write_text('[{"image_id": 1}]')
    with pytest.raises(UserError, match="expected a JSON object"):
        load_json_object(path)


def test_a_byte_order_mark_is_skipped(tmp_path):
    path = tmp_path / "train.json"
    path.write_bytes(b'\xef\xbb\xbf{"images": []}')
    assert load_json_object(path) == {"images": []}


def _records(*rows: dict[str, object]) -> Records:
    return Records.of(Path("train.json"), {"annotations": list(rows)}, "annotations")


def test_a_missing_list_is_reported_with_what_was_found():
    with pytest.raises(UserError, match="expected a list 'images' at the top, found annotations, info"):
        Records.of(Path("train.json"), {"annotations": [], "info": {}}, "images")


def test_a_record_that_is_no_object_is_named():
    with pytest.raises(UserError, match=r"annotations\[1\]: expected an object, got 7"):
        Records.of(Path("train.json"), {"annotations": [{}, 7]}, "annotations")


def test_a_misspelt_key_is_reported_with_the_nearest_name():
    with pytest.raises(UserError, match=r"annotations\[0\]: 'image_id' is missing; did you mean 'imageid'\?"):
        _records({"imageid": 3}).integers("image_id")


@pytest.mark.parametrize("value", ["3", 3.5, None, 2**63, [1]])
def test_a_value_that_is_no_int64_is_reported(value):
    with pytest.raises(UserError, match=r"annotations\[1\]: 'id' must be an integer"):
        _records({"id": 1}, {"id": value}).integers("id")


def test_duplicate_ids_name_both_records():
    with pytest.raises(UserError, match=r"annotations\[2\]: id 4 is taken already by annotations\[0\]"):
        _records({"id": 4}, {"id": 5}, {"id": 4}).identifiers()


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        "1234",
        [1, 2, 3],
        [1, 2, 3, "4"],
        [1, 2, 3, None],
        [1, 2, 3, 10**30],
        [1, 2, 3, float("nan")],
        [1, 2, float("inf"), 4],
    ],
)
def test_a_list_that_is_not_of_finite_numbers_is_reported(value):
    with pytest.raises(UserError, match=r"annotations\[1\]: 'bbox' must be 4 (finite )?numbers, got"):
        _records({"bbox": [1, 2, 3, 4]}, {"bbox": value}).numbers("bbox", 4)


def test_numbers_of_no_records_have_their_width():
    assert _records().numbers("bbox", 4).shape == (0, 4)
    assert np.array_equal(_records({"bbox": [1, 2.5, 3, 4]}).numbers("bbox", 4), [[1, 2.5, 3, 4]])
