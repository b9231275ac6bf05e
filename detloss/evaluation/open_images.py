"""Open Images' mean AP at IoU 0.5 (no torch here)."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from detloss.errors import UserError
from detloss.evaluation.class_averages import average_classes
from detloss.evaluation.detections import Detections, read_detections
from detloss.evaluation.ground_truth import GroundTruth, read_ground_truth
from detloss.evaluation.largest_overlap import first_of_each, largest_overlaps
from detloss.evaluation.match_table import OVERLAPS
from detloss.evaluation.overlaps import Neighbours, Overlaps
from detloss.evaluation.precision_curve import Judged, area_under_envelope
from detloss.evaluation.result import Evaluation, require_choices


def evaluate_open_images(
    annotations: Path,
    predictions: Path,
    *,
    iou_types: tuple[str, ...] = ("bbox",),
    groups: Mapping[int, str] | None = None,
    group_of_weight: float = 1.0,
) -> Evaluation:
    """Score a predictions file as the Open Images challenge does (Kuznetsova et al., IJCV 2020).

    The rules are those of OpenImagesDetectionChallengeEvaluator in TensorFlow's Object Detection API:

    - Detections count of classes that an image shows or that a person looked for in vain in it.
    - One is compared with the object of its class that it overlaps most, and finds it at an IoU of 0.5 or more,
      if it is the first to.
    - One that finds none and lies by half of itself or more in a box around a group is no mistake; all that lie
      in one box are a single hit of weight ``group_of_weight``, with the score of the best of them.
    - Precision is made monotone, and AP is the area under it; classes with nothing to find have none.

    The hierarchy is in the annotations: objects, and what was looked for, were expanded when they were converted.
    Detections are not expanded, here as there: a detector is to find a dog also as an animal, as one that was
    trained on expanded annotations does. Detections of equal scores count in the order of the file.

    Args:
        annotations: COCO-format file whose crowds are groups and whose images list ``neg_category_ids``, such as
            ``detloss data convert openimages`` writes.
        predictions: columns or a COCO results file; there is no limit of detections per image.
        iou_types: of "bbox", "segm", and "boundary", the lesser of mask and boundary IoU.
        groups: category id to "r", "c" or "f"; AP of a group is the mean of its categories' AP.
        group_of_weight: 1 as in the challenges, or 0 as before them: groups are neither found nor missed.

    Raises ``UserError``, one line, for files that are malformed or do not fit one another.
    """
    require_choices(iou_types, 1, "detloss")
    if not 0 <= group_of_weight < np.inf:
        raise UserError(f"group_of_weight={group_of_weight}: expected a number of at least 0, as a rule 0 or 1")
    masks = any(kind != "bbox" for kind in iou_types)
    ground_truth = read_ground_truth(annotations, masks=masks)
    require_verified(ground_truth)
    detections = read_detections(ground_truth, predictions, masks=masks)
    warnings = () if len(detections) else (f"{predictions} holds no detections: AP is 0",)
    counting = _of_verified_classes(ground_truth, detections)
    values = {
        kind: _judged(ground_truth, counting, kind, group_of_weight).values(area_under_envelope)
        for kind in iou_types
    }
    return average_classes(ground_truth, values, groups, warnings)


def require_verified(ground_truth: GroundTruth) -> None:
    """Raise ``UserError`` unless every image says which classes were looked for in vain in it."""
    ground_truth.require_lists("an Open Images", "neg_category_ids")


def _of_verified_classes(ground_truth: GroundTruth, detections: Detections) -> Detections:
    """Return the detections that count, by category, the best first; boxes without an area do not."""
    categories = len(ground_truth.category_ids)
    shown = np.unique(ground_truth.objects.pairs(categories))
    verified = np.union1d(shown, ground_truth.listed_pairs("neg_category_ids"))
    counts = np.isin(detections.pairs(categories), verified) & (detections.boxes[:, 2:] > 0).all(axis=1)
    own = detections.take(counts)
    return own.take(np.lexsort((own.row, -own.scores, own.category)))


def _judged(ground_truth: GroundTruth, ranked: Detections, kind: str, weight: float) -> Judged:
    objects, categories = ground_truth.objects, len(ground_truth.category_ids)
    overlaps = OVERLAPS[kind](ranked, objects, Neighbours.of(ranked, objects, categories))
    # The overlap with a crowd is the detection's share inside it, which is what a group asks for.
    groups = objects.crowd[overlaps.object]
    credit, counts = np.zeros(len(ranked)), np.ones(len(ranked), dtype=bool)
    found = largest_overlaps(_entries(overlaps, ~groups))
    credit[found.detection[first_of_each(found.object)]] = 1
    inside = largest_overlaps(_entries(overlaps, groups & (credit[overlaps.detection] == 0)))
    counts[inside.detection] = False
    best = inside.detection[first_of_each(inside.object)]
    credit[best], counts[best] = weight, weight > 0
    totals = np.bincount(objects.category, np.where(objects.crowd, weight, 1), categories)
    return Judged(ranked.category[counts], credit[counts], totals)


def _entries(overlaps: Overlaps, chosen: np.ndarray) -> Overlaps:
    return Overlaps(overlaps.detection[chosen], overlaps.object[chosen], overlaps.iou[chosen])
