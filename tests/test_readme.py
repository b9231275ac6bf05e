"""What the README shows must run."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from detloss import losses

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


CLASS_LOSSES = sorted(
    name for name in losses.__all__ if name != "ClassLoss" and issubclass(getattr(losses, name), losses.ClassLoss)
)


@pytest.mark.parametrize("name", CLASS_LOSSES)
def test_the_library_example_runs_as_it_stands_and_with_every_loss(
    name: str, tiny_coco: Callable[..., tuple[Path, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotations, _ = tiny_coco(4)
    (tmp_path / "instances_train.json").write_text(annotations.read_text())
    monkeypatch.chdir(tmp_path)
    example = next(block for block in blocks("python") if "ClassStats.from_coco" in block)
    assert len(example.splitlines()) <= 10
    names: dict[str, object] = {}
    exec(re.sub(r"\bECM\b", name, example), names)
    scores, logits = names["scores"], names["logits"]
    assert isinstance(scores, torch.Tensor) and isinstance(logits, torch.Tensor)
    assert scores.shape == (512, 5) and logits.grad is not None


def test_a_loss_made_as_the_readme_says_trains_by_its_name(
    tiny_coco: Callable[..., tuple[Path, Path]], tmp_path: Path
) -> None:
    """In a copy of the package, as somebody would add it in theirs."""
    root = Path(__file__).parents[1]
    package = tmp_path / "code" / "detloss"
    shutil.copytree(root / "detloss", package)
    shutil.copytree(root / "cli", package / "cli")
    shutil.copytree(root / "conf", package / "conf")
    module = next(block for block in blocks("python") if "class Poly1" in block)
    body = module[module.index("class Poly1") :].strip()
    assert len(body.splitlines()) <= 20
    (package / "losses" / "poly1.py").write_text(module)
    (option,) = (block for block in blocks("yaml") if "poly1" in block)
    (package / "conf" / "loss" / "poly1.yaml").write_text(option)
    annotations, images = tiny_coco(4)
    words = (
        f"train model=fasterrcnn loss=poly1 loss.two_stage.epsilon=2 dataset=coco backbone=tiny schedule=quick "
        f"schedule.steps=2 schedule.batch_size=2 trainer.workers=0 dataset.scales=[64] dataset.eval_scale=64 "
        f"dataset.max_size=96 dataset.train.annotations={annotations} dataset.train.images={images} "
        f"dataset.val.annotations={annotations} dataset.val.images={images} output_dir={tmp_path / 'run'}"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "code"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "detloss", *words.split()],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "epsilon: 2" in (tmp_path / "run" / "config.yaml").read_text()
    assert (tmp_path / "run" / "metrics.json").is_file()


def test_every_option_the_readme_names_exists() -> None:
    conf = Path(__file__).parents[1] / "conf"
    for group in ("dataset", "model", "loss", "backbone", "logger"):
        for option in re.findall(rf"\b{group}=([a-z0-9_,]+)", README):
            for name in set(option.split(",")) - {"poly1"}:  # the reader's own
                assert (conf / group / f"{name}.yaml").is_file(), f"{group}={name}"
