"""Losses that ranks share something of, on two real processes, against one process with the whole batch."""

import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from detloss.losses import BAGS, ECM, EFL, LOCE, ClassLoss, DetectionLoss, EQLv2, Seesaw
from detloss.stats import ClassStats
from tests.losses.conftest import COUNTS, stats_of
from tests.losses.softmax_batches import samples_with_objects

CLASSES, ROWS = len(COUNTS), 14

SPLITS = [7, 9, 4]
"""How many rows of each step's batch belong to rank 0."""


class BAGSWithoutChance(BAGS):
    """Every bin takes its rows and those of even labels, on whichever rank they are."""

    def sample_others(self, labels: Tensor) -> Tensor:
        return (self.bin_labels[:-1, labels] > 0) | (labels % 2 == 0)


WITH_STATE: dict[str, Callable[[ClassStats], ClassLoss | DetectionLoss]] = {
    "seesaw": Seesaw,
    "eqlv2": EQLv2,
    "efl": EFL,
    "loce": LOCE,
    "ecm": lambda stats: ECM(stats, measure_steps=2),
}
LOSSES = WITH_STATE | {"bags": BAGSWithoutChance}  # which has none, but shares the sizes of its bins


@dataclass
class Step:
    value: Tensor
    gradient: Tensor
    state: dict[str, Tensor]


def steps_of(loss: ClassLoss | DetectionLoss, rank: int | None) -> list[Step]:
    """Train three steps on the rows of ``rank``, or on all of them."""
    steps = []
    for number, split in enumerate(SPLITS):
        generator = torch.Generator().manual_seed(number)
        whole = torch.randn(ROWS, loss.coder.num_logits, generator=generator, dtype=torch.float64) * 2
        labels = torch.randint(CLASSES + 1, (ROWS,), generator=generator)
        if number == 1:
            labels[split:] = CLASSES  # rank 1 is without foreground
        weights = torch.full((ROWS,), 1 / ROWS, dtype=torch.float64)
        weights[3::5] = 0
        objects = 2 * labels + torch.randint(2, (ROWS,), generator=generator)
        objects[split:] += 100  # an image, and so an object, is on one rank
        rows = {None: slice(0, ROWS), 0: slice(0, split), 1: slice(split, ROWS)}[rank]
        logits = whole[rows].requires_grad_()
        if isinstance(loss, DetectionLoss):
            samples = samples_with_objects(logits, labels[rows], weights[rows], objects[rows])
            value = loss(samples)["loss_classifier"]
        else:
            value = loss(logits, labels[rows], weights[rows])
        (gradient,) = torch.autograd.grad(value, logits)
        state = {name: buffer.clone() for name, buffer in loss.state_dict().items()}
        steps.append(Step(value.detach(), gradient, state))
    return steps


def train_all(rank: int | None) -> dict[str, list[Step]]:
    return {name: steps_of(make(stats_of(COUNTS)), rank) for name, make in LOSSES.items()}


def run_rank(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'meeting_point'}",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=60),
    )
    torch.save(train_all(rank), folder / f"rank_{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def whole() -> dict[str, list[Step]]:
    return train_all(None)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, list[Step]]]:
    """What both ranks got; one process group for all losses, because starting it takes most of the time."""
    folder = tmp_path_factory.mktemp("two_ranks")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=run_rank, args=(rank, folder)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        if process.is_alive():
            process.kill()
    assert [process.exitcode for process in processes] == [0, 0]
    return [torch.load(folder / f"rank_{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.mark.parametrize("name", LOSSES)
def test_two_ranks_together_compute_what_one_process_does(
    whole: dict[str, list[Step]], ranks: list[dict[str, list[Step]]], name: str
) -> None:
    for number, expected in enumerate(whole[name]):
        first, second = (steps[name][number] for steps in ranks)
        torch.testing.assert_close(first.value + second.value, expected.value, rtol=1e-12, atol=0.0)
        gradient = torch.cat([first.gradient, second.gradient])
        torch.testing.assert_close(gradient, expected.gradient, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", WITH_STATE)
def test_both_ranks_hold_the_state_of_one_process(
    whole: dict[str, list[Step]], ranks: list[dict[str, list[Step]]], name: str
) -> None:
    states = [step.state for step in whole[name]]
    assert states[0].keys()
    for steps in ranks:
        for step, state in zip(steps[name], states, strict=True):
            torch.testing.assert_close(step.state, state, rtol=1e-12, atol=1e-15)
    changed = [any(not torch.equal(a[key], b[key]) for key in a) for a, b in pairwise(states)]
    assert changed == [True, name != "ecm"]  # which measures for two steps
