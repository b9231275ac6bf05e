"""What the README shows must run."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_library_example_runs_as_it_stands(
    tiny_coco: Callable[..., tuple[Path, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotations, _ = tiny_coco(4)
    (tmp_path / "instances_train.json").write_text(annotations.read_text())
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(example, names)
    scores, logits = names["scores"], names["logits"]
    assert isinstance(scores, torch.Tensor) and isinstance(logits, torch.Tensor)
    assert scores.shape == (512, 5) and logits.grad is not None


def test_every_option_the_readme_names_exists() -> None:
    conf = Path(__file__).parents[1] / "conf"
    for group in ("dataset", "model", "loss", "backbone", "logger"):
        for option in re.findall(rf"\b{group}=([a-z0-9_,]+)", README):
            for name in option.split(","):
                assert (conf / group / f"{name}.yaml").is_file(), f"{group}={name}"
