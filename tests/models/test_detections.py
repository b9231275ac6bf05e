"""Selection of detections against plain Python loops, also at 1,203 classes."""

import pytest
import torch
from torch import Tensor

from detloss.models.detections import nms_per_class, select_detections
from tests.reference import boxes as reference


def scored_boxes(rows: int, classes: int, *, seed: int, size: float = 60.0) -> tuple[Tensor, Tensor]:
    """Crowded boxes [N, C, 4], some thinner than a hundredth of a pixel, and distinct scores [N, C]."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(rows, classes, 2, generator=generator) * size
    sides = torch.rand(rows, classes, 2, generator=generator) * size / 2
    sides[torch.rand(rows, classes, generator=generator) < 0.05] = 0.005
    scores = torch.randperm(rows * classes, generator=generator).view(rows, classes) / (rows * classes)
    return torch.cat([corners, corners + sides], dim=-1), scores


def assert_same(boxes: Tensor, scores: Tensor, *, score: float, nms: float, limit: int) -> int:
    expected = reference.detections(
        boxes.tolist(), scores.tolist(), score_threshold=score, nms_threshold=nms, limit=limit
    )
    kept = select_detections(boxes, scores, score_threshold=score, nms_threshold=nms, limit=limit)
    found = list(zip(kept[1].tolist(), kept[2].tolist(), map(tuple, kept[0].tolist()), strict=True))
    assert found == expected
    return len(found)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_detections_are_those_of_suppression_class_by_class(seed: int, limit: int) -> None:
    boxes, scores = scored_boxes(30, 4, seed=seed)
    assert_same(boxes, scores, score=0.21, nms=0.5, limit=limit)


def test_candidates_grow_until_enough_are_kept() -> None:
    """400 copies of one box score best; what is kept after the first lies beyond the first candidates."""
    boxes, scores = scored_boxes(410, 1, seed=1, size=2000.0)
    scores = scores / 2
    boxes[:400] = torch.tensor([0.0, 0.0, 50.0, 50.0])
    scores[:400] += 0.5
    assert assert_same(boxes, scores, score=0.0, nms=0.5, limit=5) == 5


def test_suppression_is_exact_at_1203_classes_of_a_large_image() -> None:
    """Overlaps just above and just below the threshold, at coordinates where float32 has 1e-4 pixels."""
    boxes, scores = scored_boxes(4, 1203, seed=3, size=1333.0)
    boxes[1] = boxes[0]
    boxes[1, :, 2] -= (boxes[0, :, 2] - boxes[0, :, 0]) * (0.5 + torch.linspace(-1e-5, 1e-5, 1203))
    assert_same(boxes, scores, score=1e-4, nms=0.5, limit=3000)


def test_boxes_of_different_classes_never_suppress_each_other() -> None:
    box = torch.tensor([[0.0, 0.0, 10.0, 10.0]]).repeat(3, 1)
    kept = nms_per_class(box, torch.tensor([0.5, 0.9, 0.7]), torch.tensor([4, 1202, 4]), 0.5)
    assert kept.tolist() == [1, 2]


@pytest.mark.parametrize(("rows", "threshold"), [(0, 0.05), (6, 2.0)])
def test_nothing_above_the_threshold_gives_no_detections(rows: int, threshold: float) -> None:
    boxes, scores = scored_boxes(rows, 3, seed=0)
    kept = select_detections(boxes, scores, score_threshold=threshold, nms_threshold=0.5, limit=10)
    assert [tuple(part.shape) for part in kept] == [(0, 4), (0,), (0,)]
    assert kept[2].dtype == torch.int64
