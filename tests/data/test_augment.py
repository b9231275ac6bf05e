import torch

from detloss.data.augment import LargeScaleJitter, Plain, ShortestSide
from detloss.data.coco import CocoDataset
from detloss.data.loader import seeded


def test_every_scale_and_both_sides_are_drawn():
    with seeded(0):
        views = [ShortestSide([20, 40, 60], None)((20, 30)) for _ in range(60)]
    assert {(view.resized, view.flip) for view in views} == {
        ((side, side * 3 // 2), flip) for side in (20, 40, 60) for flip in (False, True)
    }
    assert not any(view.is_cut for view in views)


def test_without_scales_the_size_stays():
    assert ShortestSide(None, 20)((37, 53)).size == (37, 53)


def test_the_draws_are_those_of_torchvisions_flip_and_shortest_size():
    """The stream of a seed stays what it was when torchvision's v2 transforms drew it."""
    from torchvision.transforms import v2

    with seeded(3):
        views = [ShortestSide([20, 40, 60], 70)((20, 30)) for _ in range(20)]
    with seeded(3):
        for view in views:
            marked = torch.zeros(3, 20, 30, dtype=torch.uint8)
            marked[:, :, :15] = 255
            got = v2.RandomShortestSize([20, 40, 60], 70)(v2.RandomHorizontalFlip(0.5)(marked))
            assert got.shape[1:] == view.size
            assert bool(got[0, 0, 0] == 0) == view.flip


def test_jitter_draws_scales_evenly_and_windows_everywhere():
    """Ghiasi et al., CVPR 2021: from 0.1 to 2.0 of what fits into the square."""
    source, crop = (300, 600), 100
    with seeded(0):
        views = [LargeScaleJitter(crop, (0.1, 2.0))(source) for _ in range(2000)]
    shares = torch.tensor([view.resized[1] / crop for view in views])
    assert 0.1 - 0.02 <= shares.min() < 0.12 and 1.97 < shares.max() <= 2.0
    assert abs(shares.mean() - 1.05) < 0.05
    assert abs((shares < 0.575).float().mean() - 0.25) < 0.04, "a quarter of the draws in a quarter of the range"
    assert all(view.size == (crop, crop) and view.resized[0] * 2 - view.resized[1] in (-1, 0) for view in views)
    larger = [view for view in views if view.resized[1] > crop + 50]
    lefts = torch.tensor([view.corner[1] / (view.resized[1] - crop) for view in larger])
    assert lefts.min() == 0 and lefts.max() == 1 and abs(lefts.mean() - 0.5) < 0.05
    assert all(view.corner[0] == 0 for view in views if view.resized[0] <= crop)


def test_samples_are_plain_tensors_of_the_documented_types(tiny_coco):
    dataset = CocoDataset(*tiny_coco(3), masks=True)
    image, target = Plain(ShortestSide([32], 64), masks=True)(dataset, 0)
    assert type(image) is torch.Tensor and image.dtype == torch.uint8 and image.is_contiguous()
    assert {key: (type(value), value.dtype) for key, value in target.items()} == {
        "boxes": (torch.Tensor, torch.float32),
        "labels": (torch.Tensor, torch.int64),
        "masks": (torch.Tensor, torch.uint8),
        "image_id": (torch.Tensor, torch.int64),
    }
    assert target["image_id"].item() == 10


def test_an_image_without_boxes_passes(tiny_coco):
    dataset = CocoDataset(*tiny_coco(3, size=(20, 16)), masks=True)
    image, target = Plain(ShortestSide([24], 64), masks=True)(dataset, 2)
    assert image.shape == (3, 24, 30)
    assert target["boxes"].shape == (0, 4) and target["masks"].shape == (0, 24, 30)
