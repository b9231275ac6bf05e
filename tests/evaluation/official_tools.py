"""pycocotools and lvis run on plain dicts, with no code of detloss, and scenes that are hard on a matcher."""

import copy
import io
import json
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests.evaluation.conftest import Json

SIZE = 240
SIDES = [0, 8, 16, 32, 40, 96, 104, 160]


def hard_scene(seed: int, *, crowds: bool, boxes: bool = True) -> tuple[Json, list[Json]]:
    """Return a file and detections with many equal scores and IoUs, doubled objects, sides and areas of 0.

    All coordinates are multiples of 4, so that IoUs are equal exactly; ids have gaps and are in no order. Class 40
    has no objects, the last image none either. Without ``boxes`` the detections have masks only.
    """
    random = np.random.default_rng(seed)
    category_ids, image_ids = [9, 3, 40, 4], [31, 7, 22, 8, 15]
    images, annotations, rows = [], [], []
    for image_id in image_ids:
        lists = random.permutation(category_ids).tolist()
        image = {"id": image_id, "width": SIZE, "height": SIZE, "file_name": f"{image_id}.png"}
        images.append(image | {"neg_category_ids": lists[:2], "not_exhaustive_category_ids": lists[3:]})
        for _ in range(int(random.integers(4, 16)) if image_id != image_ids[-1] else 0):
            box = [*(4 * random.integers(0, 20, 2)), *random.choice(SIDES, 2)]
            category_id = int(random.choice([9, 3, 4]))
            annotation = {"image_id": image_id, "category_id": category_id, "bbox": [float(v) for v in box]}
            area = random.choice([0, 32**2, 96**2, box[2] * box[3]], p=[0.05, 0.1, 0.1, 0.75])
            annotation |= {"area": float(area), "iscrowd": int(crowds and random.random() < 0.2)}
            annotation["segmentation"] = _outline(box, random)
            annotations += [copy.deepcopy(annotation) for _ in range(1 + (random.random() < 0.2))]
            for _ in range(int(random.integers(0, 5))):
                rows.append(_detection(annotation, random, category_ids))
        rows += [_detection(random.choice(annotations) | {"image_id": image_id}, random, category_ids)]
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    rows = [rows[position] for position in random.permutation(len(rows))]
    if not boxes:
        rows = [{key: value for key, value in row.items() if key != "bbox"} for row in rows]
    categories = [{"id": c, "name": f"class {c}", "frequency": "rcf"[c % 3]} for c in category_ids]
    return {"images": images, "annotations": annotations, "categories": categories}, rows


def coco_arrays(scene: Json, rows: list[Json], kind: str, limits: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return pycocotools' precision [T, R, C, A, M] and recall [T, C, A, M]."""
    with redirect_stdout(io.StringIO()):
        objects = COCO()
        objects.dataset = copy.deepcopy(scene)
        objects.createIndex()
        evaluator = COCOeval(objects, objects.loadRes(copy.deepcopy(rows)), kind)
        evaluator.params.maxDets = limits
        evaluator.evaluate()
        evaluator.accumulate()
    return evaluator.eval["precision"], evaluator.eval["recall"]


def lvis_arrays(
    scene: Json, rows: list[Json], kind: str, cap: int, folder: Path
) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
    """Return lvis' precision [T, R, C, A], recall [T, C, A] and the numbers that it prints."""
    from lvis import LVIS, LVISEval, LVISResults

    vars(np)["float"] = float  # which lvis 0.5.3 asks for
    try:
        path = folder / "lvis.json"
        path.write_text(json.dumps(scene))
        objects = LVIS(str(path))
        evaluator = LVISEval(objects, LVISResults(objects, copy.deepcopy(rows), max_dets=cap), kind)
        evaluator.params.max_dets = cap
        evaluator.run()
    finally:
        del vars(np)["float"]
    return evaluator.eval["precision"], evaluator.eval["recall"], evaluator.get_results()


def same_numbers(ours: Mapping[str, object], theirs: Mapping[str, object]) -> None:
    """Names in the same order, None where the other has None, texts alike, numbers to 1e-12."""
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        other = theirs[name]
        assert value == (pytest.approx(other, rel=0, abs=1e-12) if isinstance(other, float) else other), name


def _outline(box: list[int], random: np.random.Generator) -> object:
    """Return a triangle, a rectangle of two polygons, or run lengths, plain or compressed."""
    x, y, width, height = (float(v) for v in box)
    right, bottom = x + width, y + height
    kind = int(random.integers(4))
    if kind == 0:
        return [[x, y, right, y, x, bottom]]
    if kind == 1:
        middle = x + width / 2
        left = [x, y, middle, y, middle, bottom, x, bottom]
        return [left, [middle, y, right, y, right, bottom, middle, bottom]]
    mask = np.zeros((SIZE, SIZE), np.uint8, order="F")
    mask[int(y) : int(bottom), int(x) : int(right)] = 1
    encoded = coco_mask.encode(mask)
    if kind == 2:
        return {"size": [SIZE, SIZE], "counts": encoded["counts"].decode()}
    runs = np.flatnonzero(np.diff(mask.ravel(order="F"), prepend=0, append=2))
    return {"size": [SIZE, SIZE], "counts": np.diff(runs, prepend=0).tolist()}


def _detection(annotation: Json, random: np.random.Generator, category_ids: list[int]) -> Json:
    shift = 4 * random.integers(-2, 3, 4) * (random.random(4) < 0.4)
    box = np.maximum(np.array(annotation["bbox"]) + shift, 0)
    wrong = random.random() < 0.2
    mask = np.zeros((SIZE, SIZE), np.uint8, order="F")
    mask[int(box[1]) : int(box[1] + box[3]), int(box[0]) : int(box[0] + box[2])] = 1
    return {
        "image_id": annotation["image_id"],
        "category_id": int(random.choice(category_ids)) if wrong else annotation["category_id"],
        "bbox": box.tolist(),
        "score": round(random.uniform(0, 1), 1),
        "segmentation": {"size": [SIZE, SIZE], "counts": coco_mask.encode(mask)["counts"].decode()},
    }
