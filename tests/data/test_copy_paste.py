"""Pasting against a slow literal loop over pixels; and who is pasted how often."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from detloss.data.augment import LargeScaleJitter, Plain, ShortestSide
from detloss.data.coco import CocoDataset
from detloss.data.copy_paste import CopyPaste, PasteSources, paste
from detloss.data.image_labels import ImageLabels
from detloss.data.loader import BatchPlan, seeded, training_loader
from detloss.data.samplers import Uniform
from detloss.errors import UserError
from detloss.stats import ClassStats


def _scene(seed: int, objects: int) -> tuple[Tensor, dict[str, Tensor]]:
    """A picture of one colour and rectangles in it, 12 x 16."""
    generator = np.random.default_rng(seed)
    masks, boxes = torch.zeros(objects, 12, 16, dtype=torch.uint8), []
    for mask in masks:
        left, top = generator.integers(0, 12), generator.integers(0, 8)
        right, bottom = left + generator.integers(1, 5), top + generator.integers(1, 5)
        mask[top:bottom, left:right] = 1
        boxes.append([left - 0.0, top, right, bottom])
    corners = torch.tensor(np.array(boxes, dtype=np.float32).reshape(-1, 4))
    target = {
        "boxes": corners,
        "labels": torch.arange(objects) + 1 + 10 * seed,
        "masks": masks,
        "image_id": torch.tensor(seed),
    }
    return torch.full((3, 12, 16), 100 + seed, dtype=torch.uint8), target


def _slowly_pasted(below: dict[str, Tensor], above: dict[str, Tensor]) -> list[tuple[int, list[float], list]]:
    """Labels, boxes and pixels of what stays, pixel by pixel."""
    covered = {(y, x) for mask in above["masks"] for y, x in mask.nonzero().tolist()}
    found = []
    for label, box, mask in zip(below["labels"], below["boxes"], below["masks"], strict=True):
        pixels = [(y, x) for y, x in mask.nonzero().tolist()]
        left = [pixel for pixel in pixels if pixel not in covered]
        if not left:
            continue
        extent = [min(x for _, x in left), min(y for y, _ in left)]
        extent += [max(x for _, x in left) + 1, max(y for y, _ in left) + 1]
        found.append((int(label), extent if len(left) < len(pixels) else box.tolist(), left))
    for label, box, mask in zip(above["labels"], above["boxes"], above["masks"], strict=True):
        found.append((int(label), box.tolist(), [tuple(pixel) for pixel in mask.nonzero().tolist()]))
    return found


def test_pasting_equals_a_loop_over_pixels() -> None:
    dropped = cut = 0
    for seed in range(40):
        (image, target), (other_image, other) = _scene(seed, seed % 5), _scene(seed + 50, seed % 4)
        got_image, got = paste(image, target, other_image, other)
        expected = _slowly_pasted(target, other)
        rows = zip(got["labels"].tolist(), got["boxes"].tolist(), got["masks"], strict=True)
        assert [(a, b, [tuple(p) for p in m.nonzero().tolist()]) for a, b, m in rows] == expected
        cover = other["masks"].any(dim=0).bool()
        assert (got_image[:, cover] == 150 + seed).all() and (got_image[:, ~cover] == 100 + seed).all()
        assert got["image_id"] == seed
        dropped += len(target["labels"]) + len(other["labels"]) - len(expected)
        cut += sum(len(pixels) for _, _, pixels in expected) < target["masks"].sum() + other["masks"].sum()
    assert dropped > 0 and cut > 5, "the scenes overlap"


def test_what_was_pasted_from_is_not_changed() -> None:
    (image, target), (other_image, other) = _scene(1, 4), _scene(2, 4)
    copies = [{key: value.clone() for key, value in each.items()} for each in (target, other)]
    paste(image, target, other_image, other)
    for each, copy in zip((target, other), copies, strict=True):
        assert all(torch.equal(each[key], copy[key]) for key in copy)
    assert (image == 101).all() and (other_image == 102).all()


def test_images_are_drawn_by_repeat_factors_and_objects_by_one_minus_half_their_inverse() -> None:
    """f = 1/100 at a threshold of 1/4 gives r = sqrt(25) = 5, so 0.9; the frequent class has r = 1, so 1/2."""
    labels = [np.array([0])] * 97 + [np.array([0, 1])] + [np.zeros(0, dtype=np.int64)] * 2
    stats = ClassStats(("often", "rare"), (1, 2), 100, np.array([98, 1]), np.array([98, 1]))
    sources = PasteSources.of(ImageLabels.of(labels), stats, 0.25)
    assert sources.chances == pytest.approx([0.5, 0.9])
    with seeded(0):
        drawn = np.bincount([sources.image() for _ in range(20_000)], minlength=100)
        chosen = torch.stack([sources.objects(torch.tensor([1, 2])) for _ in range(20_000)])
    assert drawn[98:].sum() == 0, "nothing can be taken from images without objects"
    assert drawn[97] / 20_000 == pytest.approx(5 / 102, rel=0.1)
    assert drawn[:97] / 20_000 == pytest.approx(np.full(97, 1 / 102), rel=0.4)
    assert chosen.float().mean(dim=0).tolist() == pytest.approx([0.5, 0.9], abs=0.02)


def _copy_paste(dataset: CocoDataset, *, masks: bool = True, probability: float = 1.0) -> CopyPaste:
    sources = PasteSources.of(dataset.image_labels, dataset.stats, 0.5)
    return CopyPaste(ShortestSide([48, 64]), masks, probability, sources)


def test_masks_stay_apart_where_they_were_apart_and_lie_in_their_boxes(tiny_coco) -> None:  # type: ignore[no-untyped-def]
    dataset = CocoDataset(*tiny_coco(8, size=(64, 48)), masks=True)
    augment, more = _copy_paste(dataset), 0
    for index in [*range(8)] * 3:
        with seeded(0, index):
            image, target = augment(dataset, index)
        with seeded(0, index):
            plain_image, plain = Plain(augment.draw, True)(dataset, index)
        assert image.shape == plain_image.shape and target["image_id"] == plain["image_id"]
        more += len(target["labels"]) > len(plain["labels"])
        for box, mask in zip(target["boxes"], target["masks"], strict=True):
            left, top, right, bottom = (int(v) for v in [*(box[:2] - 1).floor(), *(box[2:] + 1).ceil()])
            assert mask.sum() == mask[max(top, 0) : bottom, max(left, 0) : right].sum() > 0
    assert more > 5


def test_detectors_of_boxes_get_the_same_without_masks(tiny_coco) -> None:  # type: ignore[no-untyped-def]
    dataset = CocoDataset(*tiny_coco(8), masks=True)
    for index in range(8):
        with seeded(1, index):
            image, target = _copy_paste(dataset, masks=False)(dataset, index)
        with seeded(1, index):
            expected, with_masks = _copy_paste(dataset)(dataset, index)
        assert torch.equal(image, expected) and set(target) == {"boxes", "labels", "image_id"}
        assert torch.equal(target["boxes"], with_masks["boxes"])


def test_a_probability_of_zero_pastes_nothing(tiny_coco) -> None:  # type: ignore[no-untyped-def]
    dataset = CocoDataset(*tiny_coco(8), masks=True)
    for index in range(8):
        with seeded(1, index):
            image, _ = _copy_paste(dataset, probability=0.0)(dataset, index)
        with seeded(1, index):
            assert torch.equal(image, Plain(ShortestSide([48, 64]), True)(dataset, index)[0])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("first", [0, 3, 7])
def test_jitter_and_pasting_go_on_in_the_middle_of_an_epoch(tiny_coco, first: int, workers: int) -> None:  # type: ignore[no-untyped-def]
    dataset = CocoDataset(*tiny_coco(7, size=(64, 48)), masks=True)
    sources = PasteSources.of(dataset.image_labels, dataset.stats, 0.5)
    augment = CopyPaste(LargeScaleJitter(40), True, 0.7, sources)

    def stream(**options: int) -> list[tuple[Tensor, dict[str, Tensor]]]:
        plan = BatchPlan(Uniform(dataset.image_labels), dataset.sizes, batch_size=2, seed=5)
        batches = training_loader(dataset, augment, plan, last_step=9, **options)
        return [sample for images, targets in batches for sample in zip(images, targets, strict=True)]

    whole, rest = stream()[2 * first :], stream(first_step=first, workers=workers)
    assert len(whole) == len(rest) == 2 * (9 - first)
    for (image, target), (other, twin) in zip(whole, rest, strict=True):
        assert torch.equal(image, other) and all(torch.equal(target[key], twin[key]) for key in target)


def test_a_file_of_boxes_cannot_be_pasted_from(tiny_coco) -> None:  # type: ignore[no-untyped-def]
    files = tiny_coco(3)
    content = json.loads(Path(files.annotations).read_text())
    for row in content["annotations"]:
        del row["segmentation"]
    Path(files.annotations).write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"annotations\[0\] has no segmentation.*dataset\.copy_paste=0"):
        CocoDataset(*files, masks=True)
