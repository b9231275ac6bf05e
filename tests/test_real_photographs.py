"""The four detectors on real photographs; skipped where those are not at hand."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module

from detloss import checkpoint
from detloss.launch import launch

ROOT = Path(__file__).parents[2] / "shared" / "data" / "coco_mini"
pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason="needs ../shared/data/coco_mini")

WORDS = (
    "dataset=coco",
    f"dataset.root={ROOT}",
    "backbone=tiny",
    "schedule=quick",
    "schedule.batch_size=2",
    "dataset.scales=[96,128]",
    "dataset.eval_scale=96",
    "dataset.max_size=192",
    "trainer.workers=0",
    "trainer.device=cpu",
    "trainer.log_every=1",
    "logger=jsonl",
)


@pytest.fixture(scope="module", autouse=True)
def hydra() -> Iterator[None]:
    with initialize_config_module("detloss.conf", version_base="1.3"):
        yield


@pytest.mark.parametrize(
    "words",
    [
        ("model=maskrcnn", "loss=ecm", "trainer.precision=bf16"),
        ("model=fasterrcnn", "loss=ce", "sampler=rfs"),
        ("model=retinanet", "loss=ecm"),
        ("model=fcos", "loss=focal", "schedule.optimizer=adamw"),
    ],
    ids=lambda words: words[0],
)
def test_a_detector_trains_evaluates_and_resumes_with_eleven_classes_that_never_occur(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    for steps in (2, 3):
        metrics = launch(compose("train", overrides=[*WORDS, *words, f"schedule.steps={steps}"]), tmp_path)
    kinds = {"bbox", "segm"} if "model=maskrcnn" in words else {"bbox"}
    assert metrics.keys() == kinds == json.loads((tmp_path / "metrics.json").read_text()).keys()
    assert all(0 <= metrics[kind]["AP"] <= 1 for kind in kinds)  # type: ignore[operator]
    saved = checkpoint.load(tmp_path / "last.ckpt")
    assert saved.progress.step == 3 and (saved.stats.instances == 0).sum() == 11
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3]
    assert all(line["loss"] is not None for line in lines if "loss" in line)  # null = not finite
