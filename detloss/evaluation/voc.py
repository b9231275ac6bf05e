"""Pascal VOC's AP (no torch here)."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from detloss.errors import UserError, nearest
from detloss.evaluation.class_averages import average_classes
from detloss.evaluation.detections import Detections, read_detections
from detloss.evaluation.ground_truth import GroundTruth, read_ground_truth
from detloss.evaluation.largest_overlap import first_of_each, largest_overlaps
from detloss.evaluation.match_table import OVERLAPS
from detloss.evaluation.overlaps import Neighbours
from detloss.evaluation.precision_curve import Judged, area_under_envelope, mean_at_eleven_recalls
from detloss.evaluation.result import Evaluation, require_choices

INTERPOLATIONS = {"all": area_under_envelope, "11": mean_at_eleven_recalls}


def evaluate_voc(
    annotations: Path,
    predictions: Path,
    *,
    iou_types: tuple[str, ...] = ("bbox",),
    groups: Mapping[int, str] | None = None,
    interpolation: str = "all",
) -> Evaluation:
    """Score a predictions file as VOC does, by VOCevaldet.m of its development kit (Everingham et al., IJCV 2010).

    A detection is compared with the object of its class that it overlaps most, and finds it at an IoU of 0.5 or
    more; a second one that does is a mistake. Nobody is rewarded or punished for difficult objects, crowds here.
    The kit counts a box's pixels with both edges, 1..10 for ten of them; here such a box is 0 to 10, of width 10,
    so that the overlaps are the kit's. Detections of equal scores count in the order of the file.

    Args:
        annotations: COCO-format file, such as ``detloss data convert voc`` writes.
        predictions: columns or a COCO results file; there is no limit of detections per image.
        iou_types: of "bbox", "segm", and "boundary", the lesser of mask and boundary IoU.
        groups: category id to "r", "c" or "f"; AP of a group is the mean of its categories' AP.
        interpolation: "all", the area under precision made monotone (since VOC 2010), or "11", the mean at eleven
            recalls (until VOC 2009).

    Raises ``UserError``, one line, for files that are malformed or do not fit one another.
    """
    require_choices(iou_types, 1, "detloss")
    if interpolation not in INTERPOLATIONS:
        raise UserError(
            f"interpolation={interpolation}: expected all or 11{nearest(interpolation, INTERPOLATIONS)}"
        )
    masks = any(kind != "bbox" for kind in iou_types)
    ground_truth = read_ground_truth(annotations, masks=masks)
    detections = read_detections(ground_truth, predictions, masks=masks)
    warnings = () if len(detections) else (f"{predictions} holds no detections: AP is 0",)
    summary = INTERPOLATIONS[interpolation]
    values = {kind: _judged(ground_truth, detections, kind).values(summary) for kind in iou_types}
    return average_classes(ground_truth, values, groups, warnings)


def _judged(ground_truth: GroundTruth, detections: Detections, kind: str) -> Judged:
    categories = len(ground_truth.category_ids)
    difficult = ground_truth.objects.crowd | ground_truth.objects.ignored
    objects = replace(ground_truth.objects, crowd=np.zeros_like(difficult))  # compared as any other
    ranked = detections.take(np.lexsort((detections.row, -detections.scores, detections.category)))
    found = largest_overlaps(OVERLAPS[kind](ranked, objects, Neighbours.of(ranked, objects, categories)))
    credit, counts = np.zeros(len(ranked)), np.ones(len(ranked), dtype=bool)
    credit[found.detection[first_of_each(found.object)]] = 1
    counts[found.detection[difficult[found.object]]] = False
    totals = np.bincount(objects.category[~difficult], minlength=categories)
    return Judged(ranked.category[counts], credit[counts], totals)
