"""VOC's AP: the development kit's loops, worked examples, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from detloss.data.voc import read_voc
from detloss.errors import UserError
from detloss.evaluation.predictions import convert_predictions, encode_masks
from detloss.evaluation.voc import evaluate_voc
from tests.evaluation.conftest import Files, Json, mean
from tests.reference.voc import Corners, Truth, average_precision

YEARS = {"11": 2007, "all": 2012}


def voc_scene(seed: int) -> tuple[Json, list[Json]]:
    """Objects, a fifth of them difficult, and detections near them or anywhere; many IoUs are equal, no scores.

    Coordinates are multiples of 4, so that sums are exact whichever way pixels are counted. Class 7 has difficult
    objects only, class 8 none.
    """
    random = np.random.default_rng(seed)
    images = [{"id": i, "width": 400, "height": 400, "file_name": f"{i}.jpg"} for i in range(12)]
    objects, rows = [], []
    for image in range(11):  # the last one is empty
        for _ in range(int(random.integers(0, 8))):
            category = int(random.choice([3, 5, 7]))
            box = [*(4 * random.integers(0, 60, 2)), *(4 * random.integers(1, 20, 2))]
            for _ in range(1 + (random.random() < 0.2)):  # some twice, so that IoUs are equal
                crowd = int(category == 7 or random.random() < 0.2)
                objects.append({"image_id": image, "category_id": category, "bbox": box, "iscrowd": crowd})
    for number in range(300):
        near = objects[int(random.integers(len(objects)))]
        box = np.maximum(np.add(near["bbox"], 4 * random.integers(-2, 3, 4)), [0, 0, 4, 4])
        category = int(random.choice([3, 5, 7, 8])) if random.random() < 0.2 else near["category_id"]
        image = int(random.integers(12)) if random.random() < 0.2 else near["image_id"]
        rows.append({"image_id": image, "category_id": category, "bbox": box.tolist(), "score": number / 300})
    objects = [row | {"id": i, "bbox": [float(v) for v in row["bbox"]]} for i, row in enumerate(objects, start=1)]
    rows = [rows[position] for position in random.permutation(len(rows))]
    categories = [{"id": c, "name": f"class {c}"} for c in (5, 8, 3, 7)]
    return {"images": images, "annotations": objects, "categories": categories}, rows


def corners(box: list[float]) -> Corners:
    """Return the pixels on the edges, counted from 1."""
    return box[0] + 1, box[1] + 1, box[0] + box[2], box[1] + box[3]


def reference(scene: Json, rows: list[Json], category: int, year: int) -> float | None:
    truths: dict[int, Truth] = {}
    for row in scene["annotations"]:  # type: ignore[attr-defined]
        if row["category_id"] == category:
            truth = truths.setdefault(row["image_id"], Truth())
            truth.boxes.append(corners(row["bbox"]))
            truth.difficult.append(bool(row["iscrowd"]))
            truth.detected.append(False)
    found = [
        (row["image_id"], row["score"], corners(row["bbox"])) for row in rows if row["category_id"] == category
    ]
    return average_precision(truths, found, year=year)  # type: ignore[arg-type]


@pytest.mark.parametrize("interpolation", YEARS)
@pytest.mark.parametrize("seed", range(8))
def test_ap_is_that_of_the_development_kit(
    write_files: Callable[..., Files], seed: int, interpolation: str
) -> None:
    scene, rows = voc_scene(seed)
    groups = {3: "r", 5: "f", 7: "f"}
    result = evaluate_voc(*write_files(scene, rows), groups=groups, interpolation=interpolation)
    expected = {category: reference(scene, rows, category, YEARS[interpolation]) for category in (3, 5, 7, 8)}
    assert expected[7] is None and expected[8] is None
    for row in result.per_class:
        value = expected[row["category_id"]]  # type: ignore[index]
        for name in ("bbox_AP", "bbox_AP50"):
            assert row[name] == (None if value is None else pytest.approx(value, rel=0, abs=1e-12))
    metrics = result.metrics["bbox"]
    for name, classes in (("AP", (3, 5)), ("AP50", (3, 5)), ("APr", (3,)), ("APf", (5,))):
        assert metrics[name] == pytest.approx(mean(expected[c] for c in classes), rel=0, abs=1e-12)
    assert metrics["APc"] is None


def one_image(objects: list[list[float]], difficult: tuple[int, ...] = ()) -> Json:
    annotations = [
        {"id": i + 1, "image_id": 1, "category_id": 1, "bbox": box, "iscrowd": int(i in difficult)}
        for i, box in enumerate(objects)
    ]
    images = [{"id": 1, "width": 100, "height": 100, "file_name": "1.jpg"}]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]}


def found(*boxes: list[float]) -> list[Json]:
    """Detections of falling scores."""
    return [{"image_id": 1, "category_id": 1, "bbox": box, "score": 0.9 - i / 50} for i, box in enumerate(boxes)]


A, B, FAR = [0.0, 0, 10, 10], [50.0, 50, 10, 10], [80.0, 0, 10, 10]


@pytest.mark.parametrize(
    ("rows", "area", "eleven"),
    [
        # Precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1: the area is (1 + 2/3) / 2; at 0, .., .5 the best is 1.
        (found(A, FAR, B), 5 / 6, (6 + 5 * 2 / 3) / 11),
        (found(A), 1 / 2, 6 / 11),
        (found(FAR, A), 1 / 4, 6 / 22),
        (found(A, A, B), 5 / 6, (6 + 5 * 2 / 3) / 11),  # the same object again is a mistake
        ([], 0, 0),
    ],
)
def test_worked_examples_of_both_interpolations(
    write_files: Callable[..., Files], rows: list[Json], area: float, eleven: float
) -> None:
    files = write_files(one_image([A, B]), rows)
    assert evaluate_voc(*files).metrics["bbox"]["AP"] == pytest.approx(area)
    assert evaluate_voc(*files, interpolation="11").metrics["bbox"]["AP"] == pytest.approx(eleven)


def test_a_detection_looks_at_its_largest_overlap_only_even_when_that_object_is_found(
    write_files: Callable[..., Files],
) -> None:
    # Both overlap A most; COCO would give the second one the other object, whose IoU with it is 0.6 to 0.7.
    scene = one_image([[0, 0, 10, 10], [2, 0, 10, 10]])
    files = write_files(scene, found([0, 0, 10, 10], [0.5, 0, 10, 10]))
    assert evaluate_voc(*files).metrics["bbox"]["AP"] == 0.5


def test_a_difficult_object_is_neither_found_nor_missed_and_compared_by_iou(
    write_files: Callable[..., Files],
) -> None:
    scene = one_image([A, [40, 40, 40, 40]], difficult=(1,))
    exact = evaluate_voc(*write_files(scene, found([40, 40, 40, 40], A)))
    assert exact.metrics["bbox"] == {"AP": 1, "AP50": 1, "APr": None, "APc": None, "APf": None, "AR": 1}
    inside = evaluate_voc(*write_files(scene, found([50, 50, 4, 4], A)))  # a crowd of COCO's would forgive it
    assert inside.metrics["bbox"]["AP"] == 0.5


def test_a_recall_of_exactly_three_tenths_does_not_reach_the_fourth_of_eleven_points(
    write_files: Callable[..., Files],
) -> None:
    """By a hair's breadth, as in all known tools: 3 * 0.1 > 3 / 10; 4 * 0.1 == 4 / 10."""
    objects = [[10.0 * i, 0, 8, 8] for i in range(10)]
    for hits, points in ((2, 3), (3, 3), (4, 5), (10, 11)):
        files = write_files(one_image(objects), found(*objects[:hits]))
        assert evaluate_voc(*files, interpolation="11").metrics["bbox"]["AP"] == pytest.approx(points / 11)


