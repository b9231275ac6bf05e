"""evaluate_lvis against a brute-force reference, real LVIS ground truth, and LVIS's rules by hand."""

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from detloss.errors import UserError
from detloss.evaluation.lvis import evaluate_lvis
from tests.evaluation.conftest import Files, Json, assert_equal, assert_ranked, brute_force, mean

LVIS = Path(__file__).parents[2].parent / "shared" / "data" / "lvis_v05_val_100.json"
BOX = ("bbox",)


@pytest.fixture
def federated(one_class: Json) -> Json:
    """Images 1 and 2 with a cat each, and image 3, where nobody looked for cats; dogs were looked for in 2."""
    one_class["images"].append({"id": 3, "width": 100, "height": 100})  # type: ignore[attr-defined]
    for image in one_class["images"]:  # type: ignore[attr-defined]
        image |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    one_class["categories"] = [
        {"id": 5, "name": "cat", "frequency": "c"},
        {"id": 6, "name": "dog", "frequency": "r"},
    ]
    for annotation in one_class["annotations"]:  # type: ignore[attr-defined]
        del annotation["iscrowd"]  # as in the real files
    return one_class


def cats() -> list[Json]:
    hits = [(1, [0, 0, 40, 40]), (2, [10, 10, 40, 40])]
    return [{"image_id": i, "category_id": 5, "bbox": box, "score": 0.5} for i, box in hits]


def false_cat(image_id: int) -> Json:
    return {"image_id": image_id, "category_id": 5, "bbox": [60, 60, 30, 30], "score": 0.9}


@pytest.mark.parametrize("seed", range(4))
def test_every_number_equals_the_brute_force_reference(
    write_files: Callable[..., Files], random_scene: Callable[..., tuple[Json, list[Json]]], seed: int
) -> None:
    scene, rows = random_scene(seed)
    cap = 6  # so that the cap, too, takes part
    result = evaluate_lvis(*write_files(scene, rows), iou_types=BOX, max_detections=cap)
    assert_ranked(result, scene, rows, lvis_cap=cap)
    expected = brute_force(scene, rows, lvis_cap=cap)
    for row in result.per_class:
        values = expected[int(row["category_id"])]  # type: ignore[arg-type]
        assert_equal(row["bbox_AP"], None if values is None else values.mean())
        assert_equal(row["bbox_AP50"], None if values is None else values[0])
    metrics = result.metrics["bbox"]
    for area in ("", "s", "m", "l"):
        assert_equal(metrics[f"AP{area}"], mean(brute_force(scene, rows, area=area, lvis_cap=cap).values()))
    for group, members in {"r": [3], "c": [4], "f": [9, 11]}.items():  # 40 has no objects
        assert_equal(metrics[f"AP{group}"], mean(expected[c] for c in members))


def test_perfect_predictions_score_1_and_empty_groups_none(
    write_files: Callable[..., Files], federated: Json
) -> None:
    result = evaluate_lvis(*write_files(federated, cats()), iou_types=BOX)
    metrics = result.metrics["bbox"]
    assert (metrics["AP"], metrics["AP50"], metrics["APm"], metrics["APc"]) == (1.0, 1.0, 1.0, 1.0)
    assert (metrics["APr"], metrics["APf"], metrics["APs"], metrics["APl"]) == (None, None, None, None)
    assert [(row["group"], row["instances"]) for row in result.per_class] == [("c", 2), ("r", 0)]


def test_a_false_cat_counts_where_cats_were_looked_for_only(
    write_files: Callable[..., Files], federated: Json
) -> None:
    def score() -> float | None:
        rows = [*cats(), false_cat(3)]
        return evaluate_lvis(*write_files(federated, rows), iou_types=BOX).metrics["bbox"]["AP"]

    assert score() == 1.0  # image 3 says nothing about cats
    image = federated["images"][2]  # type: ignore[index]
    image["neg_category_ids"] = [5]
    assert score() == pytest.approx(2 / 3, abs=1e-12)  # mistake, hit, hit: precision 2/3 at recall 1
    image["not_exhaustive_category_ids"] = [5]
    assert score() == 1.0


def test_groups_of_the_caller_go_before_those_of_the_file(
    write_files: Callable[..., Files], federated: Json
) -> None:
    files = write_files(federated, cats())
    metrics = evaluate_lvis(*files, iou_types=BOX, groups={5: "f"}).metrics["bbox"]
    assert (metrics["APr"], metrics["APc"], metrics["APf"]) == (None, None, 1.0)
    for category in federated["categories"]:  # type: ignore[attr-defined]
        del category["frequency"]
    files = write_files(federated, cats())
    assert evaluate_lvis(*files, iou_types=BOX, groups={5: "f"}).metrics["bbox"]["APf"] == 1.0
    with pytest.raises(UserError, match=r"categories\[0\]: 'frequency' is missing"):
        evaluate_lvis(*files, iou_types=BOX)


