"""Box losses against plain Python, and how rows are weighted."""

import pytest
import torch
from torch import Tensor
from torchvision.ops import generalized_box_iou

from detloss.losses import L1, BoxLoss, GIoU, Samples, SmoothL1
from tests.losses.conftest import samples_of
from tests.reference import boxes as reference


@pytest.fixture
def samples() -> Samples:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [5.0, 5.0, 9.0, 30.0]], requires_grad=True)
    target_boxes = torch.tensor([[2.0, 1.0, 12.0, 8.0], [20.0, 5.0, 25.0, 8.0]])  # the second pair is disjoint
    deltas = torch.tensor([[0.0, 0.1, -0.3, 2.0], [0.05, -0.05, 0.0, 1.0]], requires_grad=True)
    target_deltas = torch.tensor([[0.02, 0.0, 0.3, 0.0], [0.0, 0.0, 0.0, 1.5]])
    return samples_of(boxes, target_boxes, deltas, target_deltas)


@pytest.mark.parametrize("beta", [1 / 9, 1.0])
def test_smooth_l1_is_quadratic_below_beta_and_linear_above(samples: Samples, beta: float) -> None:
    expected = 0.0
    differences = (samples.deltas - samples.target_deltas).abs().tolist()
    for row, weight in zip(differences, (0.5, 2.0), strict=True):
        expected += weight * sum(x * x / (2 * beta) if x < beta else x - beta / 2 for x in row)
    assert SmoothL1(beta=beta)(samples).item() == pytest.approx(expected, rel=1e-6)


def test_l1_adds_absolute_differences(samples: Samples) -> None:
    expected = 0.5 * (0.02 + 0.1 + 0.6 + 2.0) + 2.0 * (0.05 + 0.05 + 0.0 + 0.5)
    assert L1()(samples).item() == pytest.approx(expected, rel=1e-6)


def test_giou_is_that_of_the_paper_and_of_torchvision(samples: Samples) -> None:
    pairs = zip(samples.boxes.tolist(), samples.target_boxes.tolist(), (0.5, 2.0), strict=True)
    expected = sum(weight * (1 - reference.giou(a, b)) for a, b, weight in pairs)
    assert GIoU()(samples).item() == pytest.approx(expected, rel=1e-6)
    rows = 1 - generalized_box_iou(samples.boxes, samples.target_boxes).diagonal()
    assert GIoU()(samples).item() == pytest.approx((0.5 * rows[0] + 2 * rows[1]).item(), rel=1e-6)


def test_giou_of_equal_and_of_far_boxes_is_0_and_almost_2() -> None:
    box, far = torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([[999.0, 999.0, 1000.0, 1000.0]])
    zeros = torch.zeros(1, 4)
    assert GIoU()(samples_of(box, box, zeros, zeros)).item() == pytest.approx(0, abs=1e-6)
    assert GIoU()(samples_of(box, far, zeros, zeros)).item() == pytest.approx(0.5 * 2, abs=1e-4)


@pytest.mark.parametrize("loss", [SmoothL1(), L1(), GIoU()])
def test_no_foreground_gives_zero_with_a_graph(loss: BoxLoss) -> None:
    empty = [torch.zeros(0, 4, requires_grad=True) for _ in range(4)]
    value = loss(samples_of(*empty))
    assert value.item() == 0
    value.backward()


@pytest.mark.parametrize("loss", [SmoothL1(), L1(), GIoU()])
def test_gradients_are_those_of_finite_differences(samples: Samples, loss: BoxLoss) -> None:
    tensors = [samples.boxes, samples.target_boxes, samples.deltas, samples.target_deltas]
    fixed = [tensor.detach().double() for tensor in tensors]
    position = 0 if isinstance(loss, GIoU) else 2

    def value(moving: Tensor) -> Tensor:
        parts = [*fixed[:position], moving, *fixed[position + 1 :]]
        return loss(samples_of(*parts))

    # A delta of exactly its target sits on the kink of L1.
    assert torch.autograd.gradcheck(value, ((fixed[position] + 0.003).requires_grad_(),), eps=1e-7, atol=1e-5)
