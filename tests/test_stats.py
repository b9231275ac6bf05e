import json
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from detloss.errors import UserError
from detloss.stats import ClassStats, frequency_groups

SHARED = Path(__file__).parents[2] / "shared" / "data"


def _write_lvis(path: Path, *, declared: int) -> Path:
    """Two images, three instances of one frequent class, which the category declares ``declared`` of."""
    category = {"id": 5, "name": "cup", "frequency": "f", "image_count": 2, "instance_count": declared}
    images = [
        {"id": i, "coco_url": f"http://x/train2017/{i}.jpg", "width": 9, "height": 9, "neg_category_ids": []}
        for i in (1, 2)
    ]
    annotations = [
        {"id": n, "image_id": image, "category_id": 5, "bbox": [1, 1, 3, 3]}
        for n, image in enumerate((1, 1, 2), start=1)
    ]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))
    return path


def test_counts_equal_a_count_by_hand_without_crowds_and_degenerate_boxes(tiny_coco):
    path = tiny_coco(12).annotations
    content = json.loads(path.read_text())
    instances: Counter[int] = Counter()
    images = defaultdict(set)
    for annotation in content["annotations"]:
        if not annotation["iscrowd"] and annotation["bbox"][2] > 0 and annotation["bbox"][3] > 0:
            instances[annotation["category_id"]] += 1
            images[annotation["category_id"]].add(annotation["image_id"])
    stats = ClassStats.from_coco(path)
    assert stats.category_ids == (2, 3, 7, 8, 20)
    assert stats.names == ("class_2", "class_3", "class_7", "class_8", "class_20")
    assert stats.num_images == 12 and stats.num_classes == 5
    assert stats.instances.tolist() == [instances[category] for category in stats.category_ids]
    assert stats.images.tolist() == [len(images[category]) for category in stats.category_ids]
    assert stats.instances[-1] == 0, "the class that never occurs stays in the table"


def test_lvis_v1_counts_ship_with_the_package():
    """337 rare, 461 common and 405 frequent classes, 1,270,141 instances: the LVIS v1 training set."""
    stats = ClassStats.lvis_v1()
    assert stats.num_images == 100_170
    assert stats.instances.sum() == 1_270_141
    assert Counter(frequency_groups(stats.images, (10, 100))) == {"r": 337, "c": 461, "f": 405}
    assert stats.category_ids == tuple(range(1, 1204))


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared")
def test_shipped_lvis_v1_counts_are_those_of_the_official_categories():
    categories = json.loads((SHARED / "lvis_v1_train_categories.json").read_text())["categories"]
    stats = ClassStats.lvis_v1()
    shipped = zip(stats.category_ids, stats.names, stats.images, stats.instances, strict=True)
    keys = ("id", "name", "image_count", "instance_count")
    assert sorted(shipped) == sorted(tuple(category[key] for key in keys) for category in categories)
    groups = frequency_groups(stats.images, (10, 100))
    assert groups == tuple(c["frequency"] for c in sorted(categories, key=lambda category: category["id"]))


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared")
def test_lvis_v05_counts_are_those_that_its_categories_declare():
    path = SHARED / "lvis_v05_val_100.json"
    categories = sorted(json.loads(path.read_text())["categories"], key=lambda category: category["id"])
    stats = ClassStats.from_lvis(path)
    assert stats.instances.tolist() == [category["instance_count"] for category in categories]
    assert stats.images.tolist() == [category["image_count"] for category in categories]


def test_fractions_are_of_the_annotated_images_and_of_all_when_those_are_unknown():
    lvis = ClassStats.lvis_v1()
    assert (lvis.num_images, lvis.num_annotated_images) == (100_170, 99_388)
    assert lvis.image_fractions[0] == lvis.images[0] / 99_388
    stats = ClassStats(("a", "b"), (3, 9), 8, np.array([0, 5]), np.array([0, 4]))
    assert stats.image_fractions.tolist() == [1 / 8, 1 / 2]


