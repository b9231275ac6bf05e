"""Open Images' mean AP: a slow reference, worked examples of every rule, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detloss.data.open_images import read_open_images
from detloss.errors import UserError
from detloss.evaluation.open_images import evaluate_open_images
from detloss.evaluation.predictions import convert_predictions, encode_masks
from tests.evaluation.conftest import Files, Json, mean
from tests.evaluation.test_evaluate_voc import voc_scene
from tests.reference.open_images import Box, Thing, average_precision


def corners(box: list[float]) -> Box:
    return box[0], box[1], box[0] + box[2], box[1] + box[3]


def scene_with_lists(seed: int) -> tuple[Json, list[Json]]:
    """VOC's scene, whose crowds are groups here, half of them larger; some classes were looked for."""
    random = np.random.default_rng(seed)
    scene, rows = voc_scene(seed)
    for image in scene["images"]:  # type: ignore[attr-defined]
        image["neg_category_ids"] = random.choice([3, 5, 7, 8, 99], 2, replace=False).tolist()
    for row in scene["annotations"]:  # type: ignore[attr-defined]
        if row["iscrowd"] and random.random() < 0.5:
            row["bbox"] = (np.add(row["bbox"], [-20, -20, 40, 40])).tolist()
    rows[0]["bbox"] = [*rows[0]["bbox"][:3], 0]  # type: ignore[misc]
    return scene, rows


@pytest.mark.parametrize("weight", [1.0, 0.0, 0.3])
@pytest.mark.parametrize("seed", range(8))
def test_ap_is_that_of_the_slow_reference(write_files: Callable[..., Files], seed: int, weight: float) -> None:
    scene, rows = scene_with_lists(seed)
    groups = {3: "r", 5: "f", 7: "f"}
    result = evaluate_open_images(*write_files(scene, rows), groups=groups, group_of_weight=weight)
    expected = {}
    for category in (3, 5, 7, 8):
        own = [row for row in scene["annotations"] if row["category_id"] == category]  # type: ignore[attr-defined]
        verified = {i["id"] for i in scene["images"] if category in i["neg_category_ids"]}  # type: ignore[attr-defined]
        expected[category] = average_precision(
            [Thing(row["image_id"], corners(row["bbox"]), bool(row["iscrowd"])) for row in own],
            [(r["image_id"], r["score"], corners(r["bbox"])) for r in rows if r["category_id"] == category],  # type: ignore[misc, arg-type]
            verified=verified | {row["image_id"] for row in own},
            weight=weight,
        )
    assert expected[8] is None and (expected[7] is None) == (weight == 0)
    for row in result.per_class:
        pair = expected[row["category_id"]]  # type: ignore[index]
        for name, value in zip(("bbox_AP", "bbox_AR"), pair or (None, None), strict=True):
            assert row[name] == (None if value is None else pytest.approx(value, rel=0, abs=1e-12))
    for name, classes in (("AP", (3, 5, 7)), ("APr", (3,)), ("APf", (5, 7))):
        average = mean(pair and pair[0] for pair in (expected[c] for c in classes))
        assert result.metrics["bbox"][name] == pytest.approx(average, rel=0, abs=1e-12)


def one_image(
    objects: list[list[float]], groups: list[list[float]], *, absent: tuple[int, ...] = (), category: int = 1
) -> Json:
    annotations = [
        {"id": i + 1, "image_id": 1, "category_id": category, "bbox": box, "iscrowd": int(i >= len(objects))}
        for i, box in enumerate([*objects, *groups])
    ]
    image = {"id": 1, "width": 100, "height": 100, "file_name": "1.jpg", "neg_category_ids": list(absent)}
    categories = [{"id": c, "name": f"class {c}"} for c in (1, 2)]
    return {"images": [image], "annotations": annotations, "categories": categories}


def found(*boxes: list[float], category: int = 1) -> list[Json]:
    """Detections of falling scores."""
    return [
        {"image_id": 1, "category_id": category, "bbox": box, "score": 0.9 - i / 50} for i, box in enumerate(boxes)
    ]


A, GROUP, FAR = [0.0, 0, 10, 10], [40.0, 40, 40, 40], [90.0, 0, 10, 10]
IN, ALSO_IN, HALF_IN = [42.0, 42, 8, 8], [60.0, 60, 8, 8], [36.0, 50, 8, 8]


@pytest.mark.parametrize(
    ("rows", "weighted", "ignored"),
    [
        (found(A), 1 / 2, 1),  # the group is missed where it counts
        (found(A, IN), 1, 1),
        (found(A, IN, ALSO_IN, HALF_IN), 1, 1),  # many in one group are one hit
        (found(IN, FAR, A), (1 + 2 / 3) / 2, 1 / 2),  # the group's score is its best detection's
        (found(FAR, ALSO_IN, A), (2 / 3 + 2 / 3) / 2, 1 / 2),
        (found(A, [30.0, 50, 8, 8]), 1 / 2, 1),  # outside
        (found(FAR), 0, 0),
    ],
)
def test_worked_examples_of_a_group(
    write_files: Callable[..., Files], rows: list[Json], weighted: float, ignored: float
) -> None:
    files = write_files(one_image([A], [GROUP]), rows)
    assert evaluate_open_images(*files).metrics["bbox"]["AP"] == pytest.approx(weighted)
    assert evaluate_open_images(*files, group_of_weight=0).metrics["bbox"]["AP"] == pytest.approx(ignored)


