"""Small crowded scenes in which every type of error occurs, as files and in the references' plain form."""

from typing import NamedTuple

import numpy as np

from tests.evaluation.conftest import Json
from tests.reference.error_types import Detection, Object

CATEGORIES = (3, 4, 9, 40)
"""Class 40 has no objects."""


class Scene(NamedTuple):
    """A file and its rows; ``objects`` and ``detections`` are those that LVIS or COCO looks at."""

    ground_truth: Json
    rows: list[Json]
    objects: list[Object]
    detections: list[Detection]
    lenient: set[tuple[int, int]]


def crowded_scene(seed: int, *, lvis: bool) -> Scene:
    """Return 6 images with objects of 3 classes side by side; LVIS's have lists of classes, COCO's crowds.

    Boxes lie on a coarse grid, so that IoUs of exactly 0.5 occur, and scores have two decimals, so that some are
    equal.
    """
    random = np.random.default_rng(seed)
    images, annotations, rows = [], [], []
    for image_id in (9, 2, 5, 14, 7, 30):
        lists = random.permutation(CATEGORIES).tolist()
        image = {"id": image_id, "width": 100, "height": 100, "file_name": f"{image_id}.png"}
        images.append(image | {"neg_category_ids": lists[:2], "not_exhaustive_category_ids": lists[3:]})
        for _ in range(int(random.integers(0, 7))):
            box = [*(10.0 * random.integers(0, 7, 2)), *(10.0 * random.integers(1, 4, 2))]
            category = int(random.choice(CATEGORIES[:3]))
            annotation = {"id": len(annotations) + 1, "image_id": image_id, "category_id": category, "bbox": box}
            crowd = int(not lvis and random.random() < 0.15)
            annotations.append(annotation | {"area": box[2] * box[3], "iscrowd": crowd})
            for _ in range(int(random.integers(0, 6))):
                shift = 5.0 * random.integers(-2, 3, 4) * (random.random() < 0.7)
                place = np.maximum(np.add(box, shift), [0, 0, 5, 5])
                wrong = int(random.choice(CATEGORIES)) if random.random() < 0.4 else category
                rows.append(_row(image_id, wrong, place, random))
        for _ in range(3):
            place = [*(10.0 * random.integers(0, 8, 2)), 10.0, 20.0]
            rows.append(_row(image_id, int(random.choice(CATEGORIES)), place, random))
    categories = [{"id": c, "name": f"class {c}", "frequency": "rcf"[c % 3]} for c in CATEGORIES]
    ground_truth: Json = {"images": images, "annotations": annotations, "categories": categories}
    return Scene(ground_truth, rows, *_plain(images, annotations, rows, lvis))


def _row(image_id: int, category: int, box: object, random: np.random.Generator) -> Json:
    bbox = [float(side) for side in box]  # type: ignore[attr-defined]
    return {"image_id": image_id, "category_id": category, "bbox": bbox, "score": round(random.uniform(0, 1), 2)}


def _plain(
    images: list[dict], annotations: list[dict], rows: list[dict], lvis: bool
) -> tuple[list[Object], list[Detection], set[tuple[int, int]]]:
    objects = [
        Object(row["image_id"], row["category_id"], tuple(row["bbox"]), bool(row["iscrowd"]))
        for row in annotations
    ]
    present = {(each.image, each.category) for each in objects}
    looked_for = present | {(image["id"], c) for image in images for c in image["neg_category_ids"]}
    lenient = {(image["id"], c) for image in images for c in image["not_exhaustive_category_ids"]}
    detections = [
        Detection(row["image_id"], row["category_id"], tuple(row["bbox"]), row["score"])
        for row in rows
        if not lvis or (row["image_id"], row["category_id"]) in looked_for
    ]
    return objects, detections, lenient if lvis else set()
