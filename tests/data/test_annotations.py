import json
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from detloss.data.annotations import read_annotations
from detloss.errors import UserError

SHARED = Path(__file__).parents[3] / "shared" / "data"

VALID: dict[str, Any] = {
    "images": [
        {"id": 7, "file_name": "b.jpg", "width": 40, "height": 30},
        {"id": 3, "file_name": "sub/a.jpg", "width": 20, "height": 50},
    ],
    "categories": [{"id": 90, "name": "zebra"}, {"id": 4, "name": "aeroplane"}],
    "annotations": [
        {"id": 11, "image_id": 3, "category_id": 90, "bbox": [1, 2, 3, 4]},
        {"id": 12, "image_id": 7, "category_id": 4, "bbox": [30.5, 20, 20, 20], "iscrowd": 1},
        {"id": 13, "image_id": 3, "category_id": 4, "bbox": [5, 5, 0, 9]},
        {"id": 14, "image_id": 3, "category_id": 4, "bbox": [25, 5, 4, 9]},
        {"id": 15, "image_id": 3, "category_id": 4, "bbox": [0, 0, 20, 50]},
    ],
}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[object], Path]:
    def write_json(content: object) -> Path:
        path = tmp_path / "train.json"
        path.write_text(json.dumps(content))
        return path

    return write_json


def test_a_boxes_only_file_with_gaps_in_its_ids_is_read(write):
    """Worked by hand: two of five boxes have no area, one at once and one after clipping to 20 x 50."""
    annotations = read_annotations(write(VALID))
    assert annotations.image_ids.tolist() == [7, 3]
    assert list(annotations.file_names) == ["b.jpg", "sub/a.jpg"]
    assert (annotations.category_ids, annotations.category_names) == ((4, 90), ("aeroplane", "zebra"))
    assert annotations.dropped == 2
    assert annotations.offsets.tolist() == [0, 1, 3]
    assert annotations.image_index.tolist() == [0, 1, 1]
    assert annotations.class_index.tolist() == [0, 1, 0]
    assert annotations.iscrowd.tolist() == [True, False, False]
    assert annotations.records.tolist() == [1, 0, 4]
    assert annotations.boxes.dtype == np.float32
    assert annotations.boxes.tolist() == [[30.5, 20, 40, 30], [1, 2, 4, 6], [0, 0, 20, 50]]
    assert annotations.frequencies is None and annotations.segmentations is None


def test_ids_may_lie_far_apart(write):
    images, categories = {7: 10**15, 3: -5}, {4: -(2**60), 90: 12}
    content = json.loads(json.dumps(VALID))
    for row in content["images"]:
        row["id"] = images[row["id"]]
    for row in content["categories"]:
        row["id"] = categories[row["id"]]
    for row in content["annotations"]:
        row["image_id"], row["category_id"] = images[row["image_id"]], categories[row["category_id"]]
    near, far = read_annotations(write(VALID)), read_annotations(write(content))
    assert far.image_ids.tolist() == [10**15, -5] and far.category_ids == (-(2**60), 12)
    for name in ("image_index", "class_index", "boxes"):
        assert np.array_equal(getattr(far, name), getattr(near, name))
    content["annotations"][0]["image_id"] = 10**15 - 1
    with pytest.raises(UserError, match=r"annotations\[0\]: unknown image_id 999999999999999"):
        read_annotations(write(content))


def test_a_file_without_annotations_is_read(write):
    annotations = read_annotations(write(VALID | {"annotations": []}), masks=True)
    assert annotations.boxes.shape == (0, 4) and annotations.offsets.tolist() == [0, 0, 0]


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared")
@pytest.mark.parametrize("name", ["coco_mini/annotations/instances_train.json", "lvis_v05_val_100.json"])
def test_real_files_hold_what_pycocotools_finds(name, capsys):
    annotations = read_annotations(SHARED / name, masks=True)
    coco = COCO(SHARED / name)
    assert annotations.category_ids == tuple(sorted(coco.getCatIds()))
    assert annotations.dropped + len(annotations.boxes) == len(coco.getAnnIds())
    for i, image_id in enumerate(annotations.image_ids.tolist()):
        rows = range(*annotations.offsets[i : i + 2])
        expected = [a for a in coco.loadAnns(coco.getAnnIds(imgIds=image_id)) if min(a["bbox"][2:]) > 0]
        assert [annotations.category_ids[annotations.class_index[row]] for row in rows] == [
            a["category_id"] for a in expected
        ]
        for row, a in zip(rows, expected, strict=True):
            x, y, width, height = a["bbox"]
            assert np.allclose(annotations.boxes[row], [x, y, x + width, y + height], atol=1.01)
        if i < 5:  # drawing masks is slow
            shape = int(annotations.heights[i]), int(annotations.widths[i])
            for row, a in zip(rows, expected, strict=True):
                assert np.array_equal(annotations.segmentations.mask(row, *shape), coco.annToMask(a))


