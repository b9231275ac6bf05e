"""What each head tells a loss about its predictions: rows, objects and boxes agree with each other."""

import pytest
import torch
from torch import Tensor

from detloss.losses import DetectionLoss, Samples
from tests.reference.torchvision_detectors import MODELS, class_stats, default_loss, images_and_targets, ours

CLASSES = 5


class Recording(DetectionLoss):
    """The detector's usual loss, which keeps what it was given."""

    def __init__(self, model: str) -> None:
        super().__init__()
        self.usual = default_loss(model, class_stats(CLASSES))
        self.coder = self.usual.coder

    def forward(self, samples: Samples) -> dict[str, Tensor]:
        self.samples = samples
        terms: dict[str, Tensor] = self.usual(samples)
        return terms


@pytest.fixture(params=MODELS)
def recorded(request: pytest.FixtureRequest) -> tuple[str, Samples, list[dict[str, Tensor]]]:
    torch.manual_seed(2)
    loss = Recording(request.param)
    detector = ours(request.param, loss).train()
    images, targets = images_and_targets(CLASSES, masks=request.param == "maskrcnn")
    detector(images, targets)
    return request.param, loss.samples, targets


Recorded = tuple[str, Samples, list[dict[str, Tensor]]]


def test_foreground_rows_belong_to_the_object_they_name(recorded: Recorded) -> None:
    _, samples, targets = recorded
    owner = torch.cat([torch.full((len(target["labels"]),), i) for i, target in enumerate(targets)])
    assert len(samples.object_index.unique()) > 3  # objects of the first and of the third image
    labels = torch.cat([target["labels"] for target in targets]) - 1
    assert torch.equal(samples.labels[samples.foreground], labels[samples.object_index])
    assert torch.equal(samples.image_index[samples.foreground], owner[samples.object_index])
    boxes = torch.cat([target["boxes"] for target in targets])
    assert torch.equal(samples.target_boxes, boxes[samples.object_index])


def test_every_other_row_is_background(recorded: Recorded) -> None:
    _, samples, _ = recorded
    background = torch.ones(len(samples.labels), dtype=torch.bool)
    background[samples.foreground] = False
    assert (samples.labels[background] == CLASSES).all()
    assert (samples.labels[~background] < CLASSES).all()
    assert (samples.weights[~background] > 0).all()


def test_logits_and_boxes_are_float32_and_carry_gradient(recorded: Recorded) -> None:
    _, samples, _ = recorded
    for value in (samples.logits, samples.boxes, samples.deltas):
        assert value.dtype == torch.float32
        assert value.requires_grad
    for value in (samples.weights, samples.target_boxes, samples.target_deltas):
        assert value.dtype == torch.float32
        assert not value.requires_grad


def test_encoded_and_decoded_boxes_are_relative_to_the_same_anchor(recorded: Recorded) -> None:
    """The anchor found from prediction and deltas turns the target's deltas into the target's box."""
    model, samples, _ = recorded
    boxes, deltas = samples.boxes.detach(), samples.deltas.detach()
    targets, expected = samples.target_deltas, samples.target_boxes
    if model == "fcos":  # distances to the sides in strides; both may be 0, which tells nothing
        told = deltas[:, 0] + deltas[:, 2] > 0.01
        assert told.sum() > 5
        boxes, deltas, targets, expected = (value[told] for value in (boxes, deltas, targets, expected))
        stride = (boxes[:, 2] - boxes[:, 0]) / (deltas[:, 0] + deltas[:, 2])
        location = boxes[:, :2] + deltas[:, :2] * stride[:, None]
        distances = targets * stride[:, None]
        decoded = torch.cat([location - distances[:, :2], location + distances[:, 2:]], dim=1)
    else:
        scale = torch.tensor([10.0, 10.0, 5.0, 5.0] if "rcnn" in model else [1.0] * 4)
        moves, targets = deltas / scale, targets / scale
        sides = boxes[:, 2:] - boxes[:, :2]
        anchor_sides = sides / moves[:, 2:].exp()
        anchor_centre = (boxes[:, :2] + boxes[:, 2:]) / 2 - moves[:, :2] * anchor_sides
        centre = anchor_centre + targets[:, :2] * anchor_sides
        half = anchor_sides * targets[:, 2:].exp() / 2
        decoded = torch.cat([centre - half, centre + half], dim=1)
    torch.testing.assert_close(decoded, expected, rtol=1e-3, atol=1e-2)


def test_the_weights_are_what_each_detector_divides_by(recorded: Recorded) -> None:
    model, samples, _ = recorded
    rows = len(samples.labels)
    if "rcnn" in model:
        expected = torch.full((rows,), 1 / rows)
    elif model == "fcos":
        expected = torch.full((rows,), 1 / len(samples.foreground))
    else:  # each image counts the same, and is divided by its own foreground; some anchors are ignored
        per_image = samples.image_index[samples.foreground].bincount(minlength=3).clamp(min=1)
        expected = 1 / (3 * per_image[samples.image_index])
        ignored = samples.weights == 0
        assert 0 < ignored.sum() < rows / 10
        expected[ignored] = 0
    torch.testing.assert_close(samples.weights, expected)
