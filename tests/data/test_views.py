"""Pixels, boxes and masks of a view against torchvision's transforms and against full-size masks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from torch import Tensor
from torchvision import tv_tensors
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.transforms import v2

from detloss.data.augment import LargeScaleJitter, ShortestSide
from detloss.data.coco import CocoDataset
from detloss.data.masks import draw_masks
from detloss.data.shapes import shapes_dataset
from detloss.data.views import PADDING, View
from detloss.models.transform import MEAN

SHARED = Path(__file__).parents[3] / "shared" / "data" / "coco_mini"


def _pixels(height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (height, width, 3), generator=generator, dtype=torch.uint8).permute(2, 0, 1)


def _padded(image: Tensor, size: tuple[int, int], fill: tuple[int, ...]) -> Tensor:
    right, bottom = max(size[1] - image.shape[2], 0), max(size[0] - image.shape[1], 0)
    return v2.functional.pad(image, [0, 0, right, bottom], fill=list(fill))


@pytest.mark.parametrize(
    ("height", "width", "scale", "max_size"),
    [(48, 64, 96, 1000), (64, 47, 96, 100), (427, 640, 96, 128), (33, 100, 50, 77), (50, 50, 20, 64)],
)
def test_resizing_equals_torchvision_detectors(height: int, width: int, scale: int, max_size: int) -> None:
    image, boxes = _pixels(height, width), torch.tensor([[3.0, 4.0, 30.0, 20.0], [10.0, 10.0, 25.0, 30.0]])
    view = ShortestSide([scale], max_size, flip=0.0)((height, width))
    reference = GeneralizedRCNNTransform(scale, max_size, [0.0] * 3, [1.0] * 3)
    expected, target = reference.resize(image / 255, {"boxes": boxes})
    got = view.pixels(image)
    assert got.shape == expected.shape
    assert torch.allclose(got / 255, expected, atol=1.01 / 255), "the same but for one level of uint8"
    assert torch.allclose(torch.from_numpy(view.boxes(boxes.numpy())), target["boxes"], atol=1e-4)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize(
    ("resized", "size", "corner"),
    [((60, 90), (60, 90), (0, 0)), ((60, 90), (32, 32), (11, 40)), ((20, 30), (32, 32), (0, 0))],
    ids=["resized", "cut", "padded"],
)
def test_a_view_is_flip_then_resize_then_crop_then_pad_of_torchvision(
    flip: bool, antialias: bool, resized: tuple[int, int], size: tuple[int, int], corner: tuple[int, int]
) -> None:
    image = _pixels(48, 70)
    corners = torch.tensor([[1.5, 2.0, 30.25, 40.0], [40.0, 20.0, 69.0, 47.5], [68.0, 1.0, 70.0, 3.0]])
    boxes = tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=(48, 70))
    functional = v2.functional
    expected = (tv_tensors.Image(image.contiguous()), boxes)
    steps = [
        functional.horizontal_flip if flip else lambda value: value,
        lambda value: functional.resize(value, list(resized), antialias=antialias),
        lambda value: functional.crop(value, *corner, *(min(pair) for pair in zip(size, resized, strict=True))),
    ]
    for step in steps:
        expected = tuple(step(value) for value in expected)
    view = View((48, 70), resized, size, corner, flip, antialias)
    assert torch.equal(view.pixels(image), _padded(expected[0].as_subclass(Tensor), size, PADDING))
    clamped = functional.clamp_bounding_boxes(expected[1], clamping_mode="hard")
    assert torch.allclose(torch.from_numpy(view.boxes(corners.numpy())), clamped.as_subclass(Tensor), atol=1e-4)


def test_padding_is_the_mean_that_detectors_subtract() -> None:
    assert [round(255 * mean) for mean in MEAN] == list(PADDING)


def test_pixels_do_not_share_memory_with_the_stored_image() -> None:
    image = _pixels(4, 6)
    View.whole((4, 6)).pixels(image).zero_()
    assert image.any()


def _drawn_slowly(dataset: CocoDataset, index: int, view: View) -> Tensor:
    """Masks at full size, then torchvision's flip, resize to the nearest pixel, crop and pad."""
    masks = tv_tensors.Mask(dataset[index][1]["masks"])
    if view.flip:
        masks = v2.functional.horizontal_flip(masks)
    masks = v2.functional.resize(masks, list(view.resized))
    size = [min(pair) for pair in zip(view.size, view.resized, strict=True)]
    return _padded(v2.functional.crop(masks, *view.corner, *size).as_subclass(Tensor), view.size, (0,))


def _views(size: tuple[int, int]) -> list[View]:
    height, width = size
    bigger, smaller = (int(1.7 * height), int(1.6 * width)), (int(0.6 * height), int(0.7 * width))
    return [
        View(size, bigger, bigger),
        View(size, bigger, bigger, flip=True),
        View(size, smaller, smaller, flip=True),
        View(size, bigger, (height, height), (height // 3, width // 5), flip=True),
        View(size, smaller, (height, width), flip=True),
    ]


def _supersampled(polygons: list[np.ndarray], view: View) -> Tensor:
    """Which pixels of the resized image polygons cover to a half or more, on a grid eight times as fine."""
    height, width = view.resized
    scale = np.array([8 * width / view.source[1], 8 * height / view.source[0]])
    fine = [(polygon.reshape(-1, 2) * scale).ravel() for polygon in polygons]
    drawn = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(fine, 8 * height, 8 * width)))
    return torch.from_numpy(drawn.reshape(height, 8, width, 8).mean(axis=(1, 3)) >= 0.5)


