"""Annotation and predictions files that the tests of both evaluators share."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from detloss.evaluation.result import Evaluation
from tests.reference.average_precision import Detection, Object, average_precisions, number_of, outcomes
from tests.reference.olrp import correlation_of_ranks, lowest_lrp

Json = dict[str, object]


class Files(NamedTuple):
    annotations: Path
    predictions: Path


@pytest.fixture
def write_files(tmp_path: Path) -> Callable[..., Files]:
    """A function that writes an annotation file and a results file."""

    def write(ground_truth: object, predictions: object) -> Files:
        files = Files(tmp_path / "instances.json", tmp_path / "predictions.json")
        files.annotations.write_text(json.dumps(ground_truth))
        files.predictions.write_text(json.dumps(predictions))
        return files

    return write


@pytest.fixture
def one_class() -> Json:
    """Two images of 100 x 100 with one object each, of one class: a COCO file."""
    return {
        "images": [{"id": i, "width": 100, "height": 100, "file_name": f"{i}.png"} for i in (1, 2)],
        "categories": [{"id": 5, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 5, "bbox": [0, 0, 40, 40], "area": 1600, "iscrowd": 0},
            {"id": 2, "image_id": 2, "category_id": 5, "bbox": [10, 10, 40, 40], "area": 1600, "iscrowd": 0},
        ],
    }


@pytest.fixture
def random_scene() -> Callable[..., tuple[Json, list[Json]]]:
    """A function that makes 12 images with objects of 5 classes (ids with gaps) and noisy detections.

    Scores have one decimal, so many are equal; some detections are doubled, some of the wrong class or out of
    nowhere. The file has LVIS's lists and frequencies; class 40 has no objects. ``crowds`` makes a tenth of
    the objects crowds. Boxes are 6 to 160 pixels wide, so that every area range is met.
    """

    def make(seed: int, *, crowds: bool = False) -> tuple[Json, list[Json]]:
        random = np.random.default_rng(seed)
        frequency = {3: "r", 4: "c", 9: "f", 11: "f", 40: "r"}
        images, annotations, rows = [], [], []
        for image_id in (7, *range(21, 32)):
            lists = random.permutation(list(frequency))
            images.append(
                {
                    "id": image_id,
                    "width": 640,
                    "height": 480,
                    "file_name": f"{image_id}.png",
                    "neg_category_ids": lists[:2].tolist(),
                    "not_exhaustive_category_ids": lists[4:].tolist(),
                }
            )
            for _ in range(int(random.integers(0, 9))):
                category_id = int(random.choice([3, 4, 9, 11], p=[0.1, 0.2, 0.3, 0.4]))
                box = [*random.uniform(0, 300, 2), *np.exp(random.uniform(np.log(6), np.log(160), 2))]
                annotations.append(
                    {
                        "id": len(annotations) + 100,
                        "image_id": image_id,
                        "category_id": category_id,
                        "bbox": box,
                        "area": box[2] * box[3] * random.uniform(0.4, 1),  # of the mask, smaller than the box
                        "iscrowd": int(crowds and random.random() < 0.1),
                    }
                )
                for _ in range(int(random.integers(0, 4))):
                    noise = random.normal(0, 0.06, 4) * [box[2], box[3], box[2], box[3]]
                    wrong = random.random() < 0.2
                    rows.append(
                        {
                            "image_id": image_id,
                            "category_id": int(random.choice(list(frequency))) if wrong else category_id,
                            "bbox": np.maximum(np.add(box, noise), 0).tolist(),
                            "score": round(random.uniform(0, 1), 1),
                        }
                    )
                    if random.random() < 0.2:
                        rows.append(dict(rows[-1]))
        rows = [rows[position] for position in random.permutation(len(rows))]
        categories = [
            {"id": c, "name": f"class {c}", "frequency": f} for c, f in reversed(list(frequency.items()))
        ]
        return {"images": images, "annotations": annotations, "categories": categories}, rows

    return make


def mean(values: Iterable[np.ndarray | float | None]) -> float | None:
    """Return the mean over the classes that have a value, or None."""
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def assert_equal(value: object, expected: float | None) -> None:
    """Assert equality to 1e-9, or that both are None."""
    assert value == (None if expected is None else pytest.approx(expected, rel=0, abs=1e-9))


class Class(NamedTuple):
    """What the reference needs to know of one class; an image that is not exhaustive is LVIS's."""

    objects: list[Object]
    found: list[Detection]
    not_exhaustive: frozenset[int]


def brute_force(
    ground_truth: Json, rows: list[Json], *, area: str = "", lvis_cap: int | None = None
) -> dict[int, np.ndarray | None]:
    """Return AP at the ten thresholds of every category from tests/reference, by COCO's or LVIS's rules."""
    return {
        category: average_precisions(each.objects, each.found, area=area, not_exhaustive=each.not_exhaustive)
        for category, each in classes_of(ground_truth, rows, lvis_cap).items()
    }


def assert_ranked(result: Evaluation, ground_truth: Json, rows: list[Json], lvis_cap: int | None = None) -> None:
    """Assert that oLRP and the correlation of rankings of every class, and their means, are the reference's."""
    names = ("oLRP", "oLRP_Loc", "oLRP_FP", "oLRP_FN", "oLRP_threshold", "rank_correlation")
    expected: dict[object, list[float | None]] = {}
    for category, each in classes_of(ground_truth, rows, lvis_cap).items():
        objects = number_of(each.objects)
        pairs = outcomes(each.objects, each.found, 0.5, not_exhaustive=each.not_exhaustive)
        correlation = correlation_of_ranks([pair for pair in pairs if pair[1]])
        lowest = lowest_lrp(pairs, objects) if objects else (None,) * 5
        expected[category] = [*lowest, correlation]
    for row in result.per_class:
        for name, value in zip(names, expected[row["category_id"]], strict=True):
            assert_equal(row[f"bbox_{name}"], value)
    for index, name in enumerate(names):
        if name != "oLRP_threshold":
            assert_equal(result.metrics["bbox"][name], mean(values[index] for values in expected.values()))


def classes_of(ground_truth: Json, rows: list[Json], lvis_cap: int | None) -> dict[int, Class]:
    """Return the objects and detections that count by category, by COCO's or, with a cap, LVIS's rules."""
    annotations: list[dict] = ground_truth["annotations"]  # type: ignore[assignment]
    images: list[dict] = ground_truth["images"]  # type: ignore[assignment]
    detections: list[dict] = rows  # type: ignore[assignment]
    lvis = lvis_cap is not None
    if lvis:
        capped = []
        for image in images:
            own = [row for row in detections if row["image_id"] == image["id"]]
            capped += sorted(own, key=lambda row: -row["score"])[:lvis_cap]
        detections = capped
    classes = {}
    for category in ground_truth["categories"]:  # type: ignore[attr-defined]
        own_objects = [row for row in annotations if row["category_id"] == category["id"]]
        present = {row["image_id"] for row in own_objects}
        looked_for = present | {i["id"] for i in images if category["id"] in i["neg_category_ids"]}
        lenient = {i["id"] for i in images if category["id"] in i["not_exhaustive_category_ids"]}
        classes[category["id"]] = Class(
            [
                Object(row["image_id"], tuple(row["bbox"]), row["area"], bool(row["iscrowd"]))
                for row in own_objects
            ],
            [
                Detection(row["image_id"], tuple(row["bbox"]), row["score"])
                for row in detections
                if row["category_id"] == category["id"] and (not lvis or row["image_id"] in looked_for)
            ],
            frozenset(lenient if lvis else ()),
        )
    return classes
