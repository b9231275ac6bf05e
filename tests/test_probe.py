"""The gradient probe against gradients by hand: autograd's on every logit, summed row by row in float64."""

import copy
import multiprocessing
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import yaml
from hydra import compose, initialize_config_module
from torch import Tensor, nn

from detloss import build, probe
from detloss.gradients import ClassGradients
from detloss.losses import CrossEntropy, DetectionLoss, Samples
from detloss.losses.base import ClassPlusBox
from detloss.losses.box import SmoothL1
from detloss.probe import GradientProbe
from tests.losses.conftest import COUNTS, stats_of

CLASSES, ROWS, FEATURES = len(COUNTS), 40, 6
GROUPS = ("f", "f", "c", "r", "r")
CONF = Path(__file__).parents[1] / "conf" / "loss"
MODELS = {"two_stage": "fasterrcnn", "one_stage": "retinanet"}
ZOO = [
    (path.stem, stage)
    for path in sorted(CONF.glob("*.yaml"))
    for stage in MODELS
    if stage in yaml.safe_load(path.read_text(encoding="utf-8"))
]


@pytest.fixture(scope="module", autouse=True)
def hydra() -> Iterator[None]:
    with initialize_config_module("detloss.conf", version_base="1.3"):
        yield


class Head(nn.Module):
    """Two linear branches on the same features, and a loss."""

    def __init__(self, loss: DetectionLoss) -> None:
        super().__init__()
        self.classification_head = nn.Linear(FEATURES, loss.coder.num_logits)
        self.regression_head = nn.Linear(FEATURES, 4)
        self.loss = loss


class Detector(nn.Module):
    """As small as a detector can be that the probe knows: features go in and loss terms come out."""

    def __init__(self, loss: DetectionLoss) -> None:
        super().__init__()
        self.head = Head(loss)
        self.double()

    def forward(self, features: Tensor, seed: int) -> dict[str, Tensor]:
        """Both branches see the same features."""
        terms: dict[str, Tensor] = self.head.loss(self.samples(features, features, seed)[0])
        return terms

    def samples(self, for_classes: Tensor, for_boxes: Tensor, seed: int) -> tuple[Samples, Tensor]:
        logits = self.head.classification_head(for_classes)
        offsets = self.head.regression_head(for_boxes)
        generator = torch.Generator().manual_seed(seed)
        labels = torch.randint(2 * CLASSES, (ROWS,), generator=generator).clamp(max=CLASSES)
        weights = torch.rand(ROWS, generator=generator, dtype=torch.float64) + 0.1
        weights[3::7] = 0
        foreground = torch.nonzero((labels < CLASSES) & (weights > 0)).squeeze(1)
        corners = torch.rand(len(foreground), 2, generator=generator, dtype=torch.float64) * 40
        targets = torch.cat([corners, corners + 20], dim=1)
        made = Samples(
            logits=logits,
            labels=labels,
            weights=weights,
            foreground=foreground,
            boxes=targets + 3 * offsets[foreground],
            target_boxes=targets,
            deltas=offsets[foreground],
            target_deltas=torch.zeros_like(targets),
            image_index=torch.arange(ROWS) * 3 // ROWS,
            object_index=torch.arange(len(foreground)) // 2,
        )
        return made, logits


