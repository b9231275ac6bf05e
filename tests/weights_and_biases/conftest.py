"""Small trainings with W&B, offline unless a test says otherwise."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_module

from detloss.launch import launch
from tests.conftest import TinyCoco, write_tiny_coco

SMALL = (
    "dataset=coco", "backbone=tiny", "backbone.norm=group", "backbone.channels=32", "schedule=quick",
    "schedule.batch_size=4", "schedule.lr=0.001", "schedule.warmup_steps=0", "schedule.decay=step",
    "schedule.milestones=[1.0]",
    "dataset.scales=null", "dataset.eval_scale=64", "trainer.workers=0", "trainer.log_every=1",
    "trainer.device=cpu", "trainer.probe.every=1", "logger=wandb", "logger.tags=[a,b]",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def hydra() -> Iterator[None]:
    with initialize_config_module("detloss.conf", version_base="1.3"):
        yield


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("NETRC", str(tmp_path / "no_netrc"))


def train(folder: Path, data: TinyCoco, *words: str, sweep: str | None = None) -> Path:
    """Train on eight images; the last words win."""
    paths = [f"dataset.{part}.annotations={data.annotations}" for part in ("train", "val")]
    paths += [f"dataset.{part}.images={data.images}" for part in ("train", "val")]
    folder.mkdir(exist_ok=True)
    launch(compose("train", overrides=[*SMALL, *paths, *words]), folder, sweep=sweep)
    return folder


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def values(folder: Path) -> dict[tuple[int, str], float]:
    """Return what ``metrics.jsonl`` says, by step and name."""
    said = {(line["step"], name): value for line in lines(folder) for name, value in line.items()}
    return {(step, name): value for (step, name), value in said.items() if name != "step" and value is not None}


def finished_without_wandb(folder: Path) -> Path:
    """Train two steps and require all that ``metrics.jsonl`` is to hold."""
    data = write_tiny_coco(folder / "tiny")
    run = train(folder / "run", data, "model=fasterrcnn", "loss=ce", "schedule.steps=2")
    names = [{*line} for line in lines(run)]
    assert sum("loss" in line for line in names) == 2
    assert sum("gradient/ratio" in line for line in names) == 2
    assert sum("bbox/AP" in line for line in names) == 1
    assert (run / "metrics.json").exists() and (run / "last.ckpt").exists()
    return run


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the lines of detloss about W&B."""
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("W&B")]
