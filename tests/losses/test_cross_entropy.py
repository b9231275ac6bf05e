"""Softmax cross entropy against its definition."""

import math

import pytest
import torch

from detloss.losses import CrossEntropy
from tests.losses.conftest import stats_of


def test_cross_entropy_is_the_weighted_negative_log_softmax_of_the_label() -> None:
    logits = torch.tensor([[1.0, 2.0, -1.0], [0.0, 3.0, 0.5], [4.0, -2.0, 1.0]], dtype=torch.float64)
    labels, weights = torch.tensor([0, 2, 1]), [0.5, 2.0, 0.0]
    expected = 0.0
    for row, label, weight in zip(logits.tolist(), labels.tolist(), weights, strict=True):
        expected -= weight * math.log(math.exp(row[label]) / sum(math.exp(value) for value in row))
    loss = CrossEntropy(stats_of([3, 1]))
    assert loss(logits, labels, torch.tensor(weights)).item() == pytest.approx(expected, rel=1e-12)


def test_the_last_logit_is_background() -> None:
    loss = CrossEntropy(stats_of([3, 1]))
    logits = torch.tensor([[0.0, 0.0, 30.0]])
    assert loss(logits, torch.tensor([2])).item() == pytest.approx(0, abs=1e-6)
    assert loss(logits, torch.tensor([0])).item() == pytest.approx(30, abs=1e-6)