def test_an_overlap_of_exactly_a_half_is_enough(write_files: Callable[..., Files]) -> None:
    assert evaluate_voc(*write_files(one_image([A]), found([0, 0, 10, 5]))).metrics["bbox"]["AP"] == 1
    assert evaluate_voc(*write_files(one_image([A]), found([0, 0, 10, 4.99]))).metrics["bbox"]["AP"] == 0


def test_equal_scores_count_in_the_order_of_the_file(write_files: Callable[..., Files]) -> None:
    rows = [row | {"score": 0.5} for row in found(A, FAR)]
    assert evaluate_voc(*write_files(one_image([A]), rows)).metrics["bbox"]["AP"] == 1
    assert evaluate_voc(*write_files(one_image([A]), rows[::-1])).metrics["bbox"]["AP"] == 0.5


def test_the_boxes_of_vocs_own_files_overlap_as_the_kit_counts_pixels(tmp_path: Path) -> None:
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "a.xml").write_text(
        "<annotation><filename>a.jpg</filename><size><width>50</width><height>50</height></size>"
        "<object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>10</xmax><ymax>10</ymax></bndbox>"
        "</object></annotation>"
    )
    read_voc(tmp_path).write(tmp_path / "val.json")
    # Ten pixels by ten; by the kit's count a detection of pixels 1..5 covers exactly a half of it.
    row = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 10], "score": 1}
    (tmp_path / "found.json").write_text(json.dumps([row]))
    assert evaluate_voc(tmp_path / "val.json", tmp_path / "found.json").metrics["bbox"]["AP"] == 1


def test_masks_and_columns_are_scored_too(write_files: Callable[..., Files], tmp_path: Path) -> None:
    scene = one_image([A])
    scene["annotations"][0]["segmentation"] = [[0, 0, 10, 0, 10, 10, 0, 10]]  # type: ignore[index]
    left = np.zeros((1, 100, 100), np.uint8)
    left[0, :10, :4] = 1
    mask = encode_masks(left)[0]
    files = write_files(scene, [found(A)[0] | {"segmentation": mask}])
    convert_predictions(files.predictions, tmp_path / "found.npz")
    for predictions in (files.predictions, tmp_path / "found.npz"):
        result = evaluate_voc(files.annotations, predictions, iou_types=("bbox", "segm"))
        assert (result.metrics["bbox"]["AP"], result.metrics["segm"]["AP"]) == (1, 0)
        assert "masks" in result.table().columns[0]._cells


def test_no_detections_are_ap_0_and_a_warning(write_files: Callable[..., Files], tmp_path: Path) -> None:
    result = evaluate_voc(*write_files(one_image([A]), []), groups={1: "r"})
    assert result.metrics["bbox"] == {"AP": 0, "AP50": 0, "APr": 0, "APc": None, "APf": None, "AR": 0}
    assert "holds no detections" in result.warnings[0]
    result.write(tmp_path / "out")
    assert (tmp_path / "out" / "per_class.csv").read_text() == (
        "category_id,name,group,instances,bbox_AP,bbox_AP50,bbox_AR\n1,cat,r,1,0.0,0.0,0.0\n"
    )


def test_another_interpolation_is_refused(write_files: Callable[..., Files]) -> None:
    with pytest.raises(UserError, match="interpolation=10: expected all or 11"):
        evaluate_voc(*write_files(one_image([A]), []), interpolation="10")
