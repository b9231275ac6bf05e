"""Box overlaps and suppression in plain Python, one box at a time."""

from collections.abc import Sequence

Box = Sequence[float]


def area(box: Box) -> float:
    return max(box[2] - box[0], 0) * max(box[3] - box[1], 0)


def intersection(a: Box, b: Box) -> float:
    return area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))


def iou(a: Box, b: Box) -> float:
    shared = intersection(a, b)
    return shared / (area(a) + area(b) - shared)


def giou(a: Box, b: Box) -> float:
    """Rezatofighi et al., CVPR 2019, algorithm 1."""
    hull = (min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3]))
    union = area(a) + area(b) - intersection(a, b)
    return iou(a, b) - (area(hull) - union) / area(hull)


def suppress(boxes: Sequence[Box], scores: Sequence[float], threshold: float) -> list[int]:
    """Greedy non-maximum suppression of one class: indices kept, best first."""
    kept: list[int] = []
    for index in sorted(range(len(boxes)), key=lambda index: -scores[index]):
        if all(iou(boxes[index], boxes[other]) <= threshold for other in kept):
            kept.append(index)
    return kept


def detections(
    boxes: Sequence[Sequence[Box]],
    scores: Sequence[Sequence[float]],
    *,
    score_threshold: float,
    nms_threshold: float,
    limit: int,
) -> list[tuple[float, int, tuple[float, ...]]]:
    """Per-class suppression of boxes [N][C]: the best (score, class, box), sides of at least 0.01 pixels."""
    found: list[tuple[float, int, tuple[float, ...]]] = []
    for column in range(len(scores[0])):
        rows = [
            row
            for row in range(len(scores))
            if scores[row][column] > score_threshold
            and boxes[row][column][2] - boxes[row][column][0] >= 0.01
            and boxes[row][column][3] - boxes[row][column][1] >= 0.01
        ]
        of_class = [boxes[row][column] for row in rows]
        for index in suppress(of_class, [scores[row][column] for row in rows], nms_threshold):
            found.append((scores[rows[index]][column], column, tuple(of_class[index])))
    return sorted(found, reverse=True)[:limit]
