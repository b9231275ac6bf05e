"""evaluate_coco against paper, a brute-force reference and the ground truth itself."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from detloss.errors import UserError
from detloss.evaluation.coco import evaluate_coco
from tests.evaluation.conftest import Files, Json, assert_equal, assert_ranked, brute_force, mean

DATA = Path(__file__).parents[2].parent / "shared" / "data"
BOX = ("bbox",)
GROUPS = {3: "r", 4: "c", 9: "f", 11: "f"}


def detection(image_id: int, box: list[float], score: float, category_id: int = 5) -> Json:
    return {"image_id": image_id, "category_id": category_id, "bbox": box, "score": score}


def test_a_worked_example_of_two_objects_and_three_detections(
    write_files: Callable[..., Files], one_class: Json
) -> None:
    # By score: a hit (IoU 1), a mistake, and a hit while the threshold is below IoU 40 x 25 / 1600 = 0.625.
    rows = [
        detection(1, [0, 0, 40, 40], 0.9),
        detection(1, [60, 60, 30, 30], 0.8),
        detection(2, [10, 10, 40, 25], 0.7),
    ]
    result = evaluate_coco(*write_files(one_class, rows), iou_types=BOX).metrics["bbox"]
    # At .50, .55, .60: precision 1 at recall 1/2, 2/3 at recall 1; 51 of the 101 recalls are <= 1/2.
    both = (51 + 50 * 2 / 3) / 101
    # At the seven others recall never passes 1/2.
    one = 51 / 101
    assert result["AP50"] == pytest.approx(both, abs=1e-12)
    assert result["AP75"] == pytest.approx(one, abs=1e-12)
    assert result["AP"] == pytest.approx((3 * both + 7 * one) / 10, abs=1e-12)
    # The objects are of medium size, 1600 pixels; mistakes of 900 and 1000 pixels do not count among those.
    assert result["APm"] == pytest.approx((3 + 7 * one) / 10, abs=1e-12)
    assert result["APs"] is None and result["APl"] is None


def test_the_ground_truth_as_predictions_has_ap_1_wherever_there_is_ground_truth(
    write_files: Callable[..., Files], random_scene: Callable[..., tuple[Json, list[Json]]]
) -> None:
    scene, _ = random_scene(3)
    rows = [detection(a["image_id"], a["bbox"], 1.0, a["category_id"]) for a in scene["annotations"]]  # type: ignore[attr-defined]
    result = evaluate_coco(*write_files(scene, rows), iou_types=BOX, groups={**GROUPS, 40: "r"})
    metrics = result.metrics["bbox"]
    precisions = [value for name, value in metrics.items() if name.startswith("AP")]
    assert precisions == pytest.approx([1.0] * 10, abs=1e-12)
    errors = [metrics[name] for name in ("oLRP", "oLRP_Loc", "oLRP_FP", "oLRP_FN")]
    assert errors == pytest.approx([0.0] * 4, abs=1e-12)
    assert metrics["rank_correlation"] is None  # all are as good as one another
    assert [row["category_id"] for row in result.per_class if row["bbox_AP"] is None] == [40]


@pytest.mark.parametrize("seed", range(4))
def test_every_number_equals_the_brute_force_reference(
    write_files: Callable[..., Files], random_scene: Callable[..., tuple[Json, list[Json]]], seed: int
) -> None:
    scene, rows = random_scene(seed, crowds=True)
    result = evaluate_coco(*write_files(scene, rows), iou_types=BOX, groups=GROUPS)
    assert_ranked(result, scene, rows)
    expected = brute_force(scene, rows)
    for row in result.per_class:
        values = expected[int(row["category_id"])]  # type: ignore[arg-type]
        assert_equal(row["bbox_AP"], None if values is None else values.mean())
        assert_equal(row["bbox_AP50"], None if values is None else values[0])
        assert_equal(row["bbox_AP75"], None if values is None else values[5])
    metrics = result.metrics["bbox"]
    for area in ("", "s", "m", "l"):
        assert_equal(metrics[f"AP{area}"], mean(brute_force(scene, rows, area=area).values()))
    for group in "rcf":
        assert_equal(metrics[f"AP{group}"], mean(expected[c] for c, g in GROUPS.items() if g == group))


def test_a_group_is_the_mean_of_its_classes_with_ground_truth(
    write_files: Callable[..., Files], random_scene: Callable[..., tuple[Json, list[Json]]]
) -> None:
    scene, rows = random_scene(5)
    files = write_files(scene, rows)
    result = evaluate_coco(*files, iou_types=BOX, groups={3: "f", 4: "f", 40: "f", 9: "c"})
    by_id = {row["category_id"]: row["bbox_AP"] for row in result.per_class}
    metrics = result.metrics["bbox"]
    assert metrics["APf"] == pytest.approx((by_id[3] + by_id[4]) / 2, abs=1e-12)  # type: ignore[operator]
    assert metrics["APc"] == by_id[9]
    assert metrics["APr"] is None  # nobody is in it, and 11 is in no group
    assert {row["category_id"]: row["group"] for row in result.per_class}[11] is None
    without = evaluate_coco(*files, iou_types=BOX).metrics["bbox"]
    assert [without[f"AP{group}"] for group in "rcf"] == [None] * 3
    assert without["AP"] == metrics["AP"]


def test_no_detections_give_ap_0_and_a_warning(write_files: Callable[..., Files], one_class: Json) -> None:
    result = evaluate_coco(*write_files(one_class, []), iou_types=BOX, groups={5: "c"})
    metrics = result.metrics["bbox"]
    assert (metrics["AP"], metrics["AP50"], metrics["APm"], metrics["APc"]) == (0.0, 0.0, 0.0, 0.0)
    assert metrics["APs"] is None and metrics["APr"] is None
    assert len(result.warnings) == 1 and "no detections" in result.warnings[0]


def test_a_file_without_objects_has_no_ap(write_files: Callable[..., Files], one_class: Json) -> None:
    files = write_files(one_class | {"annotations": []}, [detection(1, [0, 0, 9, 9], 0.5)])
    assert set(evaluate_coco(*files, iou_types=BOX).metrics["bbox"].values()) == {None}


def test_an_object_of_id_0_can_be_found(write_files: Callable[..., Files], one_class: Json) -> None:
    rows = [detection(1, [0, 0, 40, 40], 0.9), detection(2, [10, 10, 40, 40], 0.7)]
    one_class["annotations"][0]["id"] = 0  # type: ignore[index]
    assert evaluate_coco(*write_files(one_class, rows), iou_types=BOX).metrics["bbox"]["AP"] == pytest.approx(
        1, abs=1e-12
    )


def test_a_second_detection_of_an_object_is_a_mistake(write_files: Callable[..., Files], one_class: Json) -> None:
    rows = [detection(1, [0, 0, 40, 40], s) for s in (0.9, 0.8)] + [detection(2, [10, 10, 40, 40], 0.7)]
    result = evaluate_coco(*write_files(one_class, rows), iou_types=BOX)
    # Hit, mistake, hit: recall 1/2 at precision 1, recall 1 at 2/3, at every threshold.
    assert result.metrics["bbox"]["AP"] == pytest.approx((51 + 50 * 2 / 3) / 101, abs=1e-12)


def test_detections_in_a_crowd_are_neither_hits_nor_mistakes(
    write_files: Callable[..., Files], one_class: Json
) -> None:
    crowd = {"id": 9, "image_id": 1, "category_id": 5, "bbox": [50, 0, 50, 100], "iscrowd": 1}
    one_class["annotations"].append(crowd)  # type: ignore[attr-defined]
    rows = [detection(1, [0, 0, 40, 40], 0.7), detection(2, [10, 10, 40, 40], 0.7)]
    rows += [detection(1, [50, y, 20, 20], 0.9) for y in (0, 30, 60)]
    result = evaluate_coco(*write_files(one_class, rows), iou_types=BOX)
    assert result.metrics["bbox"]["AP"] == pytest.approx(1, abs=1e-12)
    assert result.per_class[0]["instances"] == 2


def test_without_area_and_iscrowd_an_object_has_the_area_of_its_box(
    write_files: Callable[..., Files], one_class: Json
) -> None:
    for annotation in one_class["annotations"]:  # type: ignore[attr-defined]
        del annotation["area"], annotation["iscrowd"]
    one_class["annotations"][0]["bbox"] = [0, 0, 20, 20]  # type: ignore[index]
    rows = [detection(1, [0, 0, 20, 20], 0.7)]
    metrics = evaluate_coco(*write_files(one_class, rows), iou_types=BOX).metrics["bbox"]
    assert (metrics["APm"], metrics["APl"]) == (0.0, None)
    assert metrics["APs"] == pytest.approx(1, abs=1e-12)


def test_boxes_of_size_0_are_answered(write_files: Callable[..., Files], one_class: Json) -> None:
    rows = [detection(1, [5, 5, 0, 0], 0.9), detection(1, [0, 0, 40, 40], 0.8)]
    one_class["annotations"].append(  # type: ignore[attr-defined]
        {"id": 3, "image_id": 1, "category_id": 5, "bbox": [5, 5, 0, 0], "area": 0, "iscrowd": 0}
    )
    value = evaluate_coco(*write_files(one_class, rows), iou_types=BOX).metrics["bbox"]["AP50"]
    # Mistake, hit, and two of three objects never found: precision 1/2 for the 34 recalls up to 1/3.
    assert value == pytest.approx(34 * 0.5 / 101, abs=1e-12)


def test_only_the_best_detections_of_an_image_and_class_count(
    write_files: Callable[..., Files], one_class: Json
) -> None:
    rows = [detection(1, [0, 0, 40, 40], 0.1)] + [detection(1, [60, 60, 9, 9], 0.9) for _ in range(4)]
    files = write_files(one_class, rows)
    assert evaluate_coco(*files, iou_types=BOX, max_detections=4).metrics["bbox"]["AP"] == 0.0
    # Four mistakes, then a hit: precision 1/5 for recalls up to 1/2.
    value = evaluate_coco(*files, iou_types=BOX, max_detections=5).metrics["bbox"]["AP"]
    assert value == pytest.approx(51 / 5 / 101, abs=1e-12)


def test_pycocotools_prints_nothing(
    write_files: Callable[..., Files], one_class: Json, capfd: pytest.CaptureFixture[str]
) -> None:
    evaluate_coco(*write_files(one_class, [detection(1, [0, 0, 40, 40], 0.9)]), iou_types=BOX)
    assert capfd.readouterr() == ("", "")


def test_masks_are_scored_by_their_pixels(write_files: Callable[..., Files], one_class: Json) -> None:
    triangle = [0.0, 0.0, 40.0, 0.0, 0.0, 40.0]
    square = [10.0, 10.0, 50.0, 10.0, 50.0, 50.0, 10.0, 50.0]
    for annotation, polygon in zip(one_class["annotations"], (triangle, square), strict=True):  # type: ignore[call-overload]
        annotation["segmentation"] = [polygon]
    # Both boxes are right, but the first mask fills its box instead of half of it: IoU 1/2 or so.
    full = [0.0, 0.0, 40.0, 0.0, 40.0, 40.0, 0.0, 40.0]
    rows = [
        detection(1, [0, 0, 40, 40], 0.9) | {"segmentation": [full]},
        detection(2, [10, 10, 40, 40], 0.8) | {"segmentation": [square]},
    ]
    result = evaluate_coco(*write_files(one_class, rows))
    assert result.metrics["bbox"]["AP"] == pytest.approx(1, abs=1e-12)
    # Mistake, hit at every threshold over .55: precision 1/2 for recalls up to 1/2.
    assert result.metrics["segm"]["AP75"] == pytest.approx(51 * 0.5 / 101, abs=1e-12)
    assert result.per_class[0]["segm_AP75"] == result.metrics["segm"]["AP75"]


@pytest.mark.parametrize("with_boxes", [True, False])
def test_ground_truth_of_real_photographs_scores_1_for_boxes_and_masks(tmp_path: Path, with_boxes: bool) -> None:
    path = DATA / "coco_mini" / "annotations" / "instances_val.json"
    if not path.exists():
        pytest.skip("needs ../shared/data")
    keys = ["image_id", "category_id", "segmentation", *(["bbox"] if with_boxes else [])]
    objects = [row for row in json.loads(path.read_text())["annotations"] if not row["iscrowd"]]
    predictions = tmp_path / "predictions.json"
    predictions.write_text(json.dumps([{"score": 1.0} | {key: row[key] for key in keys} for row in objects]))
    result = evaluate_coco(path, predictions)
    assert result.metrics["segm"]["AP"] == pytest.approx(1, abs=1e-12)
    if with_boxes:
        assert result.metrics["bbox"]["AP"] == pytest.approx(1, abs=1e-12)
    else:  # the box of a mask's pixels is not quite that of its polygon, least so for objects of a few pixels
        assert result.metrics["bbox"]["APl"] == pytest.approx(1, abs=0.01)


def break_first(**changes: object) -> Callable[[Json], object]:
    def apply(scene: Json) -> object:
        scene["annotations"][0].update(changes)  # type: ignore[index]
        return scene

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_first(category_id=77), r"annotations\[0\]: unknown category_id 77"),
        (break_first(image_id=77), r"annotations\[0\]: unknown image_id 77"),
        (break_first(bbox=[1, 2, 3]), r"annotations\[0\]: 'bbox' must be 4 numbers"),
        (break_first(area=math.nan), r"annotations\[0\]: 'area' must be a finite number"),
        (break_first(iscrowd=3), r"annotations\[0\]: 'iscrowd' must be 0 or 1"),
        (lambda scene: scene | {"images": [{"id": 1, "width": 0, "height": 9}]}, r"images\[0\]: 'width'"),
        (lambda scene: scene | {"categories": []}, "'categories' is empty"),
        (lambda scene: [scene], "expected a JSON object"),
    ],
)
def test_a_damaged_annotation_file_is_refused_in_one_line(
    write_files: Callable[..., Files], one_class: Json, damage: Callable[[Json], object], message: str
) -> None:
    files = write_files(damage(one_class), [])
    with pytest.raises(UserError, match=message) as refusal:
        evaluate_coco(*files, iou_types=BOX)
    assert "\n" not in str(refusal.value) and "instances.json" in str(refusal.value)


def test_annotations_that_are_not_json_name_the_place(write_files: Callable[..., Files], one_class: Json) -> None:
    files = write_files(one_class, [])
    files.annotations.write_text('{"images": [\n oops')
    with pytest.raises(UserError, match="malformed JSON at line 2"):
        evaluate_coco(*files, iou_types=BOX)


def test_masks_are_refused_where_there_are_none(write_files: Callable[..., Files], one_class: Json) -> None:
    rows = [detection(1, [0, 0, 40, 40], 0.9)]
    with pytest.raises(UserError, match=r"instances.json: annotations\[0\]: has no 'segmentation'"):
        evaluate_coco(*write_files(one_class, rows))
    for annotation in one_class["annotations"]:  # type: ignore[attr-defined]
        annotation["segmentation"] = [[0, 0, 9, 0, 9, 9]]
    with pytest.raises(UserError, match=r"predictions.json: predictions\[0\]: has no 'segmentation'"):
        evaluate_coco(*write_files(one_class, rows))
    assert evaluate_coco(*write_files(one_class, [])).metrics["segm"]["AP"] == 0.0


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"iou_types": ("box",)}, "did you mean 'bbox'"),
        ({"iou_types": ()}, "no IoU type"),
        ({"max_detections": 0}, "1 or more"),
    ],
)
def test_wrong_choices_are_refused(
    write_files: Callable[..., Files], one_class: Json, choices: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        evaluate_coco(*write_files(one_class, []), **choices)  # type: ignore[arg-type]
