"""The step from a class loss to a detection loss."""

from dataclasses import replace

import torch
from torch import Tensor
from torchvision.ops import box_iou

from detloss.losses import L1, ClassLoss, ClassPlusBox, CrossEntropy
from detloss.losses.coder import Softmax
from tests.losses.conftest import samples_of, stats_of


def test_class_and_box_terms_stand_beside_the_auxiliary_ones() -> None:
    deltas = torch.ones(2, 4)
    samples = samples_of(deltas, deltas, deltas, torch.zeros(2, 4))
    samples.auxiliary["loss_mask"] = torch.tensor(7.0)
    class_loss = CrossEntropy(stats_of([3, 1]))
    loss = ClassPlusBox(class_loss, L1())
    terms = loss(samples)
    assert set(terms) == {"loss_classifier", "loss_box_reg", "loss_mask"}
    # Uniform logits over three columns cost log 3 a row; the weights of all four rows add up to 3.5.
    torch.testing.assert_close(terms["loss_classifier"], 3.5 * torch.tensor(3.0).log())
    assert terms["loss_box_reg"] == 4 * (0.5 + 2.0)
    assert terms["loss_mask"] == 7
    assert loss.coder is class_loss.coder


class Recorder(ClassLoss):
    """Keeps the quality it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.coder = Softmax(2)

    def forward(
        self, logits: Tensor, labels: Tensor, weights: Tensor | None = None, quality: Tensor | None = None
    ) -> Tensor:
        self.quality = quality
        return logits.sum()


def test_a_class_loss_is_told_the_iou_of_the_foreground_boxes_without_gradient() -> None:
    found = torch.tensor([[0.0, 0, 10, 10], [0, 0, 4, 4], [3, 3, 3, 3]], requires_grad=True)
    wanted = torch.tensor([[5.0, 0, 15, 10], [10, 10, 14, 14], [0, 0, 6, 6]])
    samples = replace(
        samples_of(found[:2], wanted[:2], torch.zeros(2, 4), torch.zeros(2, 4)),
        foreground=torch.tensor([0, 2, 3]),
        boxes=found,
        target_boxes=wanted,
        deltas=torch.zeros(3, 4),
        target_deltas=torch.zeros(3, 4),
    )
    recorder = Recorder()
    ClassPlusBox(recorder, L1())(samples)
    assert recorder.quality is not None and not recorder.quality.requires_grad
    # Half of each overlaps: 50 of 150; then boxes apart; then a box without area.
    torch.testing.assert_close(recorder.quality, torch.tensor([1 / 3, 0, 0, 0]))
    torch.testing.assert_close(recorder.quality[samples.foreground], box_iou(found, wanted).diagonal().detach())
