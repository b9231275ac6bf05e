"""`check` finds what was broken, names the place, and finds nothing in a sound data set."""

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from detloss.data.check import Problem, check
from detloss.errors import UserError

SHARED = Path(__file__).parents[3] / "shared" / "data"


def sound() -> dict[str, Any]:
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in (1, 2)],
        "categories": [{"id": 5, "name": "cat"}, {"id": 6, "name": "dog"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 5,
                "bbox": [2, 3, 20, 10],
                "segmentation": [[2, 3, 22, 3, 22, 13]],
            },
            {"id": 2, "image_id": 2, "category_id": 6, "bbox": [0, 0, 40, 30]},
        ],
    }


@pytest.fixture
def problems(tmp_path: Path) -> Callable[..., list[Problem]]:
    """A function that checks a file beside two images of 40 x 30 pixels."""

    def run(content: object, **options: bool) -> list[Problem]:
        path, folder = tmp_path / "train.json", tmp_path / "images"
        path.write_text(json.dumps(content))
        if not folder.exists():
            folder.mkdir()
            for number in (1, 2):
                Image.new("RGB", (40, 30)).save(folder / f"{number}.png")
        return list(check(path, folder, **options))

    return run


def test_a_sound_data_set_has_no_problems(problems: Callable[..., list[Problem]]) -> None:
    assert problems(sound()) == []


RUNS = {
    "size": [30, 40],
    "counts": coco_mask.encode(np.asfortranarray(np.eye(30, 40, dtype=np.uint8)))["counts"].decode(),
}


@pytest.mark.parametrize(
    ("section", "record", "change", "kind", "place"),
    [
        ("images", 1, {"id": 1}, "id taken twice", "images[1]"),
        ("images", 0, {"height": "30"}, "malformed record", "images[0]"),
        ("images", 0, {"width": 0}, "malformed record", "images[0]"),
        ("images", 0, {"width": 41}, "image of another size", "1.png"),
        ("images", 0, {"file_name": "3.png"}, "image missing", "3.png"),
        ("images", 0, {"file_name": None}, "malformed record", "images[0]"),
        ("images", 0, {"file_name": "../1.png"}, "malformed record", "images[0]"),
        ("categories", 1, {"id": 5}, "id taken twice", "categories[1]"),
        ("categories", 1, {"name": 3}, "malformed record", "categories[1]"),
        ("annotations", 1, {"id": 1}, "id taken twice", "annotations[1]"),
        ("annotations", 1, {"id": None}, "malformed record", "annotations[1]"),
        ("annotations", 1, {"image_id": 3}, "unknown image", "annotations[1]"),
        ("annotations", 1, {"image_id": [1]}, "unknown image", "annotations[1]"),
        ("annotations", 1, {"category_id": 7}, "unknown category", "annotations[1]"),
        ("annotations", 1, {"bbox": [1, 2, 3]}, "malformed record", "annotations[1]"),
        ("annotations", 1, {"bbox": [1, 2, 3, float("nan")]}, "malformed record", "annotations[1]"),
        ("annotations", 1, {"bbox": [1, 2, 3, 0]}, "box without area", "annotations[1]"),
        ("annotations", 1, {"bbox": [30, 2, 12, 5]}, "box outside the image", "annotations[1]"),
        ("annotations", 1, {"bbox": [-3, 2, 12, 5]}, "box outside the image", "annotations[1]"),
        ("annotations", 0, {"segmentation": [[1, 2, 3, 4]]}, "malformed mask", "annotations[0]"),
        ("annotations", 0, {"segmentation": "x"}, "malformed mask", "annotations[0]"),
        ("annotations", 0, {"segmentation": {"size": [3, 4], "counts": "0"}}, "malformed mask", "annotations[0]"),
        (
            "annotations",
            0,
            {"segmentation": [[2, 3, 35, 3, 22, 13]]},
            "mask does not fit its box",
            "annotations[0]",
        ),
        ("annotations", 0, {"segmentation": RUNS}, "mask does not fit its box", "annotations[0]"),
        (
            "annotations",
            0,
            {"segmentation": {"size": [30, 40], "counts": [1200]}},
            "mask does not fit its box",
            "annotations[0]",
        ),
    ],
)
def test_each_fault_is_found_where_it_is(
    problems: Callable[..., list[Problem]], section: str, record: int, change: dict, kind: str, place: str
) -> None:
    content = deepcopy(sound())
    content[section][record] |= change
    found = problems(content)
    assert any(problem.kind == kind and problem.place.endswith(place) for problem in found), found
    assert all("\n" not in problem.text for problem in found)


def test_damaged_images_are_found_by_decoding_them(problems: Callable[..., list[Problem]], tmp_path: Path) -> None:
    problems(sound())
    image = tmp_path / "images" / "2.png"
    noise = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(image)
    image.write_bytes(image.read_bytes()[:-500])
    (found,) = problems(sound())
    assert found.kind == "image damaged" and found.place == str(image)
    assert problems(sound(), decode=False) == []
    image.write_bytes(b"no image")
    assert [problem.kind for problem in problems(sound(), decode=False)] == ["image damaged"]


def test_all_problems_are_found_at_once(problems: Callable[..., list[Problem]]) -> None:
    content = sound()
    content["annotations"] += [
        {"id": 9 + i, "image_id": 1, "category_id": 5, "bbox": [1, 1, i, 1]} for i in (0, -1)
    ]
    content["images"][1]["file_name"] = "9.png"
    assert [problem.kind for problem in problems(content)] == ["box without area"] * 2 + ["image missing"]


def test_what_is_no_annotation_file_is_one_line(problems: Callable[..., list[Problem]]) -> None:
    with pytest.raises(UserError, match="expected a list 'categories'"):
        problems({"images": []})


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared")
def test_real_photographs_are_sound_but_for_a_few_boxes_that_are_larger_than_their_masks() -> None:
    root = SHARED / "coco_mini"
    for part in ("train", "val"):
        found = list(check(root / "annotations" / f"instances_{part}.json", root / part))
        assert len(found) < 5 and {problem.kind for problem in found} <= {"mask does not fit its box"}
