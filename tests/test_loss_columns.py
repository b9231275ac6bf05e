"""Every column of a loss against the loss itself, built by the same words as a training would build it."""

from collections.abc import Callable
from functools import cache
from importlib.resources import files

import hydra
import numpy as np
import pytest
import torch
import yaml
from omegaconf import DictConfig, OmegaConf

from detloss import build
from detloss.errors import UserError
from detloss.loss_columns import loss_columns
from detloss.losses import ClassLoss, ClassPlusBox
from detloss.losses.seesaw import Seesaw
from detloss.stats import ClassStats
from detloss.stats_table import Column

OPTIONS = sorted(
    entry.name.removesuffix(".yaml")
    for entry in (files("detloss.conf") / "loss").iterdir()
    if entry.name.endswith(".yaml")
)
STAGES = {
    name: [stage for stage in ("two_stage", "one_stage") if stage in content]
    for name in OPTIONS
    for content in [yaml.safe_load((files("detloss.conf") / "loss" / f"{name}.yaml").read_text())]
}
BOTH = [(name, stage) for name in OPTIONS for stage in STAGES[name]]

STATS = ClassStats(
    names=("cat", "dog", "yak", "emu", "owl", "gnu"),
    category_ids=(2, 3, 7, 20, 21, 22),
    num_images=2000,
    instances=np.array([3, 4096, 1, 0, 150, 400]),
    images=np.array([2, 1500, 1, 0, 60, 200]),
    num_annotated_images=1900,
)


@cache
def composed(name: str, stage: str, *words: str) -> DictConfig:
    model = "maskrcnn" if stage == "two_stage" else "retinanet"
    with hydra.initialize_config_module("detloss.conf", version_base="1.3"):
        return hydra.compose("train", overrides=[f"model={model}", f"loss={name}", *words])


def columns_of(cfg: DictConfig, stage: str, stats: ClassStats = STATS) -> dict[str, Column]:
    options = OmegaConf.to_container(cfg.loss[stage], resolve=True)
    found = loss_columns(cfg.loss.name, options["_target_"], options, stats)
    assert all(column.name.startswith(f"{cfg.loss.name}.") for column in found)
    return {column.name.partition(".")[2]: column for column in found}


def class_loss(cfg: DictConfig, stats: ClassStats = STATS) -> ClassLoss:
    built = build.detection_loss(cfg, stats)
    assert isinstance(built, ClassPlusBox)
    return built.class_loss


def with_background(column: Column) -> list[float]:
    assert column.background is not None
    return [*column.values.tolist(), column.background]


# What a loss of this name keeps, [C] or [C + 1], and the columns that must say the same.
BUFFERS: dict[str, Callable[[ClassLoss], dict[str, object]]] = {
    "ecm": lambda loss: {"logit_shift": loss.shift, "detection_weight": loss.class_weight},
    "class_balanced": lambda loss: {"weight": loss.class_weight},
    "grw": lambda loss: {"weight": loss.class_weight},
    "ldam": lambda loss: {"margin": loss.margin},
    "logit_adjustment": lambda loss: {"logit_shift": loss.shift},
    "iif": lambda loss: {"multiplier": loss.multiplier},
    "eql": lambda loss: {"tail": loss.tail},
    "droploss": lambda loss: {"tail": loss.tail},
    "gol": lambda loss: {"tail": loss.tail},
    "federated": lambda loss: {"draw_share": loss.class_weight / loss.class_weight.sum()},
}

CHANGES = [
    ("ecm", "loss.two_stage.background_ratio=2.5"),
    ("class_balanced", "loss.two_stage.beta=0.99"),
    ("grw", "loss.two_stage.exponent=0.3"),
    ("ldam", "loss.two_stage.max_margin=1.5"),
    ("logit_adjustment", "loss.two_stage.tau=0.5"),
    ("logit_adjustment", "loss.two_stage.background_ratio=4"),
    ("iif", "loss.two_stage.variant=base10"),
    ("iif", "loss.two_stage.count=instances"),
    ("eql", "dataset.tail_fraction=0.01"),
    ("droploss", "dataset.tail_fraction=0.01"),
    ("gol", "dataset.tail_fraction=0"),
    ("federated", "loss.two_stage.power=1"),
]


def assert_equal(cfg: DictConfig, stage: str) -> None:
    found = columns_of(cfg, stage)
    for name, tensor in BUFFERS[cfg.loss.name](class_loss(cfg)).items():
        expected = torch.as_tensor(tensor).double().tolist()
        column = found[name]
        ours = (
            with_background(column)
            if len(expected) > STATS.num_classes and column.background is not None
            else (column.values.tolist())
        )
        np.testing.assert_allclose(ours, expected[: len(ours)], rtol=1e-12)
        assert len(ours) == len(expected) or stage == "one_stage"


