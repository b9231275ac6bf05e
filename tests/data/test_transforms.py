import numpy as np
import pytest
import torch
from torchvision import tv_tensors
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from detloss.data.transforms import evaluation_transform, training_transform


def _sample(height: int, width: int, boxes: list[list[float]]) -> tuple[tv_tensors.Image, dict]:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
    masks = torch.zeros(len(boxes), height, width, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[int(top) : int(bottom), int(left) : int(right)] = 1
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    target = {
        "boxes": tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=(height, width)),
        "labels": torch.arange(1, len(boxes) + 1),
        "masks": tv_tensors.Mask(masks),
        "image_id": 42,
    }
    return tv_tensors.Image(image), target


@pytest.mark.parametrize(
    ("height", "width", "scale", "max_size"),
    [(48, 64, 96, 1000), (64, 47, 96, 100), (427, 640, 96, 128), (33, 100, 50, 77), (50, 50, 20, 64)],
)
def test_resizing_equals_torchvision_detectors(height, width, scale, max_size):
    image, target = _sample(height, width, [[3, 4, 30, 20], [10, 10, 25, 30]])
    got, got_target = training_transform([scale], max_size, flip=0.0)(image, target)
    reference = GeneralizedRCNNTransform(scale, max_size, [0.0] * 3, [1.0] * 3)
    plain = {"boxes": torch.Tensor(target["boxes"]), "masks": target["masks"].as_subclass(torch.Tensor)}
    expected, expected_target = reference.resize(image.as_subclass(torch.Tensor) / 255, plain)
    assert got.shape == expected.shape
    assert torch.allclose(got, expected, atol=1.01 / 255), "the same but for one level of uint8"
    assert torch.allclose(got_target["boxes"], expected_target["boxes"], atol=1e-4)
    assert torch.equal(got_target["masks"], expected_target["masks"])


def test_every_scale_is_drawn():
    image, target = _sample(20, 30, [])
    transform = training_transform([20, 40, 60], None, flip=0.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        heights = {transform(image, target)[0].shape[1] for _ in range(40)}
    assert heights == {20, 40, 60}


def test_a_flip_mirrors_image_boxes_and_masks_together():
    image, target = _sample(8, 10, [[1, 2, 4, 7]])
    got, got_target = training_transform(flip=1.0)(image, target)
    assert torch.allclose(got, image.as_subclass(torch.Tensor).flip(2) / 255, rtol=1e-6)
    assert got_target["boxes"].tolist() == [[6, 2, 9, 7]]
    assert torch.equal(got_target["masks"], target["masks"].as_subclass(torch.Tensor).flip(2))


def test_without_scales_the_size_stays():
    image, target = _sample(37, 53, [[1, 2, 4, 7]])
    assert training_transform(None, 20)(image, target)[0].shape == (3, 37, 53)


def test_outputs_are_plain_tensors_of_the_documented_types():
    for transform in (training_transform([32], 64), evaluation_transform()):
        image, target = transform(*_sample(16, 16, [[1, 2, 4, 7]]))
        assert type(image) is torch.Tensor and image.dtype == torch.float32
        assert image.min() >= 0 and image.max() <= 1
        assert {key: (type(value), value.dtype) for key, value in target.items()} == {
            "boxes": (torch.Tensor, torch.float32),
            "labels": (torch.Tensor, torch.int64),
            "masks": (torch.Tensor, torch.uint8),
            "image_id": (torch.Tensor, torch.int64),
        }
        assert target["image_id"].item() == 42


def test_boxes_that_lose_their_area_go_with_their_labels_and_masks():
    """The second box lies beyond the right edge; clamping leaves nothing of it."""
    image, target = _sample(16, 16, [[1, 2, 4, 7], [17, 2, 20, 5], [0, 0, 16, 16]])
    _, got = training_transform(flip=0.0)(image, target)
    assert got["boxes"].tolist() == [[1, 2, 4, 7], [0, 0, 16, 16]]
    assert got["labels"].tolist() == [1, 3]
    assert got["masks"].sum(dim=(1, 2)).tolist() == [15, 256]


def test_an_image_without_boxes_passes():
    _, got = training_transform([24], 64)(*_sample(16, 20, []))
    assert got["boxes"].shape == (0, 4) and got["masks"].shape == (0, 24, 30)


def test_evaluation_changes_nothing_but_the_type():
    image, target = _sample(19, 23, [[1, 2, 4, 7]])
    got, got_target = evaluation_transform()(image, target)
    assert np.allclose(got.numpy() * 255, image.numpy(), atol=1e-4)
    assert got_target["boxes"].tolist() == [[1, 2, 4, 7]]