def _overlap(left: Tensor, right: Tensor) -> float:
    return float((left & right).sum() / (left | right).sum())


def _centre(mask: Tensor) -> Tensor:
    return mask.nonzero().float().mean(dim=0)


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared")
def test_masks_of_photographs_are_truer_than_those_drawn_at_full_size_and_resized() -> None:
    """Resizing to the nearest pixel moves masks by 0.4 pixels, to the right and down; drawing does not."""
    dataset = CocoDataset(SHARED / "annotations/instances_train.json", SHARED / "train", masks=True)
    segmentations = dataset._annotations.segmentations
    overlaps, shifts = [], []
    for index in range(0, 60, 12):
        rows = dataset._objects(index)
        for view in (_views(dataset.size(index))[0], _views(dataset.size(index))[4]):
            view = replace(view, size=view.resized, flip=False)
            pairs = zip(
                rows, draw_masks(segmentations, rows, view), _drawn_slowly(dataset, index, view), strict=True
            )
            for row, drawn, slow in pairs:
                if slow.sum() <= 32**2 or not segmentations.polygons(row):
                    continue
                truth = _supersampled(segmentations.polygons(row), view)
                overlaps.append([_overlap(mask.bool(), truth) for mask in (drawn, slow)])
                shifts.append(torch.stack([_centre(mask) - _centre(truth) for mask in (drawn, slow)]))
    of_drawn, of_slow = np.array(overlaps).T
    assert len(overlaps) > 20 and of_drawn.min() > 0.98 and (of_drawn > of_slow).mean() > 0.98
    assert of_slow.min() > 0.8 and np.median(of_slow) > 0.95, "the slow way is the same but for that"
    drawn_shift, slow_shift = torch.stack(shifts).mean(dim=0)
    assert drawn_shift.abs().max() < 0.1 and slow_shift.min() > 0.3


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared")
@pytest.mark.parametrize("flip", [False, True])
def test_masks_of_photographs_that_are_not_resized_are_pycocotools(flip: bool) -> None:
    dataset = CocoDataset(SHARED / "annotations/instances_train.json", SHARED / "train", masks=True)
    for index in range(0, 60, 5):
        size = dataset.size(index)
        for view in (View(size, size, size, flip=flip), View(size, size, (300, 200), (31, 57), flip=flip)):
            rows = dataset._objects(index)
            got = draw_masks(dataset._annotations.segmentations, rows, view)
            assert torch.equal(got, _drawn_slowly(dataset, index, view))


def test_run_lengths_are_resized_to_the_nearest_pixel_as_torchvision_does(tiny_shapes: CocoDataset) -> None:
    for index in range(4):
        for view in _views(tiny_shapes.size(index)):
            rows = tiny_shapes._objects(index)
            got = draw_masks(tiny_shapes._annotations.segmentations, rows, view)
            assert torch.equal(got, _drawn_slowly(tiny_shapes, index, view))


@pytest.fixture
def tiny_shapes(tmp_path: Path) -> CocoDataset:
    files = shapes_dataset(seed=0, train_images=16, val_images=16, size=48, root=tmp_path)
    return CocoDataset(files.train_annotations, files.train_images, masks=True)


def test_masks_boxes_and_pixels_of_a_view_lie_on_each_other(tiny_coco) -> None:  # type: ignore[no-untyped-def]
    """Objects are drawn in one bright colour on dark noise; jitter moves colour, box and mask alike."""
    dataset = CocoDataset(*tiny_coco(12, size=(96, 72)), masks=True)
    draw = LargeScaleJitter(64, (0.5, 2.0))
    seen = 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for index in [*range(12)] * 3:
            image, target = dataset.seen(index, draw(dataset.size(index)), masks=True)
            assert image.shape == (3, 64, 64)
            if len(target["masks"]) != 1:
                continue  # objects cover each other
            (mask,), (box,) = target["masks"], target["boxes"]
            bright = (image.max(dim=0).values > 180) & (image != torch.tensor(PADDING)[:, None, None]).any(dim=0)
            assert (bright & mask.bool()).sum() / (bright | mask.bool()).sum() > 0.8 or mask.sum() < 100
            rows, columns = (mask.any(dim=1).nonzero()[:, 0], mask.any(dim=0).nonzero()[:, 0])
            extent = torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).float()
            assert (extent[:2] >= box[:2] - 1).all() and (extent[2:] <= box[2:] + 1).all(), "in the box"
            seen += 1
    assert seen > 5


def test_objects_outside_the_window_are_not_in_the_target(tiny_coco) -> None:  # type: ignore[no-untyped-def]
    dataset = CocoDataset(*tiny_coco(6), masks=True)
    whole = dataset[1][1]
    for corner in ((0, 0), (0, 32), (32, 0), (32, 32)):
        view = View((64, 64), (64, 64), (32, 32), corner)
        _, target = dataset.seen(1, view, masks=True)
        top, left = corner
        cut = whole["masks"].as_subclass(Tensor)[:, top : top + 32, left : left + 32]
        kept = cut.flatten(1).any(dim=1).bool()
        assert torch.equal(target["masks"], cut[kept])
        assert torch.equal(target["labels"], whole["labels"][kept])
        assert len(target["boxes"]) == kept.sum()
        boxes_only = dataset.seen(1, view, masks=False)[1]
        assert set(boxes_only) == {"boxes", "labels", "image_id"} and len(boxes_only["boxes"]) >= kept.sum()
