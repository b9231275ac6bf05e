import os
import random
import signal
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from detloss.data.augment import Plain, ShortestSide
from detloss.data.coco import CocoDataset
from detloss.data.image_labels import ImageLabels
from detloss.data.loader import BatchPlan, evaluation_loader, seeded, training_loader
from detloss.data.samplers import RepeatFactor, Uniform
from detloss.errors import UserError

PLAIN = Plain(ShortestSide(flip=0.0), masks=False)
PORTRAIT, LANDSCAPE = (60, 40), (40, 60)


def _plan(sizes: list[tuple[int, int]], batch_size: int, seed: int = 0) -> BatchPlan:
    return BatchPlan(
        Uniform(ImageLabels.of([np.array([0])] * len(sizes))), np.array(sizes), batch_size=batch_size, seed=seed
    )


def test_batches_do_not_mix_portrait_and_landscape_but_for_the_last():
    sizes = [PORTRAIT if i % 3 == 0 else LANDSCAPE for i in range(50)]
    batches = _plan(sizes, 4).batches(0)
    for batch in batches[:-1]:
        assert len({sizes[index] for _, _, index in batch}) == 1
    assert all(len(batch) == 4 for batch in batches) and len(batches) == 13


@pytest.mark.parametrize(("images", "batch_size"), [(50, 4), (48, 4), (3, 8), (1, 4), (7, 1), (20, 16)])
def test_an_epoch_shows_every_image_and_fills_its_last_batch_from_its_start(images, batch_size):
    plan = _plan([PORTRAIT if i % 3 == 0 else LANDSCAPE for i in range(images)], batch_size)
    keys = sorted(key for batch in plan.batches(5) for key in batch)
    steps = -(-images // batch_size)
    assert len(plan.batches(5)) == plan.steps_per_epoch(5) == steps
    assert [position for _, position, _ in keys] == list(range(steps * batch_size)), "positions are unique"
    assert {epoch for epoch, _, _ in keys} == {5}
    indices = [index for _, _, index in keys]
    assert sorted(indices[:images]) == list(range(images))
    assert all(index == indices[position % images] for position, index in enumerate(indices))


def test_batches_are_a_function_of_seed_and_epoch():
    sizes = [PORTRAIT, LANDSCAPE] * 20
    assert _plan(sizes, 4).batches(2) == _plan(sizes, 4).batches(2)
    assert _plan(sizes, 4).batches(2) != _plan(sizes, 4).batches(3)
    assert _plan(sizes, 4).batches(2) != _plan(sizes, 4, seed=1).batches(2)


def test_steps_find_their_epoch_where_epochs_differ_in_length():
    """Stochastic repeat factors of 1.5 change the length of every epoch."""
    labels = [np.array([0])] * 8 + [np.array([1])] * 2
    sampler = RepeatFactor(ImageLabels.of(labels), threshold=0.45, rounding="stochastic")
    plan = BatchPlan(sampler, np.array([LANDSCAPE] * 10), batch_size=1, seed=0)
    flat = [(epoch, index) for epoch in range(6) for index in range(len(plan.batches(epoch)))]
    assert len({plan.steps_per_epoch(epoch) for epoch in range(6)}) > 1
    fresh = BatchPlan(sampler, np.array([LANDSCAPE] * 10), batch_size=1, seed=0)
    assert fresh.epoch_of_step(len(flat) - 1) == flat[-1], "also when asked for a late step first"
    assert [fresh.epoch_of_step(step) for step in range(len(flat))] == flat
    every = [batch for epoch in range(6) for batch in plan.batches(epoch)]
    assert list(plan.steps(0, len(flat))) == every
    assert list(plan.steps(7, 41)) == every[7:41]
    assert list(plan.steps(7, 7)) == []


@pytest.fixture
def files(tiny_coco):
    return tiny_coco(7, size=(32, 24))


@pytest.fixture
def dataset(files) -> CocoDataset:
    return CocoDataset(*files, masks=True)


def _stream(dataset: CocoDataset, *, batch_size: int = 4, seed: int = 0, **options: int) -> list:
    plan = BatchPlan(
        RepeatFactor(dataset.image_labels, threshold=0.5), dataset.sizes, batch_size=batch_size, seed=seed
    )
    augment = Plain(ShortestSide([24, 32, 40], 64, flip=0.5), masks=True)
    batches = training_loader(dataset, augment, plan, **({"last_step": 8} | options))
    return [sample for images, targets in batches for sample in zip(images, targets, strict=True)]


def _equal(left: list, right: list) -> bool:
    return len(left) == len(right) and all(
        torch.equal(image, other) and all(torch.equal(target[key], twin[key]) for key in target)
        for (image, target), (other, twin) in zip(left, right, strict=True)
    )


def test_the_stream_is_the_same_at_any_number_of_workers(dataset):
    expected = _stream(dataset)
    assert len(expected) == 8 * 4 and not _equal(expected, _stream(dataset, seed=1))
    assert _equal(expected, _stream(dataset, workers=2))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_ranks_share_the_global_batch_in_order(dataset, accumulate):
    whole = _stream(dataset)
    ranks = [_stream(dataset, rank=rank, world_size=2, accumulate=accumulate) for rank in (0, 1)]
    size = 4 // (2 * accumulate)
    parts = [iter(rank) for rank in ranks]
    joined = [sample for _ in range(8 * accumulate) for part in parts for sample in islice(part, size)]
    assert _equal(whole, joined)


def test_accumulation_splits_the_batch_in_order(dataset):
    assert _equal(_stream(dataset), _stream(dataset, accumulate=4))


@pytest.mark.parametrize("first", [1, 4, 7])
def test_starting_later_gives_the_rest_of_the_uninterrupted_stream(dataset, first):
    """Seven images, some repeated, in batches of 4: the eight steps span several epochs."""
    assert _equal(_stream(dataset)[first * 4 :], _stream(dataset, first_step=first, workers=first % 2))


def test_an_image_shown_twice_in_an_epoch_is_changed_in_two_ways(tiny_coco):
    dataset = CocoDataset(*tiny_coco(2, size=(32, 24)), masks=True, limit=1)
    images = [image for image, _ in _stream(dataset, batch_size=16, last_step=1)]
    assert len({image.shape for image in images}) > 1


def test_loading_leaves_the_callers_generators_alone(dataset):
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    _stream(dataset)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002


def test_the_stream_does_not_depend_on_the_callers_generators(dataset):
    with seeded(1):
        first = _stream(dataset)
    with seeded(2):
        assert _equal(first, _stream(dataset))


def test_seeded_governs_all_three_generators():
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002

    with seeded(0, 1, 2):
        first = draw()
    with seeded(0, 1, 2):
        assert draw() == first
    with seeded(0, 1, 3):
        assert all(a != b for a, b in zip(draw(), first, strict=True))


def test_a_batch_that_cannot_be_split_is_a_user_error_at_once(dataset):
    plan = _plan([LANDSCAPE] * 7, 4)
    with pytest.raises(UserError, match="batch size 4 cannot be split evenly over 3 devices x 1"):
        training_loader(dataset, PLAIN, plan, last_step=1, world_size=3)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_arrives_as_the_same_one_line_error(files, dataset, workers):
    (files.images / "0003.png").write_bytes(b"not a picture")
    with pytest.raises(UserError, match=r"0003\.png: damaged or not an image") as raised:
        _stream(dataset, workers=workers)
    assert "\n" not in str(raised.value) and "Traceback" not in str(raised.value)
    with pytest.raises(UserError, match=r"0003\.png: damaged"):
        list(evaluation_loader(dataset, batch_size=2, workers=workers))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the workers in /proc")
def test_workers_outlive_a_signal_to_the_whole_job(dataset):
    """Schedulers and Ctrl-C signal all processes; the parent must still get the rest of its step."""
    plan = _plan([LANDSCAPE] * 7, 1)
    batches = training_loader(dataset, PLAIN, plan, last_step=12, workers=1)
    next(batches)
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert len(children) == 1
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(int(children[0]), number)
    assert len(list(batches)) == 11


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_shows_every_image_once_over_all_ranks(dataset, workers, world_size):
    seen = []
    for rank in range(world_size):
        for images, image_ids in evaluation_loader(
            dataset, batch_size=2, rank=rank, world_size=world_size, workers=workers
        ):
            assert 1 <= len(images) == len(image_ids) <= 2
            for image, image_id in zip(images, image_ids, strict=True):
                expected = dataset[dataset.image_ids.index(image_id)][0]
                assert type(image) is torch.Tensor and torch.equal(image, expected.as_subclass(torch.Tensor))
            seen += image_ids
    assert sorted(seen) == dataset.image_ids


def test_a_rank_without_images_has_nothing_to_evaluate(tiny_coco):
    dataset = CocoDataset(*tiny_coco(1))
    options = {"batch_size": 2, "rank": 1, "world_size": 2}
    assert list(evaluation_loader(dataset, **options)) == []


def _damage(files, *names: str) -> None:
    for name in names:
        (files.images / name).write_bytes(b"not a picture")


def _image_ids(batches) -> list[int]:
    return [int(target["image_id"]) for _, targets in batches for target in targets]


def _tolerant(dataset: CocoDataset, tolerated: int, **options: int):
    plan = _plan([LANDSCAPE] * len(dataset), 2, seed=3)
    return training_loader(dataset, PLAIN, plan, last_step=28, tolerated=tolerated, **options)


def test_unreadable_images_are_replaced_and_all_others_stay_in_place(files, dataset, capsys):
    """28 steps of 2 are 8 epochs of 7 images: ids 10 to 16, of which 12 is damaged and 15 missing."""
    expected = _image_ids(_tolerant(dataset, 0))
    _damage(files, "0002.png")
    (files.images / "0005.png").unlink()
    batches = _tolerant(dataset, 2)
    got = _image_ids(batches)
    assert len(got) == len(expected) and 12 in expected and 15 in expected
    for before, after in zip(expected, got, strict=True):
        assert after == before if before not in (12, 15) else after not in (12, 15)
    replacements = {after for before, after in zip(expected, got, strict=True) if before in (12, 15)}
    assert len(replacements) >= 3, "not always the same image"
    assert {image_id: "damaged" in why for image_id, why in batches.skipped.items()} == {12: True, 15: False}
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2 and all(line.startswith("skipped: ") for line in told), "each is told of once"


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("first", [0, 9])
def test_what_replaces_an_image_is_the_same_after_a_resume_and_at_any_number_of_workers(
    files, dataset, workers, first
):
    _damage(files, "0002.png", "0005.png")
    whole = _image_ids(_tolerant(dataset, 2))
    assert _image_ids(_tolerant(dataset, 2, workers=workers, first_step=first)) == whole[2 * first :]


def test_more_unreadable_images_than_tolerated_in_one_place_end_the_stream(files, dataset):
    _damage(files, *(f"{number:04d}.png" for number in range(7)))
    for tolerated in (3, 100):  # fewer than there are, and more
        with pytest.raises(UserError, match="damaged or not an image"):
            _image_ids(_tolerant(dataset, tolerated))


def test_evaluation_never_skips(files, dataset):
    _damage(files, "0002.png")
    with pytest.raises(UserError, match=r"0002\.png: damaged"):
        list(evaluation_loader(dataset, batch_size=2))
