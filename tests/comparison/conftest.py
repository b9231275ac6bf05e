"""Run folders as training leaves them, of made-up detectors on 40 images."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.comparison.made_up_runs import scene, write_run


@pytest.fixture
def made_up_run(tmp_path: Path) -> Callable[..., Path]:
    """A function that makes a run folder: its name, how much its detector finds, and its config."""
    annotations = tmp_path / "instances_val.json"
    annotations.write_text(json.dumps(scene(np.random.default_rng(0))))

    def make(name: str, quality: float = 0.5, *, random: int = 0, **settings: object) -> Path:
        return write_run(tmp_path / name, annotations, quality, random, settings)

    return make
