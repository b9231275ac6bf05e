"""LVIS AP by the lvis package: federated ground truth, AP_r, AP_c, AP_f (no torch here)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from detloss.errors import UserError
from detloss.evaluation.ground_truth import Content, GroundTruth, read_ground_truth
from detloss.evaluation.matches import Matches, matches_of_lvis
from detloss.evaluation.predictions import Row, predictions_for
from detloss.evaluation.result import Evaluation, require_choices


def evaluate_lvis(
    annotations: Path,
    predictions: Path,
    *,
    iou_types: tuple[str, ...] = ("bbox", "segm"),
    groups: Mapping[int, str] | None = None,
    max_detections: int = 300,
) -> Evaluation:
    """Score a predictions file as LVIS does (Gupta et al., CVPR 2019).

    Args:
        annotations: LVIS-format file, with the negative and not exhaustively annotated classes of each image.
        predictions: COCO results file.
        iou_types: "bbox", "segm" or both.
        groups: category id to "r", "c" or "f", instead of the file's own ``frequency``.
        max_detections: the best of every image count, over all categories.

    Boxes of area 0 and detections of classes that nobody looked for in an image are left out (lvis again).
    Raises ``UserError``, one line, for files that are malformed or do not fit one another.
    """
    require_choices(iou_types, max_detections)
    masks = "segm" in iou_types
    ground_truth = read_ground_truth(annotations, masks=masks)
    ground_truth.require_federated()
    groups = ground_truth.frequencies() if groups is None else groups
    rows = predictions_for(ground_truth, predictions, masks=masks)
    warnings = () if rows else (f"{predictions} holds no detections: AP is 0",)
    with _lvis_at_work():
        precision, matches = _official(ground_truth, rows, iou_types, max_detections)
    return Evaluation.of(ground_truth, precision, matches, groups, warnings)


def _official(
    ground_truth: GroundTruth, rows: list[Row], iou_types: tuple[str, ...], max_detections: int
) -> tuple[dict[str, np.ndarray], dict[str, list[Matches]]]:
    """Return the lvis package's precision by IoU type, [T, R, C, A], and what every class's detections found."""
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

    categories = [{"frequency": "f", **row} for row in ground_truth.content["categories"]]  # lvis demands one
    content = {**ground_truth.content, "categories": categories}
    empty = {**content, "annotations": []}
    objects = indexed(LVIS, content)
    # From a shell without annotations, as LVISResults starts with a deep copy of all it gets.
    detections = (
        LVISResults(indexed(LVIS, empty), rows, max_dets=max_detections) if rows else indexed(LVISResults, empty)
    )
    precision, matches = {}, {}
    for kind in iou_types:
        evaluator = LVISEval(objects, detections, kind)
        evaluator.evaluate()
        evaluator.accumulate()
        precision[kind] = evaluator.eval["precision"]
        matches[kind] = matches_of_lvis(evaluator)
    return precision, matches


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
