"""The gradient probe in whole runs, small ones: it must not touch them, nor depend on how they are cut up."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_module

from detloss import checkpoint
from detloss.launch import launch

# Everything small, every proposal taken, no statistics of the batch in the norm.
SMALL = (
    "dataset=coco", "backbone=tiny", "backbone.norm=group", "backbone.channels=32", "schedule=quick",
    "schedule.batch_size=4", "schedule.lr=0.001", "schedule.warmup_steps=0", "schedule.decay=step",
    "schedule.milestones=[1.0]",
    "dataset.scales=null", "dataset.eval_scale=64", "trainer.workers=0", "trainer.log_every=1",
    "trainer.device=cpu", "logger=jsonl", "model.detector.rpn_batch_per_image=100000",
    "model.detector.rpn_positive_fraction=1.0", "model.detector.box_batch_per_image=100000",
    "model.detector.box_positive_fraction=1.0",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def hydra() -> Iterator[None]:
    with initialize_config_module("detloss.conf", version_base="1.3"):
        yield


@pytest.fixture
def run(tiny_coco: Callable[..., tuple[Path, Path]], tmp_path: Path) -> Callable[..., Path]:
    """A function that trains on eight images in the folder of a name and returns the folder."""
    annotations, images = tiny_coco(8)
    data = [f"dataset.{part}.annotations={annotations}" for part in ("train", "val")]
    data += [f"dataset.{part}.images={images}" for part in ("train", "val")]

    def train(name: str, *words: str) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        dense = any(word in ("model=retinanet", "model=fcos") for word in words)
        small = [word for word in SMALL if not (dense and "detector" in word)]
        launch(compose("train", overrides=[*small, *data, *words]), folder)
        return folder

    return train


def lines(folder: Path, name: str = "gradients.jsonl") -> list[dict]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


@pytest.mark.parametrize(
    "words", [("model=maskrcnn", "loss=ecm"), ("model=retinanet", "loss=focal"), ("model=fcos", "loss=ranksort")]
)
def test_weights_are_the_same_bit_by_bit_with_the_probe_and_without(
    run: Callable[..., Path], words: tuple[str, ...]
) -> None:
    on = run("on", *words, "schedule.steps=3", "trainer.probe.every=1")
    off = run("off", *words, "schedule.steps=3", "trainer.probe.every=null")
    first, second = (checkpoint.load(folder / "last.ckpt") for folder in (on, off))
    assert first.model.keys() == second.model.keys()
    assert all(torch.equal(first.model[name], second.model[name]) for name in first.model)
    assert len(lines(on)) == 3 and not (off / "gradients.jsonl").exists()
    assert not any("gradient" in key for line in lines(off, "metrics.jsonl") for key in line)


def test_a_resumed_run_writes_the_lines_of_one_that_never_stopped(run: Callable[..., Path]) -> None:
    words = ("model=fasterrcnn", "loss=eqlv2", "trainer.probe.every=1")
    whole = run("whole", *words, "schedule.steps=4")
    parts = run("parts", *words, "schedule.steps=2")
    with (parts / "gradients.jsonl").open("a") as file:
        file.write('{"step":3,"own":[9],"others":[9],"background":[9]}\n{"step":4,"ow')  # work lost in a crash
    run("parts", *words, "schedule.steps=4")
    assert (whole / "gradients.jsonl").read_text() == (parts / "gradients.jsonl").read_text()
    rates = [
        [line for line in lines(folder, "metrics.jsonl") if "gradient/ratio_max" in line]
        for folder in (whole, parts)
    ]
    assert rates[0] == rates[1] and len(rates[0]) == 4


def test_two_ranks_of_a_run_sum_up_to_one_process(run: Callable[..., Path]) -> None:
    words = ("model=fasterrcnn", "loss=ecm", "schedule.steps=2", "trainer.probe.every=1")
    one, two = run("one", *words), run("two", *words, "trainer.devices=2")
    for first, second in zip(lines(one), lines(two), strict=True):
        for kind in ("own", "others", "background"):
            assert sum(first[kind]) > 0
            assert second[kind] == pytest.approx(first[kind], rel=1e-3, abs=1e-7)
    for first, second in zip(lines(one, "metrics.jsonl"), lines(two, "metrics.jsonl"), strict=True):
        norms = [{key: line[key] for key in line if "_norm" in key} for line in (first, second)]
        assert norms[1] == pytest.approx(norms[0], rel=1e-3)
