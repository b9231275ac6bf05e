"""The other engine: pycocotools and the lvis package themselves (no torch here)."""

from __future__ import annotations

import importlib.metadata
import io
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

import numpy as np

from detloss.errors import UserError
from detloss.evaluation.detections import Detections
from detloss.evaluation.ground_truth import GroundTruth, Row
from detloss.evaluation.matches import Matches
from detloss.evaluation.measured import Measured, recall_limits

Content = dict[str, list[Row]]


def version(package: str) -> str:
    """Return name and version of an installed package."""
    return f"{package} {importlib.metadata.version(package)}"


def measure_coco(
    ground_truth: GroundTruth, detections: Detections, iou_types: tuple[str, ...], max_detections: int
) -> dict[str, Measured]:
    """Measure with pycocotools, by IoU type."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def indexed(content: Content) -> COCO:
        coco = COCO()
        coco.dataset = content
        coco.createIndex()
        return coco

    content, rows = _content(ground_truth), _rows(ground_truth, detections)
    limits = recall_limits(max_detections)
    measured = {}
    with redirect_stdout(io.StringIO()):  # pycocotools reports its progress by print
        objects = indexed(content)
        found = objects.loadRes(rows) if rows else indexed({**content, "annotations": []})
        for kind in iou_types:
            evaluator = COCOeval(objects, found, kind)
            evaluator.params.maxDets = list(limits.values())
            evaluator.evaluate()
            evaluator.accumulate()
            recall = {name: evaluator.eval["recall"][..., index] for index, name in enumerate(limits)}
            matches = _matches_of_coco(evaluator)
            measured[kind] = Measured(evaluator.eval["precision"][..., -1], matches, recall)
    return measured


def measure_lvis(
    ground_truth: GroundTruth, detections: Detections, iou_types: tuple[str, ...], max_detections: int | None
) -> dict[str, Measured]:
    """Measure with the lvis package, by IoU type; None lets all detections count."""
    limit, name = (-1, "AR") if max_detections is None else (max_detections, f"AR@{max_detections}")
    with _lvis_at_work():
        try:
            from lvis import LVIS, LVISEval, LVISResults  # here, as it brings opencv and matplotlib along
        except ImportError as error:
            raise UserError(f"cannot import the lvis package ({error}); see `detloss doctor`") from error

        def indexed(kind: type[LVIS], content: Content) -> LVIS:
            # Its constructors only read files, and fail on an empty list of results.
            built = object.__new__(kind)
            built.logger = logging.getLogger("lvis")
            built.dataset = content
            built._create_index()
            return built

        content, rows = _content(ground_truth), _rows(ground_truth, detections)
        empty = {**content, "annotations": []}
        objects = indexed(LVIS, content)
        # From a shell without annotations, as LVISResults starts with a deep copy of all it gets.
        shell = indexed(LVIS, empty)
        found = LVISResults(shell, rows, max_dets=limit) if rows else indexed(LVISResults, empty)
        measured = {}
        for kind in iou_types:
            evaluator = LVISEval(objects, found, kind)
            evaluator.evaluate()
            evaluator.accumulate()
            recall = {name: evaluator.eval["recall"]}
            measured[kind] = Measured(evaluator.eval["precision"], _matches_of_lvis(evaluator), recall)
    return measured


def _content(ground_truth: GroundTruth) -> Content:
    """Return a file as the tools want it; ids from 1 on, since they take an object of id 0 for "no match"."""
    objects, category_ids = ground_truth.objects, ground_truth.category_ids
    annotations: list[Row] = []
    columns = (objects.image, objects.category, objects.boxes, objects.areas, objects.crowd, objects.ignored)
    for number, (image, category, box, area, crowd, ignored) in enumerate(zip(*columns, strict=True)):
        row: Row = {
            "id": number + 1,
            "image_id": int(ground_truth.image_ids[image]),
            "category_id": category_ids[category],
            "bbox": box.tolist(),
            "area": float(area),
            "iscrowd": int(crowd),
            "ignore": int(ignored),
        }
        if objects.masks is not None:
            row["segmentation"] = objects.masks.rle(number)
        annotations.append(row)
    categories = [{"frequency": "f", **row} for row in ground_truth.categories.rows]  # lvis demands one
    return {"images": ground_truth.images.rows, "categories": categories, "annotations": annotations}


def _rows(ground_truth: GroundTruth, detections: Detections) -> list[Row]:
    """Return a results file as the tools want it."""
    rows: list[Row] = []
    columns = (detections.image, detections.category, detections.scores, detections.boxes)
    for number, (image, category, score, box) in enumerate(zip(*columns, strict=True)):
        row: Row = {
            "image_id": int(ground_truth.image_ids[image]),
            "category_id": ground_truth.category_ids[category],
            "score": float(score),
        }
        if detections.has_boxes:
            row["bbox"] = box.tolist()
        if detections.masks is not None:
            row["segmentation"] = detections.masks.rle(number)
        rows.append(row)
    return rows


def _matches_of_coco(evaluator: Any) -> list[Matches]:
    """Return one item per class in the order of the ids, after ``COCOeval.evaluate``, of objects of all sizes."""
    settings, names = evaluator.params, ("dtScores", "dtMatches", "dtIgnore", "gtIgnore")
    blocks = len(settings.catIds), len(settings.areaRng), len(settings.imgIds)
    return _by_class(evaluator, evaluator.evalImgs, blocks, names)


def _matches_of_lvis(evaluator: Any) -> list[Matches]:
    """Return one item per class in the order of the ids, after ``LVISEval.evaluate``, of objects of all sizes."""
    settings, names = evaluator.params, ("dt_scores", "dt_matches", "dt_ignore", "gt_ignore")
    blocks = len(settings.cat_ids), len(settings.area_rng), len(settings.img_ids)
    return _by_class(evaluator, evaluator.eval_imgs, blocks, names)


def _by_class(
    evaluator: Any, found: Sequence[Mapping[str, Any] | None], blocks: tuple[int, int, int], names: Sequence[str]
) -> list[Matches]:
    """Take what was ``found`` apart, which goes by class, size and image; the first size is all."""
    classes, areas, images = blocks
    starts = range(0, classes * areas * images, areas * images)
    return [_of_class(found[start : start + images], names, evaluator) for start in starts]


def _of_class(images: Iterable[Mapping[str, Any] | None], names: Sequence[str], evaluator: Any) -> Matches:
    """Join what an official tool found image by image; ``names`` are what it calls its arrays."""
    scores, ious, objects = [np.zeros(0)], [np.zeros(0)], 0
    for image in images:
        if image is None:
            continue
        image_scores, matches, ignored, ignored_objects = (np.asarray(image[name]) for name in names)
        key = image["image_id"], image["category_id"]
        counts = ~ignored[0].astype(bool)
        scores.append(image_scores[counts])
        ious.append(_ious(matches[0], evaluator.ious[key], evaluator._gts[key])[counts])
        objects += int(np.sum(ignored_objects == 0))
    every_score, every_iou = np.concatenate(scores), np.concatenate(ious)
    order = np.argsort(-every_score, kind="mergesort")  # the order of the official tools where scores are equal
    return Matches(every_score[order], every_iou[order], objects)


def _ious(matches: np.ndarray, ious: np.ndarray, objects: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Return the IoU of every detection with the object of the id ``matches`` [D], 0 where that is 0."""
    found = np.zeros(len(matches))
    column = {row["id"]: index for index, row in enumerate(objects)}
    for detection in np.nonzero(matches)[0]:
        found[detection] = ious[detection, column[int(matches[detection])]]
    return found


@contextmanager
def _lvis_at_work() -> Iterator[None]:
    """Give numpy its old name ``float`` back, which lvis 0.5.3 asks for, and keep logging as it is.

    lvis configures the root logger on import and warns of every list of results; both are undone on leaving.
    """
    root, own = logging.getLogger(), logging.getLogger("lvis")
    level, handlers, own_level = root.level, root.handlers[:], own.level
    patched = "float" not in vars(np)
    if patched:
        vars(np)["float"] = float
    own.setLevel(logging.ERROR)
    try:
        yield
    finally:
        if patched:
            del vars(np)["float"]
        own.setLevel(own_level)
        root.setLevel(level)
        root.handlers[:] = handlers
