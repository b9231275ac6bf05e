"""Candidates of dense heads, their merging, and FCOS's centre-ness, against plain Python."""

import math

import pytest
import torch
from torch import Tensor

from detloss.losses.coder import Sigmoid
from detloss.models.dense import best_candidates, dense_samples, merge_levels, start_at_prior
from detloss.models.fcos import centerness_target
from tests.reference import boxes as reference
from tests.reference.torchvision_detectors import class_stats, default_loss, ours


@pytest.mark.parametrize("limit", [1, 10, 10_000])
@pytest.mark.parametrize("threshold", [0.0, 0.301, 1.0])
def test_candidates_are_the_best_entries_above_the_threshold(limit: int, threshold: float) -> None:
    scores = torch.randperm(50 * 7, generator=torch.Generator().manual_seed(0)).view(50, 7) / 350
    entries = sorted(
        ((score, row, column) for row, line in enumerate(scores.tolist()) for column, score in enumerate(line)),
        reverse=True,
    )
    expected = [entry for entry in entries[:limit] if entry[0] > threshold]
    best, rows, classes = best_candidates(scores, threshold, limit)
    assert list(zip(best.tolist(), rows.tolist(), classes.tolist(), strict=True)) == expected


def level(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * 60
    boxes = torch.cat([corners, corners + 5 + torch.rand(count, 2, generator=generator) * 30], dim=1)
    return boxes, torch.rand(count, generator=generator), torch.randint(3, (count,), generator=generator)


@pytest.mark.parametrize("limit", [4, 1000])
def test_levels_are_merged_by_suppression_within_each_class(limit: int) -> None:
    levels = [level(40, 0), level(25, 1), level(0, 2)]
    boxes, scores, classes = ([value for part in levels for value in part[i].tolist()] for i in range(3))
    expected = []
    for wanted in range(3):
        rows = [row for row, found in enumerate(classes) if found == wanted]
        kept = reference.suppress([boxes[row] for row in rows], [scores[row] for row in rows], 0.4)
        expected += [(scores[rows[index]], wanted + 1, boxes[rows[index]]) for index in kept]
    merged = merge_levels(levels, 0.4, limit)
    found = list(zip(*(merged[name].tolist() for name in ("scores", "labels", "boxes")), strict=True))
    assert found == sorted(expected, reverse=True)[:limit]


def test_no_candidates_give_no_detections() -> None:
    merged = merge_levels([level(0, 0), level(0, 1)], 0.5, 10)
    assert {name: tuple(value.shape) for name, value in merged.items()} == {
        "boxes": (0, 4),
        "scores": (0,),
        "labels": (0,),
    }


def test_centerness_is_one_in_the_middle_and_falls_towards_the_edges() -> None:
    distances = torch.tensor([[3.0, 2.0, 3.0, 2.0], [1.0, 2.0, 4.0, 8.0]])
    assert centerness_target(distances).tolist() == pytest.approx([1.0, math.sqrt(1 / 4 * 2 / 8)])
    assert centerness_target(torch.zeros(0, 4)).shape == (0,)


def test_every_anchor_of_a_dense_head_starts_at_the_prior() -> None:
    classifier = torch.nn.Conv2d(4, 9 * 3, 1)
    start_at_prior(classifier, Sigmoid(3, prior=0.2))
    assert classifier.bias is not None
    assert classifier.bias.sigmoid().tolist() == pytest.approx([0.2] * 27)


@pytest.mark.parametrize("model", ["retinanet", "fcos"])
def test_scores_start_at_one_in_a_hundred(model: str) -> None:
    detector = ours(model, default_loss(model, class_stats(5)))
    assert detector.head.classification_head.cls_logits.bias.sigmoid().unique().item() == pytest.approx(0.01)


def test_samples_number_objects_across_the_batch_and_put_background_last() -> None:
    targets = [
        {"boxes": torch.tensor([[0.0, 0, 1, 1], [0, 0, 2, 2]]), "labels": torch.tensor([3, 1])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
        {"boxes": torch.tensor([[0.0, 0, 5, 5]]), "labels": torch.tensor([2])},
    ]
    matches = torch.tensor([[1, -1, 0], [-1, -2, -1], [0, 0, -1]])
    deltas = torch.arange(36.0).view(9, 4)
    samples = dense_samples(torch.zeros(3, 3, 3), deltas, torch.ones(3, 3), matches, targets, Sigmoid(3))
    assert samples.labels.tolist() == [0, 3, 2, 3, 3, 3, 1, 1, 3]
    assert samples.foreground.tolist() == [0, 2, 6, 7]
    assert samples.object_index.tolist() == [1, 0, 2, 2]
    assert samples.image_index.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert samples.target_boxes[:, 2].tolist() == [2, 1, 5, 5]
    assert samples.deltas[:, 0].tolist() == [0, 8, 24, 28]
