"""LVIS AP and AR: federated ground truth, AP_r, AP_c, AP_f (no torch here)."""

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
from detloss.evaluation.measured import Measured
from detloss.evaluation.outcomes import Outcomes
from detloss.evaluation.result import Evaluation, require_choices


def evaluate_lvis(
    annotations: Path,
    predictions: Path,
    *,
    iou_types: tuple[str, ...] = ("bbox", "segm"),
    groups: Mapping[int, str] | None = None,
    max_detections: int = 300,
    engine: str = "detloss",
) -> Evaluation:
    """Score a predictions file as LVIS does (Gupta et al., CVPR 2019).

    Args:
        annotations: LVIS-format file, with the negative and not exhaustively annotated classes of each image.
        predictions: COCO results file.
        iou_types: of "bbox", "segm", and "boundary", the lesser of mask and boundary IoU.
        groups: category id to "r", "c" or "f", instead of the file's own ``frequency``.
        max_detections: the best of every image count, over all categories.
        engine: "detloss" or "official", the lvis package itself.

    Boxes of area 0 and detections of classes that nobody looked for in an image are left out (lvis again).
    Raises ``UserError``, one line, for files that are malformed or do not fit one another.
    """
    require_choices(iou_types, max_detections, engine)
    masks = any(kind != "bbox" for kind in iou_types)
    ground_truth = read_ground_truth(annotations, masks=masks)
    ground_truth.require_federated()
    groups = ground_truth.frequencies() if groups is None else groups
    detections = read_detections(ground_truth, predictions, masks=masks)
    warnings = () if len(detections) else (f"{predictions} holds no detections: AP is 0",)
    measure = official.measure_lvis if engine == "official" else measure_lvis
    measured = measure(ground_truth, detections, iou_types, max_detections)
    spoke = official.version("lvis") if engine == "official" else engine
    return Evaluation.of(ground_truth, measured, groups, warnings, engine=spoke)


def measure_lvis(
    ground_truth: GroundTruth, detections: Detections, iou_types: tuple[str, ...], max_detections: int
) -> dict[str, Measured]:
    """Measure by IoU type; the best ``max_detections`` of every image count."""
    within = detections.rank_within(detections.image) < max_detections
    objects, counting, lenient = federated(ground_truth, detections.take(within))
    categories = len(ground_truth.category_ids)
    measured = {}
    for kind in iou_types:
        table = match_table(counting, objects, kind, categories=categories, lenient=lenient)
        recalls, outcomes = {f"AR@{max_detections}": recall(table)}, Outcomes.of(table, objects)
        measured[kind] = Measured(precision(table), matches_of(table), recalls, outcomes=outcomes)
    return measured


def federated(ground_truth: GroundTruth, detections: Detections) -> tuple[Objects, Detections, np.ndarray]:
    """Return the objects and the ranked detections that count by LVIS's rules, and which of these are no mistakes.

    Detections count of classes that an image shows or that were looked for in vain in it; those of classes that
    were not annotated exhaustively there are no mistakes, [D] bool. Areas of 0 are left out.
    """
    categories = len(ground_truth.category_ids)
    objects = ground_truth.objects.take(ground_truth.objects.areas > 0)
    objects = replace(objects, crowd=np.zeros(len(objects), dtype=bool))  # LVIS knows no crowds
    present = np.unique(objects.pairs(categories))
    looked_for = np.union1d(present, ground_truth.listed_pairs("neg_category_ids"))
    judged = (detections.areas > 0) & np.isin(detections.pairs(categories), looked_for)
    counting = detections.take(judged).ranked()
    incomplete = ground_truth.listed_pairs("not_exhaustive_category_ids")
    return objects, counting, np.isin(counting.pairs(categories), incomplete)
