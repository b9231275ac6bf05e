"""Ranking losses on two real processes: one ranking over all ranks, and a balance that all ranks share."""

import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from detloss.losses import ALRP, NDCG, APLoss, DetectionLoss, RankSort, Samples
from tests.losses.conftest import stats_of
from tests.losses.ranked_samples import gradients, of_images, random_samples, with_foreground

STATS = replace(stats_of([30, 9, 2, 0]), num_images=5)
RANKED = {  # and the terms that are ranked or balanced over all ranks; other box losses the heads divide
    "ap": ["loss_classifier"],
    "ndcg": ["loss_classifier"],
    "alrp": ["loss_classifier", "loss_box_reg"],
    "ranksort": ["loss_ranking", "loss_sorting", "loss_box_reg", "loss_mask"],
}
MAKE: dict[str, Callable[..., DetectionLoss]] = {"ap": APLoss, "ndcg": NDCG, "alrp": ALRP, "ranksort": RankSort}
STEPS = 4
IMAGES_OF_RANK = {None: (0, 1, 2), 0: (0,), 1: (1, 2)}


@dataclass
class Step:
    terms: dict[str, Tensor]
    gradients: dict[str, tuple[Tensor, Tensor]]
    state: dict[str, Tensor]


def batch(number: int, rank: int | None) -> Samples:
    """Batches of which the third has no positives on rank 1, and the fourth none at all."""
    samples = random_samples(60 + number, foreground=0.0 if number == 3 else 0.4)
    if number == 2:
        samples = with_foreground(samples, samples.image_index[samples.foreground] == 0)
    part = of_images(samples, *IMAGES_OF_RANK[rank])
    # A mean over ranks, as heads make it: 5 of all foreground rows.
    foreground = max(1, len(samples.foreground)) / (1 if rank is None else 2)
    part.auxiliary["loss_mask"] = 5 * part.deltas.sum() / foreground
    return part


def steps_of(name: str, rank: int | None, scope: str) -> list[Step]:
    loss, steps = MAKE[name](STATS, scope=scope), []
    for number in range(STEPS):
        samples = batch(number, rank)
        terms = loss(samples)
        found = {term: gradients(terms[term], samples) for term in RANKED[name]}
        state = {key: value.clone() for key, value in loss.state_dict().items()}
        steps.append(Step({term: terms[term].detach() for term in RANKED[name]}, found, state))
    return steps


def train_all(rank: int | None) -> dict[str, list[Step]]:
    return {name: steps_of(name, rank, "global") for name in MAKE} | {"own": steps_of("alrp", rank, "batch")}


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
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, list[Step]]]:
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


@pytest.mark.parametrize("name", RANKED)
def test_two_ranks_in_one_ranking_learn_what_one_process_does(
    ranks: list[dict[str, list[Step]]], name: str
) -> None:
    for number, expected in enumerate(steps_of(name, None, "global")):
        first, second = (steps[name][number] for steps in ranks)
        for term in RANKED[name]:
            # Logged values and gradients are means over the ranks.
            mean = (first.terms[term] + second.terms[term]) / 2
            torch.testing.assert_close(mean, expected.terms[term], rtol=1e-9, atol=1e-12)
            for one, other, whole in zip(
                first.gradients[term], second.gradients[term], expected.gradients[term], strict=True
            ):
                torch.testing.assert_close(torch.cat([one, other]) / 2, whole, rtol=1e-9, atol=1e-12)
        if name != "ranksort":  # whose other terms are each rank's part
            assert first.terms["loss_classifier"] == second.terms["loss_classifier"]


def test_ranks_balance_localisation_as_one_process_does(ranks: list[dict[str, list[Step]]]) -> None:
    for number, step in enumerate(steps_of("alrp", None, "global")):
        for steps in ranks:
            torch.testing.assert_close(steps["alrp"][number].state, step.state, rtol=1e-12, atol=0.0)


def test_ranks_that_rank_for_themselves_share_the_balance(ranks: list[dict[str, list[Step]]]) -> None:
    """Three images are seen in a step, five are an epoch: the second step ends the first."""
    first, second = (steps["own"] for steps in ranks)
    for one, other in zip(first, second, strict=True):
        assert one.state.keys() and all(torch.equal(value, other.state[key]) for key, value in one.state.items())
    sums = torch.zeros(2, dtype=torch.float64)
    for steps in (first, second):
        for step in steps[:2]:
            sums += torch.stack([step.terms["loss_classifier"], step.terms["loss_box_reg"] / 50])
    weight = (sums.sum() / sums[1]).item()
    assert [step.state["localisation_weight"].item() for step in first[:3]] == pytest.approx([50, weight, weight])
    assert first[0].terms["loss_classifier"] != second[0].terms["loss_classifier"]
