"""What counts by an evaluator's rules, before anything is matched (no torch here)."""

import numpy as np

from detloss.errors import UserError
from detloss.evaluation.coco import limited
from detloss.evaluation.detections import Detections
from detloss.evaluation.ground_truth import GroundTruth, Objects
from detloss.evaluation.lvis import federated

BY_IMAGE = ("coco", "lvis", "lvis_fixed")


def counting(
    evaluator: str, ground_truth: GroundTruth, detections: Detections, max_detections: int
) -> tuple[Objects, Detections, np.ndarray]:
    """Return the objects and the ranked detections that count, and which of these are no mistakes, [D] bool.

    Raises ``UserError`` for evaluators whose numbers are not made of matches within images.
    """
    if evaluator == "coco":
        return limited(ground_truth, detections, max_detections)
    if evaluator not in BY_IMAGE:
        raise UserError(f"evaluator={evaluator}: comparisons are by the rules of {', '.join(BY_IMAGE)}")
    ground_truth.require_federated()
    among = detections.image if evaluator == "lvis" else detections.category
    return federated(ground_truth, detections.take(detections.rank_within(among) < max_detections))
