"""COCO AP and AR, with means over frequency groups (no torch here)."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from detloss.evaluation import official
from detloss.evaluation.average_precision import precision, recall
from detloss.evaluation.detections import Detections, read_detections
from detloss.evaluation.ground_truth import GroundTruth, Objects, read_ground_truth
from detloss.evaluation.match_table import match_table
from detloss.evaluation.matches import matches_of
from detloss.evaluation.measured import Measured, recall_limits
from detloss.evaluation.outcomes import Outcomes
from detloss.evaluation.result import Evaluation, require_choices


def evaluate_coco(
    annotations: Path,
    predictions: Path,
    *,
    iou_types: tuple[str, ...] = ("bbox", "segm"),
    groups: Mapping[int, str] | None = None,
    max_detections: int = 100,
    engine: str = "detloss",
) -> Evaluation:
    """Score a predictions file as COCO does (Lin et al., ECCV 2014).

    Args:
        annotations: COCO-format file; without ``area`` an object counts with the area of its box.
        predictions: COCO results file.
        iou_types: of "bbox", "segm", and "boundary", the lesser of mask and boundary IoU.
        groups: category id to "r", "c" or "f"; AP of a group is the mean of its categories' AP.
        max_detections: the best of every image and category count, as in pycocotools. A detection's area is
            that of its box when it has one, for masks, too (pycocotools again).
        engine: "detloss" or "official", pycocotools itself.

    Raises ``UserError``, one line, for files that are malformed or do not fit one another.
    """
    require_choices(iou_types, max_detections, engine)
    masks = any(kind != "bbox" for kind in iou_types)
    ground_truth = read_ground_truth(annotations, masks=masks)
    detections = read_detections(ground_truth, predictions, masks=masks)
    warnings = () if len(detections) else (f"{predictions} holds no detections: AP is 0",)
    measure = official.measure_coco if engine == "official" else measure_coco
    measured = measure(ground_truth, detections, iou_types, max_detections)
    spoke = official.version("pycocotools") if engine == "official" else engine
    return Evaluation.of(ground_truth, measured, groups, warnings, engine=spoke)


def measure_coco(
    ground_truth: GroundTruth, detections: Detections, iou_types: tuple[str, ...], max_detections: int
) -> dict[str, Measured]:
    """Measure by IoU type; the best ``max_detections`` of every image and category count."""
    categories = len(ground_truth.category_ids)
    objects, counting, lenient = limited(ground_truth, detections, max_detections)
    rank = counting.rank_within(counting.pairs(categories))
    measured = {}
    for kind in iou_types:
        table = match_table(counting, objects, kind, categories=categories, lenient=lenient)
        recalls = {name: recall(table, rank < limit) for name, limit in recall_limits(max_detections).items()}
        outcomes = Outcomes.of(table, objects)
        measured[kind] = Measured(precision(table), matches_of(table), recalls, outcomes=outcomes)
    return measured


def limited(
    ground_truth: GroundTruth, detections: Detections, max_detections: int
) -> tuple[Objects, Detections, np.ndarray]:
    """Return the objects and the ranked detections that count by COCO's rules, and which of these are no mistakes.

    The best ``max_detections`` of every image and category count; every one may be a mistake, [D] bool.
    """
    objects = replace(ground_truth.objects, ignored=ground_truth.objects.crowd)
    within = detections.rank_within(detections.pairs(len(ground_truth.category_ids))) < max_detections
    counting = detections.take(within).ranked()
    return objects, counting, np.zeros(len(counting), dtype=bool)
