"""COCO AP by pycocotools, with means over frequency groups (no torch here)."""

import io
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detloss.evaluation.ground_truth import GroundTruth, read_ground_truth
from detloss.evaluation.matches import Matches, matches_of_coco
from detloss.evaluation.predictions import Row, predictions_for
from detloss.evaluation.result import Evaluation, require_choices


def evaluate_coco(
    annotations: Path,
    predictions: Path,
    *,
    iou_types: tuple[str, ...] = ("bbox", "segm"),
    groups: Mapping[int, str] | None = None,
    max_detections: int = 100,
) -> Evaluation:
    """Score a predictions file as COCO does (Lin et al., ECCV 2014).

    Args:
        annotations: COCO-format file; without ``area`` an object counts with the area of its box.
        predictions: COCO results file.
        iou_types: "bbox", "segm" or both.
        groups: category id to "r", "c" or "f"; AP of a group is the mean of its categories' AP.
        max_detections: the best of every image and category count, as in pycocotools. A detection's area is
            that of its box when it has one, for masks, too (pycocotools again).

    Raises ``UserError``, one line, for files that are malformed or do not fit one another.
    """
    require_choices(iou_types, max_detections)
    masks = "segm" in iou_types
    ground_truth = read_ground_truth(annotations, masks=masks)
    rows = predictions_for(ground_truth, predictions, masks=masks)
    warnings = () if rows else (f"{predictions} holds no detections: AP is 0",)
    precision, matches = _official(ground_truth, rows, iou_types, max_detections)
    return Evaluation.of(ground_truth, precision, matches, groups, warnings)


def _official(
    ground_truth: GroundTruth, rows: list[Row], iou_types: tuple[str, ...], max_detections: int
) -> tuple[dict[str, np.ndarray], dict[str, list[Matches]]]:
    """Return pycocotools' precision by IoU type, [T, R, C, A], and what every class's detections found."""
    precision, matches = {}, {}
    with redirect_stdout(io.StringIO()):  # pycocotools reports its progress by print
        objects = _indexed(ground_truth.content)
        detections = objects.loadRes(rows) if rows else _indexed({**ground_truth.content, "annotations": []})
        for kind in iou_types:
            evaluator = COCOeval(objects, detections, kind)
            evaluator.params.maxDets = [max_detections]
            evaluator.evaluate()
            evaluator.accumulate()
            precision[kind] = evaluator.eval["precision"][..., 0]
            matches[kind] = matches_of_coco(evaluator)
    return precision, matches


def _indexed(content: dict[str, list[dict[str, object]]]) -> COCO:
    coco = COCO()
    coco.dataset = content
    coco.createIndex()
    return coco