def test_no_detections_give_ap_0_and_a_warning(write_files: Callable[..., Files], federated: Json) -> None:
    result = evaluate_lvis(*write_files(federated, []), iou_types=BOX)
    assert (result.metrics["bbox"]["AP"], result.metrics["bbox"]["APc"]) == (0.0, 0.0)
    assert result.metrics["bbox"]["APr"] is None
    assert len(result.warnings) == 1 and "no detections" in result.warnings[0]


def test_an_object_of_id_0_can_be_found(write_files: Callable[..., Files], federated: Json) -> None:
    federated["annotations"][0]["id"] = 0  # type: ignore[index]
    assert evaluate_lvis(*write_files(federated, cats()), iou_types=BOX).metrics["bbox"]["AP"] == 1.0


def test_objects_and_detections_of_area_0_are_left_out(write_files: Callable[..., Files], federated: Json) -> None:
    flat = {"image_id": 1, "category_id": 5, "bbox": [5, 5, 0, 7]}
    federated["annotations"].append(flat | {"id": 3, "area": 0})  # type: ignore[attr-defined]
    rows = [*cats(), flat | {"score": 0.9}]
    assert evaluate_lvis(*write_files(federated, rows), iou_types=BOX).metrics["bbox"]["AP"] == 1.0


def test_a_plain_coco_file_is_refused_in_one_line(write_files: Callable[..., Files], one_class: Json) -> None:
    message = r"images\[0\]: has no list 'neg_category_ids': not an LVIS file; try evaluator=coco"
    with pytest.raises(UserError, match=message):
        evaluate_lvis(*write_files(one_class, []), iou_types=BOX)


def test_an_unknown_frequency_is_refused(write_files: Callable[..., Files], federated: Json) -> None:
    federated["categories"][1]["frequency"] = "x"  # type: ignore[index]
    with pytest.raises(UserError, match=r"categories\[1\]: 'frequency' must be r, c or f, got 'x'"):
        evaluate_lvis(*write_files(federated, []), iou_types=BOX)


def test_numpy_and_logging_are_as_before_and_nothing_is_printed(
    write_files: Callable[..., Files], federated: Json, capfd: pytest.CaptureFixture[str]
) -> None:
    root, own = logging.getLogger(), logging.getLogger("lvis")
    before = (vars(np).get("float"), root.level, root.handlers[:], own.level)
    evaluate_lvis(*write_files(federated, cats()), iou_types=BOX)
    assert (vars(np).get("float"), root.level, root.handlers[:], own.level) == before
    assert capfd.readouterr() == ("", "")


def test_importing_the_evaluators_brings_neither_torch_nor_opencv_nor_matplotlib() -> None:
    code = (
        "import sys, detloss.evaluation.coco, detloss.evaluation.lvis as own; "
        "print([name for name in ('torch', 'cv2', 'matplotlib', 'lvis') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_real_lvis_ground_truth_scores_1_for_boxes_and_masks(tmp_path: Path) -> None:
    if not LVIS.exists():
        pytest.skip("needs ../shared/data")
    content = json.loads(LVIS.read_text())
    keys = ("image_id", "category_id", "bbox", "segmentation")
    rows = [{"score": 1.0} | {key: row[key] for key in keys} for row in content["annotations"]]
    predictions = tmp_path / "predictions.json"
    predictions.write_text(json.dumps(rows))
    result = evaluate_lvis(LVIS, predictions)
    frequencies = {category["id"]: category["frequency"] for category in content["categories"]}
    present = {row["category_id"] for row in content["annotations"]}
    for kind in ("bbox", "segm"):
        metrics = result.metrics[kind]
        assert {frequencies[category] for category in present} == set("rcf")
        precisions = [value for name, value in metrics.items() if name.startswith("AP")]
        assert precisions == pytest.approx([1.0] * 10, abs=1e-12)
        assert metrics["oLRP"] == pytest.approx(0.0, abs=1e-12)
        scored = {row["category_id"]: row[f"{kind}_AP"] for row in result.per_class}
        assert {category for category, value in scored.items() if value is not None} == present
        assert [scored[category] for category in present] == pytest.approx([1.0] * len(present), abs=1e-12)
