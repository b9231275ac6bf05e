"""Batches for training and evaluation: the same stream at any number of workers or ranks."""

import os
import random
import signal
import sys
import threading
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from detloss.data.augment import Augment
from detloss.data.coco import CocoDataset, Target, UnreadableImage
from detloss.data.samplers import EpochSampler
from detloss.errors import UserError

Key = tuple[int, int, int]  # epoch, position in the epoch, index into the data set
Skipped = dict[int, str]  # image id: what is wrong with the image
TrainingBatch = tuple[list[Tensor], list[Target]]
EvaluationBatch = tuple[list[Tensor], list[int]]

Sample = TypeVar("Sample")

ATTEMPTS = 100
"""Images drawn for one place, the same ones again perhaps, before none counts as readable."""

GRACE_SECONDS = 30.0  # a training step and a checkpoint should fit in


class BatchPlan:
    """The global batches of a run, a function of (seed, epoch) only.

    ``sizes`` is [I, 2] (height, width). Batches hold either portrait or other images, to save padding; only
    an epoch's last batch may mix them. An epoch that does not fill its last batch goes on with its own first
    images, at new positions and so with new random choices.
    """

    def __init__(self, sampler: EpochSampler, sizes: np.ndarray, *, batch_size: int, seed: int) -> None:
        if batch_size < 1:
            raise UserError(f"batch size must be at least 1, got {batch_size}")
        self.sampler = sampler
        self.batch_size = batch_size
        self.seed = seed
        self._portrait = (sizes[:, 0] > sizes[:, 1]).tolist()
        self._first_steps = [0]  # of the epochs looked at so far, and of the one after them

    def batches(self, epoch: int) -> list[list[Key]]:
        order = self.sampler.epoch(self.seed, epoch)
        order = np.resize(order, -(-len(order) // self.batch_size) * self.batch_size)  # repeats cyclically
        waiting: tuple[list[Key], list[Key]] = ([], [])
        batches: list[list[Key]] = []
        for position, index in enumerate(order.tolist()):
            group = waiting[self._portrait[index]]
            group.append((epoch, position, index))
            if len(group) == self.batch_size:
                batches.append(group.copy())
                group.clear()
        # Both groups together hold nothing or one batch, since the whole is a multiple of the batch size.
        rest = waiting[0] + waiting[1]
        return [*batches, rest] if rest else batches

    def steps_per_epoch(self, epoch: int) -> int:
        return -(-len(self.sampler.epoch(self.seed, epoch)) // self.batch_size)

    def epoch_of_step(self, step: int) -> tuple[int, int]:
        """Return (epoch, batch within the epoch) of an optimizer step; all count from 0."""
        while self._first_steps[-1] <= step:
            epoch = len(self._first_steps) - 1
            self._first_steps.append(self._first_steps[-1] + self.steps_per_epoch(epoch))
        epoch = bisect_right(self._first_steps, step) - 1
        return epoch, step - self._first_steps[epoch]

    def steps(self, first: int, last: int) -> Iterator[list[Key]]:
        """Yield the global batches of the steps ``first`` to ``last - 1`` of the endless row of epochs."""
        epoch, start = self.epoch_of_step(first)
        remaining = last - first
        while remaining > 0:
            batches = self.batches(epoch)[start : start + remaining]
            yield from batches
            remaining -= len(batches)
            epoch, start = epoch + 1, 0


def training_loader(
    dataset: CocoDataset,
    augment: Augment,
    plan: BatchPlan,
    *,
    last_step: int,
    first_step: int = 0,
    rank: int = 0,
    world_size: int = 1,
    accumulate: int = 1,
    workers: int = 0,
    pin_memory: bool = False,
    tolerated: int = 0,
) -> "TrainingBatches":
    """Iterate over this rank's micro batches of the steps ``first_step`` to ``last_step - 1``, images in uint8.

    Each step gives ``accumulate`` micro batches of m = batch_size / (world_size * accumulate) images; micro
    batch a of rank k holds the images (a * world_size + k) * m onwards of the global batch. Raises
    ``UserError`` if m is not whole, and while iterating if an image cannot be read; with ``tolerated`` that many
    are replaced by others first, drawn at random, wherever one is needed.
    """
    size, rest = divmod(plan.batch_size, world_size * accumulate)
    if rest:
        raise UserError(
            f"batch size {plan.batch_size} cannot be split evenly over {world_size} devices x {accumulate} "
            "accumulated micro batches"
        )
    starts = [(part * world_size + rank) * size for part in range(accumulate)]
    keys = (batch[start : start + size] for batch in plan.steps(first_step, last_step) for start in starts)
    samples = _TrainingSamples(dataset, augment, plan.seed, tolerated)
    return TrainingBatches(_iterate(samples, keys, workers, pin_memory))


def evaluation_loader(
    dataset: CocoDataset,
    *,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
    pin_memory: bool = False,
) -> Iterator[EvaluationBatch]:
    """Iterate over (uint8 images, image ids) of every ``world_size``-th image from ``rank`` on, each once."""
    indices = range(rank, len(dataset), world_size)
    keys = (list(indices[start : start + batch_size]) for start in range(0, len(indices), batch_size))
    batches = _iterate(_EvaluationSamples(dataset), keys, workers, pin_memory)
    return (([image for image, _ in batch], [image_id for _, image_id in batch]) for batch in batches)


class TrainingBatches(Iterator[TrainingBatch]):
    """Batches; ``skipped`` are the images left out of those so far because they cannot be read."""

    def __init__(self, batches: Iterator[list[tuple[Tensor, Target, Skipped]]]) -> None:
        self._batches = batches
        self.skipped: Skipped = {}

    def __next__(self) -> TrainingBatch:
        batch = next(self._batches)
        for _, _, skipped in batch:
            for image_id in skipped.keys() - self.skipped.keys():
                print(f"skipped: {skipped[image_id]}", file=sys.stderr)
            self.skipped |= skipped
        return [image for image, _, _ in batch], [target for _, target, _ in batch]


@contextmanager
def seeded(*entropy: int) -> Iterator[None]:
    """Seed Python's, numpy's and torch's CPU generators from ``entropy`` >= 0, and put them back after."""
    words = np.random.SeedSequence(entropy).generate_state(4)
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 - others may use it
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would seed the GPUs, too, and nothing puts those back.
        torch.default_generator.manual_seed(int(words[0]) << 32 | int(words[1]))
        random.seed(words.tobytes())
        np.random.seed(words)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002


class _TrainingSamples(Dataset[tuple[Tensor, Target, Skipped] | UserError]):
    def __init__(self, dataset: CocoDataset, augment: Augment, seed: int, tolerated: int) -> None:
        self.dataset, self.augment, self.seed, self.tolerated = dataset, augment, seed, tolerated

    def __getitem__(self, key: Key) -> tuple[Tensor, Target, Skipped] | UserError:
        epoch, position, index = key
        skipped: Skipped = {}
        attempts = 0
        # One more than the position: numpy pads with zeros, so that (seed, epoch, 0) would be the
        # sampler's (seed, epoch).
        with seeded(self.seed, epoch, position + 1):
            while True:
                try:
                    return *self.augment(self.dataset, index), skipped
                except UnreadableImage as error:
                    skipped[error.image_id] = str(error)
                    attempts += 1
                    if len(skipped) > self.tolerated or attempts == ATTEMPTS:
                        return error
                except UserError as error:
                    return error
                index = int(torch.randint(len(self.dataset), ()))


class _EvaluationSamples(Dataset[tuple[Tensor, int] | UserError]):
    def __init__(self, dataset: CocoDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> tuple[Tensor, int] | UserError:
        try:
            return self.dataset.image(index).as_subclass(Tensor), self.dataset.image_ids[index]
        except UserError as error:
            return error


def _iterate(
    samples: Dataset[Sample | UserError], keys: Iterable[list[Any]], workers: int, pin_memory: bool
) -> Iterator[list[Sample]]:
    loader = DataLoader(
        samples,
        batch_sampler=keys,
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=pin_memory,
        worker_init_fn=_leave_signals_to_parent,
        generator=torch.Generator(),  # otherwise it draws the workers' seed from the global generator
    )
    for batch in loader:
        # An error travels as a value: raised in a worker it would arrive wrapped in a traceback.
        if isinstance(batch, UserError):
            raise UserError(str(batch))  # of that very class, by whose name `launch` knows it
        yield batch


def _collate(samples: list[Sample | UserError]) -> list[Sample] | UserError:
    good: list[Sample] = []
    for sample in samples:
        if isinstance(sample, UserError):
            return sample
        good.append(sample)
    return good


def _leave_signals_to_parent(worker: int) -> None:
    """Let the parent finish its step when a scheduler, or Ctrl-C, signals all processes of the job."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_after_grace)


def _end_after_grace(number: int, frame: FrameType | None) -> None:
    timer = threading.Timer(GRACE_SECONDS, os._exit, args=(0,))
    timer.daemon = True
    timer.start()