def features_of(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(100 + seed)
    return 2 * torch.randn(ROWS, FEATURES, generator=generator, dtype=torch.float64)


def detector_of(name: str, stage: str) -> Detector:
    cfg = compose("train", overrides=[f"loss={name}", f"model={MODELS[stage]}"])
    torch.manual_seed(1)
    return Detector(build.detection_loss(cfg, stats_of(COUNTS))).train()


def by_hand(detector: Detector, seed: int) -> tuple[list[list[float]], tuple[float, float]]:
    """Own, other and background gradient by class, and the norms of what the branches send back."""
    leaves = [features_of(seed).requires_grad_() for _ in range(2)]
    samples, logits = detector.samples(*leaves, seed)
    terms = detector.head.loss(samples)
    total = torch.stack(list(terms.values())).sum()
    gradient, *of_features = torch.autograd.grad(total, [logits, *leaves], allow_unused=True)
    sums = [[0.0] * CLASSES for _ in range(3)]
    columns = detector.head.loss.coder.class_columns.tolist()
    for row, label in zip(gradient.tolist(), samples.labels.tolist(), strict=True):
        for index, column in enumerate(columns):
            kind = 2 if label == CLASSES else 0 if label == index else 1
            sums[kind][index] += abs(row[column])
    first, second = (sum(value**2 for value in part.flatten().tolist()) ** 0.5 for part in of_features)
    return sums, (first, second)


def watch(detector: Detector, probe: GradientProbe, number: int, seeds: list[int], scale: float = 1.0) -> None:
    """Backward passes of one step, a micro batch for each seed."""
    with probe.on_step(number):
        for seed in seeds:
            terms = detector(features_of(seed).requires_grad_(), seed)
            (scale * torch.stack(list(terms.values())).sum() / len(seeds)).backward()


def unscaled() -> torch.amp.GradScaler:
    return torch.amp.GradScaler("cpu", enabled=False)


def assert_sums(found: ClassGradients, expected: list[list[float]]) -> None:
    for got, wanted in zip((found.own, found.others, found.background), expected, strict=True):
        assert got.tolist() == pytest.approx(wanted, rel=1e-12, abs=1e-300)


@pytest.mark.parametrize(("name", "stage"), ZOO)
def test_sums_and_norms_are_those_of_autograds_gradients_by_hand(name: str, stage: str) -> None:
    detector = detector_of(name, stage)
    twin = copy.deepcopy(detector)
    probe = GradientProbe(detector, unscaled(), every=1, last_step=1)
    torch.manual_seed(7)  # some losses draw
    watch(detector, probe, 0, [3])
    torch.manual_seed(7)
    expected, norms = by_hand(twin, 3)
    values, found = probe.end_window(GROUPS)
    assert_sums(found, expected)
    assert sum(expected[0]) > 0
    assert (sum(expected[2]) > 0) == (name != "seesaw")  # which asks background rows for objectness alone
    pushed, pulled = sum(expected[1]) + sum(expected[2]), sum(expected[0])
    assert values["gradient/ratio"] == pytest.approx(pushed / pulled, rel=1e-12)
    assert values["gradient/ratio_min"] == values["gradient/ratio_max"]
    assert values["gradient/classification_norm"] == pytest.approx(norms[0], rel=1e-9)
    assert values["gradient/box_norm"] == pytest.approx(norms[1], rel=1e-9)


@pytest.mark.parametrize("name", ["alrp", "ap"])
def test_losses_that_rank_balance_positive_and_negative_gradient(name: str) -> None:
    """Theorem 2 of aLRP (NeurIPS 2020)."""
    detector = detector_of(name, "one_stage")
    probe = GradientProbe(detector, unscaled(), every=1, last_step=3)
    for number in range(3):
        watch(detector, probe, number, [number])
    values, _ = probe.end_window(GROUPS)
    assert values["gradient/ratio_min"] == pytest.approx(1, abs=1e-9)
    assert values["gradient/ratio_max"] == pytest.approx(1, abs=1e-9)


def assert_mean_of_two(detector: Detector, values: dict[str, float | None], found: ClassGradients) -> None:
    """Compare with half of what the batches of seeds 1 and 2 give by hand."""
    first, second = by_hand(detector, 1), by_hand(detector, 2)
    means = [[(a + b) / 2 for a, b in zip(*pair, strict=True)] for pair in zip(first[0], second[0], strict=True)]
    assert_sums(found, means)
    norm = (first[1][0] ** 2 + second[1][0] ** 2) ** 0.5 / 2  # of both batches' features, side by side
    assert values["gradient/classification_norm"] == pytest.approx(norm, rel=1e-9)


def test_micro_batches_add_up_and_the_scale_of_half_precision_is_taken_out() -> None:
    detector = detector_of("ce", "two_stage")
    twin = copy.deepcopy(detector)
    scaler = torch.amp.GradScaler("cpu", init_scale=4096.0)
    probe = GradientProbe(detector, scaler, every=1, last_step=1)
    watch(detector, probe, 0, [1, 2], scale=float(scaler.scale(torch.tensor(1.0))))
    assert_mean_of_two(twin, *probe.end_window(GROUPS))


def plain_detector() -> Detector:
    torch.manual_seed(1)
    return Detector(ClassPlusBox(CrossEntropy(stats_of(COUNTS)), SmoothL1())).train()


def run_rank(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'meeting_point'}", rank=rank, world_size=2,
        timeout=timedelta(seconds=60),
    )  # fmt: skip
    detector = plain_detector()
    probe = GradientProbe(detector, unscaled(), every=1, last_step=1)
    watch(detector, probe, 0, [1 + rank])
    torch.save(probe.end_window(GROUPS), folder / f"rank_{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_every_rank_has_the_means_of_all(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=run_rank, args=(rank, tmp_path)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        if process.is_alive():
            process.kill()
    assert [process.exitcode for process in processes] == [0, 0]
    for rank in range(2):
        assert_mean_of_two(plain_detector(), *torch.load(tmp_path / f"rank_{rank}.pt", weights_only=False))


def test_ratios_of_classes_and_groups_are_of_sums_and_undefined_without_positives() -> None:
    values, found = windowed(own=[1.0, 3.0, 0.0, 2.0, 0.0], others=[1.0, 0.0, 1.0, 1.0, 0.0], background=[2.0] * 5)
    assert found.ratios()[[0, 1, 3]].tolist() == pytest.approx([3.0, 2 / 3, 1.5])
    assert found.ratios()[[2, 4]].tolist() == pytest.approx([float("nan")] * 2, nan_ok=True)
    assert values == pytest.approx({"f": 5 / 4, "c": None, "r": 5 / 2})


def windowed(**sums: list[float]) -> tuple[dict[str, float | None], ClassGradients]:
    found = ClassGradients.from_lists(sums)
    return found.group_ratios(GROUPS), found


def test_only_every_nth_step_is_looked_at_and_windows_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "WINDOWS", 2)
    detector = detector_of("ce", "two_stage")
    twin = copy.deepcopy(detector)
    watcher = GradientProbe(detector, unscaled(), every=2, last_step=11)
    ends, totals = [], []
    for number in range(11):
        watch(detector, watcher, number, [number])
        if watcher.window_ends(number + 1):
            ends.append(number + 1)
            totals.append(watcher.end_window(GROUPS)[1])
    assert ends == [6, 11]  # three probed steps each: a window is a multiple of `every`
    for seen, found in zip([(0, 2, 4), (6, 8, 10)], totals, strict=True):
        parts = [by_hand(twin, number)[0] for number in seen]
        expected = [[sum(column) for column in zip(*kind, strict=True)] for kind in zip(*parts, strict=True)]
        assert_sums(found, expected)