def test_a_second_detection_of_an_object_inside_a_group_is_the_groups(write_files: Callable[..., Files]) -> None:
    files = write_files(one_image([IN], [GROUP]), found(IN, IN, IN))
    assert evaluate_open_images(*files).metrics["bbox"] == {
        "AP": 1, "AP50": 1, "APr": None, "APc": None, "APf": None, "AR": 1,
    }  # fmt: skip
    alone = write_files(one_image([IN], []), [*found(IN, IN), *found(FAR)])
    assert evaluate_open_images(*alone).metrics["bbox"]["AP"] == 1  # mistakes after all is found cost nothing


def test_a_class_that_nobody_looked_for_is_not_judged(write_files: Callable[..., Files]) -> None:
    def average(absent: tuple[int, ...]) -> float | None:
        elsewhere = one_image([A], [], absent=absent)
        elsewhere["images"].append({**elsewhere["images"][0], "id": 2, "neg_category_ids": []})  # type: ignore[attr-defined, index]
        elsewhere["annotations"].append(  # type: ignore[attr-defined]
            {"id": 9, "image_id": 2, "category_id": 2, "bbox": A, "iscrowd": 0}
        )
        rows = [*found(A, category=2), *found(A)]
        rows.append({"image_id": 2, "category_id": 2, "bbox": A, "score": 0.1})
        return evaluate_open_images(*write_files(elsewhere, rows)).metrics["bbox"]["AP"]

    assert average(absent=()) == 1
    assert average(absent=(2,)) == 3 / 4  # of class 2 the mistake on the first image comes first


def test_the_hierarchy_asks_for_the_classes_above_too(tmp_path: Path) -> None:
    """The worked case of the evaluation page: whoever finds a helmet of a kind must say that it is a helmet."""
    Image.new("RGB", (100, 100)).save(tmp_path / "a.jpg")
    (tmp_path / "classes.csv").write_text(
        "/m/helmet,Helmet\n/m/football,Football helmet\n/m/bicycle,Bicycle helmet\n"
    )
    (tmp_path / "boxes.csv").write_text(
        "ImageID,LabelName,XMin,XMax,YMin,YMax,IsGroupOf\na,/m/football,0,0.1,0,0.1,0\n"
    )
    (tmp_path / "labels.csv").write_text("ImageID,LabelName,Confidence\na,/m/bicycle,0\n")
    kinds = '{"LabelName": "/m/football"}, {"LabelName": "/m/bicycle"}'
    (tmp_path / "tree.json").write_text(f'{{"LabelName": "/m/helmet", "Subcategory": [{kinds}]}}')
    paths = (tmp_path / name for name in ("boxes.csv", "classes.csv"))
    tree, labels = tmp_path / "tree.json", tmp_path / "labels.csv"
    read_open_images(*paths, tmp_path, hierarchy=tree, labels=labels).write(tmp_path / "val.json")

    def classes(*category_ids: int) -> list[object]:
        rows = [found(A, category=category)[0] for category in category_ids]
        (tmp_path / "found.json").write_text(json.dumps(rows))
        result = evaluate_open_images(tmp_path / "val.json", tmp_path / "found.json")
        return [row["bbox_AP"] for row in result.per_class]

    assert classes(2) == [0, 1, None]  # a helmet is missed
    assert classes(1, 2, 3) == [1, 1, None]


def test_masks_and_columns_are_scored_too(write_files: Callable[..., Files], tmp_path: Path) -> None:
    scene = one_image([A], [GROUP])
    for row in scene["annotations"]:  # type: ignore[attr-defined]
        x, y, width, height = row["bbox"]
        row["segmentation"] = [[x, y, x + width, y, x + width, y + height, x, y + height]]
    rows = found(A, IN)
    for row, inside in zip(rows, (A, FAR), strict=True):  # the second one's mask lies elsewhere
        pixels = np.zeros((100, 100), np.uint8)
        x, y, width, height = (int(v) for v in inside)
        pixels[y : y + height, x : x + width] = 1
        row["segmentation"] = encode_masks(pixels[None])[0]
    files = write_files(scene, rows)
    convert_predictions(files.predictions, tmp_path / "found.npz")
    for predictions in (files.predictions, tmp_path / "found.npz"):
        result = evaluate_open_images(files.annotations, predictions, iou_types=("bbox", "segm"))
        assert (result.metrics["bbox"]["AP"], result.metrics["segm"]["AP"]) == (1, 0.5)


def test_files_without_verified_classes_and_weights_that_are_none_are_refused(
    write_files: Callable[..., Files], one_class: Json
) -> None:
    files = write_files(one_class, [])
    message = r"images\[0\]: has no list 'neg_category_ids': not an Open Images file; try evaluator=coco"
    with pytest.raises(UserError, match=message):
        evaluate_open_images(*files)
    with pytest.raises(UserError, match="group_of_weight=-1: expected a number of at least 0"):
        evaluate_open_images(*files, group_of_weight=-1)


def test_no_detections_are_ap_0_and_a_warning(write_files: Callable[..., Files]) -> None:
    result = evaluate_open_images(*write_files(one_image([A], [GROUP]), []))
    assert result.metrics["bbox"]["AP"] == 0 and "holds no detections" in result.warnings[0]