@pytest.mark.parametrize(("name", "stage"), [(name, stage) for name, stage in BOTH if name in BUFFERS])
def test_columns_are_what_the_loss_keeps(name: str, stage: str) -> None:
    assert_equal(composed(name, stage), stage)


@pytest.mark.parametrize(("name", "change"), CHANGES)
def test_columns_follow_the_losss_own_hyper_parameters(name: str, change: str) -> None:
    changed = composed(name, "two_stage", change)
    assert_equal(changed, "two_stage")
    usual, found = columns_of(composed(name, "two_stage"), "two_stage"), columns_of(changed, "two_stage")
    assert any(not np.array_equal(usual[key].values, found[key].values) for key in found)


@pytest.mark.parametrize(("name", "stage"), BOTH)
def test_every_loss_that_the_counts_drive_has_columns(name: str, stage: str) -> None:
    """A loss is driven by the counts if anything that it is made of differs between two data sets."""
    cfg = composed(name, stage)
    even = ClassStats(
        STATS.names, STATS.category_ids, 2000, np.full(6, 300), np.full(6, 250), STATS.num_annotated_images
    )

    def made_of(stats: ClassStats) -> list[object]:
        loss = build.detection_loss(cfg, stats)
        buffers = [(key, value.tolist()) for key, value in loss.named_buffers()]
        return [*buffers, loss.coder.meaning]

    # Seesaw counts for itself in training; the column says what the annotations would make of it.
    driven = made_of(STATS) != made_of(even) or name == "seesaw"
    assert bool(columns_of(cfg, stage)) == driven


def test_seesaws_factors_are_those_of_the_loss_after_as_many_labels() -> None:
    cfg = composed("seesaw", "two_stage", "loss.two_stage.p=0.6")
    loss = class_loss(cfg)
    assert isinstance(loss, Seesaw)
    loss.counts.copy_(torch.from_numpy(STATS.instances))
    # Equal logits compensate for nothing, which leaves the mitigation.
    factors = loss._log_factors(torch.zeros(6, 6, dtype=torch.float64), torch.arange(6)).exp()
    others = ~torch.eye(6, dtype=torch.bool)
    found = columns_of(cfg, "two_stage")
    for place, matrix in (("as_label", factors), ("as_negative", factors.t())):
        mean = [float(row[kept].mean()) for row, kept in zip(matrix, others, strict=True)]
        least = [float(row[kept].min()) for row, kept in zip(matrix, others, strict=True)]
        np.testing.assert_allclose(found[f"{place}_mean"].values, mean, rtol=1e-12)
        np.testing.assert_allclose(found[f"{place}_min"].values, least, rtol=1e-12)


def test_bins_are_those_of_the_losss_logits() -> None:
    cfg = composed("bags", "two_stage", "loss.two_stage.bins=[10,200]")
    coder = class_loss(cfg).coder
    found = columns_of(cfg, "two_stage")
    for index, classes in enumerate(coder.classes_of_bin):
        assert np.flatnonzero(found["bin"].values == index).tolist() == list(classes)
        assert (found["bin_classes"].values[list(classes)] == len(classes)).all()


def test_background_shares_are_how_often_acsl_lets_background_discourage_a_class() -> None:
    cfg = composed("acsl", "two_stage", "loss.two_stage.rare_share=0.25", "loss.two_stage.common_share=0.5")
    loss = class_loss(cfg)
    logits = torch.full((800, 7), -3.0, dtype=torch.float64, requires_grad=True)
    loss(logits, torch.full((800,), 6)).backward()
    discouraged = (logits.grad[:, :6] > 0).double().mean(dim=0)
    assert discouraged.tolist() == columns_of(cfg, "two_stage")["background_share"].values.tolist()


def test_one_class_and_one_that_never_occurs_stay_finite() -> None:
    alone = ClassStats(("cat",), (1,), 5, np.array([0]), np.array([0]))
    for name, stage in BOTH:
        for column in columns_of(composed(name, stage), stage, alone).values():
            assert column.values.shape == (1,) and np.isfinite(column.values).all(), column.name


def test_hyper_parameters_that_do_not_fit_are_refused_as_in_training() -> None:
    options = {"beta": "much"}
    with pytest.raises(UserError, match=r"^loss\.two_stage\.beta=much: expected a number$"):
        loss_columns("cb", "detloss.losses.ClassBalanced", options, STATS, option="loss.two_stage")
    with pytest.raises(UserError, match=r"beta must be at least 0 and below 1, got 1\.5"):
        loss_columns("cb", "detloss.losses.ClassBalanced", {"beta": 1.5}, STATS)
