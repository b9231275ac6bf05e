"""Open Images' AP of one class, slow: the rules of the challenges' evaluation page and of TensorFlow's evaluator.

Written image by image and rule by rule (``per_image_evaluation.py`` and ``metrics.py`` of the Object Detection API
say what the page leaves open): first objects, then groups, then one curve of weighted hits.
"""

from dataclasses import dataclass

Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Thing:
    image: int
    box: Box
    group: bool


def average_precision(
    things: list[Thing],
    detections: list[tuple[int, float, Box]],
    *,
    verified: set[int],
    weight: float,
) -> tuple[float, float] | None:
    """Return AP and the final recall, None without anything to find.

    A detection is (image, score, box); ``verified`` are the images in which the class was looked for.
    """
    total = sum(weight if thing.group else 1 for thing in things)
    if total == 0:
        return None
    judged: list[tuple[float, float]] = []  # score and weight, 0 for a mistake
    for image in sorted({detection[0] for detection in detections} & verified):
        own = [d for d in detections if d[0] == image and d[2][0] < d[2][2] and d[2][1] < d[2][3]]
        here = [thing for thing in things if thing.image == image]
        judged += of_image(here, sorted(own, key=lambda d: -d[1]), weight)
    points, hits, mistakes = [], 0.0, 0
    for _, credit in sorted(judged, key=lambda each: -each[0]):
        hits, mistakes = hits + credit, mistakes + (credit == 0)
        points.append((hits / total, hits / (hits + mistakes)))
    area, before = 0.0, 0.0
    for place, (recall, _) in enumerate(points):
        area += (recall - before) * max(precision for _, precision in points[place:])
        before = recall
    return area, before


def of_image(
    things: list[Thing], best_first: list[tuple[int, float, Box]], weight: float
) -> list[tuple[float, float]]:
    """Return score and weight of what counts: detections, and groups in which something was found."""
    objects = [thing.box for thing in things if not thing.group]
    groups = [thing.box for thing in things if thing.group]
    judged, taken, scores = [], set(), dict[int, float]()
    for _, score, box in best_first:
        overlaps = [common(box, other) / (size(box) + size(other) - common(box, other)) for other in objects]
        largest = max(range(len(objects)), key=lambda i: overlaps[i], default=None)
        if largest is not None and overlaps[largest] >= 0.5 and largest not in taken:
            taken.add(largest)
            judged.append((score, 1.0))
            continue
        shares = [common(box, other) / size(box) for other in groups]
        around = max(range(len(groups)), key=lambda i: shares[i], default=None)
        if around is not None and shares[around] >= 0.5:
            scores[around] = max(score, scores.get(around, 0))
        else:
            judged.append((score, 0.0))
    return judged + [(score, weight) for score in scores.values() if weight > 0]


def size(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def common(box: Box, other: Box) -> float:
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    return max(width, 0) * max(height, 0)