def test_images_without_annotations_are_not_among_the_annotated_ones(tmp_path):
    box = {"bbox": [0, 0, 5, 5], "area": 25, "iscrowd": 0, "category_id": 1}
    content = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 9, "height": 9} for i in (1, 2, 3)],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [
            {"id": 1, "image_id": 1, **box},
            {"id": 2, "image_id": 1, **box},
            {"id": 3, "image_id": 3, **box},
        ],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    stats = ClassStats.from_coco(tmp_path / "a.json")
    assert (stats.num_images, stats.num_annotated_images) == (3, 2)


def test_statistics_survive_json_text():
    stats = ClassStats(("a", "b"), (3, 9), 7, np.array([0, 5]), np.array([0, 4]), num_annotated_images=6)
    content = json.loads(json.dumps(stats.to_json()))
    again = ClassStats.from_json(content)
    assert (again.names, again.category_ids, again.num_images) == (("a", "b"), (3, 9), 7)
    assert again.num_annotated_images == 6
    assert again.instances.tolist() == [0, 5] and again.images.tolist() == [0, 4]
    assert again.images.dtype == again.instances.dtype == np.int64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": None}, "names must be a list"),
        ({"images": [1]}, "differ in length"),
        ({"instances": [1.5, 2.5]}, "integers only"),
        ({"instances": [-1, 2]}, "negative"),
    ],
)
def test_damaged_statistics_are_a_user_error(change, message):
    stats = ClassStats(("a", "b"), (3, 9), 7, np.array([0, 5]), np.array([0, 4]))
    with pytest.raises(UserError, match=message):
        ClassStats.from_json(stats.to_json() | change)


def test_missing_statistics_are_a_user_error():
    with pytest.raises(UserError, match="'num_images' is missing"):
        ClassStats.from_json({"names": ["a"], "category_ids": [1]})


def test_an_lvis_training_file_is_counted(tmp_path):
    stats = ClassStats.from_lvis(_write_lvis(tmp_path / "train.json", declared=3))
    assert (stats.instances.tolist(), stats.images.tolist(), stats.num_images) == ([3], [2], 2)


def test_an_lvis_validation_file_does_not_become_class_weights(tmp_path):
    path = _write_lvis(tmp_path / "val.json", declared=3000)
    with pytest.raises(UserError, match=r"holds 3 instances.*declare 3000.*validation"):
        ClassStats.from_lvis(path)
    assert ClassStats.from_coco(path).instances.tolist() == [3]


def test_a_coco_file_is_not_an_lvis_file(tiny_coco):
    with pytest.raises(UserError, match="not an LVIS file"):
        ClassStats.from_lvis(tiny_coco(2).annotations)


def test_thresholds_belong_to_the_rarer_group():
    groups = frequency_groups(np.array([0, 10, 11, 100, 101]), (10, 100))
    assert groups == ("r", "r", "c", "c", "f")


def test_descending_thresholds_are_a_user_error():
    with pytest.raises(UserError, match=r"\[100, 10\]"):
        frequency_groups(np.array([1]), (100, 10))


@pytest.mark.parametrize(
    ("images", "groups"),
    [
        ([30, 10, 20], "frc"),
        ([6, 5, 4, 3, 2, 1], "ffccrr"),
        ([1, 1, 1, 1, 50, 60], "rrrrff"),  # the tie's middle rank is 2 of 6: the first third
        ([0, 0, 7, 7, 7, 9], "rrcccf"),
        ([4, 4, 4, 4], "cccc"),
        ([8], "c"),
    ],
)
def test_thirds_go_by_rank_and_keep_ties_together(images, groups):
    assert "".join(frequency_groups(np.array(images), None)) == groups


def test_statistics_need_no_torch():
    code = "import sys, detloss.stats; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1]).returncode == 0


def test_objects_as_such_are_one_class_on_every_annotated_image():
    stats = ClassStats(("a", "b"), (3, 7), 10, np.array([4, 6]), np.array([3, 5]), 8)
    whole = stats.as_one_class()
    assert (whole.num_classes, whole.num_images, whole.num_annotated_images) == (1, 10, 8)
    assert (whole.instances.tolist(), whole.images.tolist()) == ([10], [8])