def test_lvis_v1_names_images_by_their_url(write):
    content = deepcopy(VALID)
    for image in content["images"]:
        del image["file_name"]
        image["coco_url"] = f"http://images.cocodataset.org/train2017/{image['id']:012d}.jpg"
    for category, frequency in zip(content["categories"], "rf", strict=True):
        category |= {"frequency": frequency, "instance_count": 4}
    annotations = read_annotations(write(content))
    assert list(annotations.file_names) == ["train2017/000000000007.jpg", "train2017/000000000003.jpg"]
    assert annotations.frequencies == ("f", "r"), "in the order of category ids"
    assert annotations.declared_instances == 8


def test_lvis_v05_names_of_coco_2014_give_way_to_the_url(write):
    content = deepcopy(VALID)
    content["images"][0] |= {
        "file_name": "COCO_val2014_000000000007.jpg",
        "coco_url": "http://images.cocodataset.org/val2017/000000000007.jpg",
    }
    assert read_annotations(write(content)).file_names[0] == "val2017/000000000007.jpg"


def test_coco_2014_keeps_its_names(write):
    content = deepcopy(VALID)
    name = "COCO_val2014_000000000007.jpg"
    content["images"][0] |= {"file_name": name, "coco_url": f"http://images.cocodataset.org/val2014/{name}"}
    assert read_annotations(write(content)).file_names[0] == name


@pytest.mark.parametrize(
    ("section", "record", "change", "message"),
    [
        ("annotations", 2, {"category_id": 5}, r"annotations\[2\]: unknown category_id 5; .* 2 ids from 4 to 90"),
        ("annotations", 1, {"image_id": 8}, r"annotations\[1\]: unknown image_id 8; .* 2 ids from 3 to 7"),
        ("annotations", 3, {"id": 11}, r"annotations\[3\]: id 11 is taken already by annotations\[0\]"),
        ("annotations", 0, {"bbox": [0, float("nan"), 1, 1]}, r"annotations\[0\]: 'bbox' must be 4 finite"),
        ("annotations", 0, {"bbox": [0, 1, 1]}, r"annotations\[0\]: 'bbox' must be 4 numbers"),
        ("annotations", 4, {"iscrowd": 2}, r"annotations\[4\]: 'iscrowd' must be 0 or 1, got 2"),
        ("images", 1, {"id": 7}, r"images\[1\]: id 7 is taken already by images\[0\]"),
        ("images", 1, {"width": 0}, r"images\[1\]: 'width' must be positive, got 0"),
        ("images", 0, {"height": "30"}, r"images\[0\]: 'height' must be an integer, got '30'"),
        ("images", 0, {"file_name": None}, r"images\[0\]: needs a 'file_name' or a 'coco_url'"),
        ("categories", 1, {"id": 90}, r"categories\[1\]: id 90 is taken already"),
        ("categories", 1, {"name": 3}, r"categories\[1\]: 'name' must be a text"),
    ],
)
def test_a_bad_record_is_named_in_one_line(write, section, record, change, message):
    content = deepcopy(VALID)
    content[section][record] |= change
    with pytest.raises(UserError, match=r"train\.json: " + message) as raised:
        read_annotations(write(content))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "name", ["../b.jpg", "sub/../../b.jpg", "/etc/passwd", "..\\b.jpg", "C:\\b.jpg", "b\0.jpg", "\\\\host\\b"]
)
def test_a_file_name_must_stay_in_the_images_folder(write, name):
    content = deepcopy(VALID)
    content["images"][0]["file_name"] = name
    with pytest.raises(UserError, match=r"images\[0\]: file_name .* leads out of the images folder"):
        read_annotations(write(content))


def test_a_url_cannot_leave_the_images_folder_either(write):
    content = deepcopy(VALID)
    content["images"][0] = {"id": 7, "coco_url": "http://x/../b.jpg", "width": 40, "height": 30}
    with pytest.raises(UserError, match="leads out of the images folder"):
        read_annotations(write(content))


def test_no_categories_is_a_user_error(write):
    with pytest.raises(UserError, match="'categories' is empty"):
        read_annotations(write({"images": [], "annotations": [], "categories": []}))


def test_reading_annotations_needs_no_torch():
    code = "import sys, detloss.data.annotations; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0