def test_a_probe_resumed_in_the_middle_of_a_window_goes_on_as_if_it_had_never_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probe, "WINDOWS", 1)
    detector = detector_of("focal", "one_stage")
    whole, first, second = (GradientProbe(detector, unscaled(), every=1, last_step=4) for _ in range(3))
    for number in range(4):
        watch(detector, whole, number, [number])
    for number in range(2):
        watch(detector, first, number, [number])
    second.load_state_dict(first.state_dict())
    for number in range(2, 4):
        watch(detector, second, number, [number])
    ends = [each.end_window(GROUPS) for each in (whole, second)]
    assert ends[0][0] == ends[1][0]
    assert ends[0][1].to_lists() == ends[1][1].to_lists()


def test_a_step_whose_gradient_overflows_is_left_out() -> None:
    detector = detector_of("ce", "two_stage")
    watcher = GradientProbe(detector, unscaled(), every=1, last_step=2)
    watch(detector, watcher, 0, [0], scale=float("inf"))
    assert not watcher.window_ends(2)
    watch(detector, watcher, 1, [1])
    assert watcher.window_ends(2)
    assert watcher.end_window(GROUPS)[0]["gradient/ratio"] is not None


def test_the_losses_of_region_proposals_are_not_looked_at() -> None:
    detector = detector_of("ce", "two_stage")
    detector.rpn = Head(ClassPlusBox(CrossEntropy(stats_of([5])), SmoothL1()))
    assert probe.classification_losses(detector) == [detector.head.loss]


def test_no_hook_stays_and_none_is_there_on_other_steps() -> None:
    detector = detector_of("ce", "two_stage")
    for every in (None, 0, 3):
        with GradientProbe(detector, unscaled(), every=every, last_step=9).on_step(1):
            assert not any(module._forward_pre_hooks for module in detector.modules())
    watch(detector, GradientProbe(detector, unscaled(), every=3, last_step=9), 3, [0])
    assert not any(module._forward_pre_hooks for module in detector.modules())
