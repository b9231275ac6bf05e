"""Which detections found an object, and how well: what metrics beyond AP are computed from (no torch here)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

TAU = 0.5
"""The IoU from which on a detection finds an object: the first threshold of both official tools."""


@dataclass(frozen=True)
class Matches:
    """The detections of one class that count, the best first, at IoU `TAU`.

    Attributes:
        scores: [D].
        ious: [D], of a detection with the object that it found, 0 for one that found none.
        objects: how many there are to find.
    """

    scores: np.ndarray
    ious: np.ndarray
    objects: int

    @property
    def found(self) -> np.ndarray:
        """Whether a detection is a true positive, [D]."""
        return self.ious > 0


def matches_of_coco(evaluator: Any) -> list[Matches]:
    """Return one item per class in the order of the ids, after ``COCOeval.evaluate``, of objects of all sizes."""
    settings, names = evaluator.params, ("dtScores", "dtMatches", "dtIgnore", "gtIgnore")
    blocks = len(settings.catIds), len(settings.areaRng), len(settings.imgIds)
    return _by_class(evaluator, evaluator.evalImgs, blocks, names)


def matches_of_lvis(evaluator: Any) -> list[Matches]:
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
