"""Run folders of made-up detectors with all that a report shows: images, losses, gradients."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from tests.comparison.made_up_runs import CLASSES, scene, write_run

OWN = [[1.0, 4.0, 10.0], [0.0, 8.0, 20.0]]
OTHERS = [[30.0, 6.0, 3.0], [2.0, 5.0, 12.0]]
BACKGROUND = [[10.0, 2.0, 2.0], [3.0, 3.0, 8.0]]
"""Gradients of two windows, by class: rare, common, frequent."""


def write_scene(folder: Path, *, images: bool = True) -> Path:
    """Write 40 images of noise and their COCO file, which is returned."""
    content = scene(np.random.default_rng(0))
    random = np.random.default_rng(1)
    for row in content["images"] if images else []:  # type: ignore[attr-defined]
        Image.fromarray(random.integers(0, 255, (100, 100, 3), dtype=np.uint8)).save(folder / row["file_name"])
    path = folder / "instances_val.json"
    path.write_text(json.dumps(content))
    return path


def write_whole_run(
    folder: Path, annotations: Path, quality: float = 0.5, *, random: int = 0, **settings: object
) -> Path:
    """Write a run's folder with a detector that finds a share ``quality``, losses, gradients and AP on the way."""
    write_run(folder, annotations, quality, random, settings)
    lines = [{"step": step, "loss": 20.0 / step + random} for step in (10, 20, 30, 40)]
    lines += [{"step": 40, "gradient/ratio_min": 0.25, "gradient/ratio_max": 31.5}]
    lines += [{"step": 20, "bbox/AP": 0.1}, {"step": 40, "bbox/AP": quality}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    windows = [
        {"step": step, "own": own, "others": others, "background": background}
        for step, own, others, background in zip((20, 40), OWN, OTHERS, BACKGROUND, strict=True)
    ]
    (folder / "gradients.jsonl").write_text("".join(json.dumps(window) + "\n" for window in windows))
    return folder


def six_runs(folder: Path) -> list[Path]:
    """Write three methods with two seeds each."""
    annotations = write_scene(folder)
    return [
        write_whole_run(
            folder / "runs" / f"{loss}{seed}", annotations, quality, random=seed, seed=seed, loss__name=loss
        )
        for loss, quality in (("ce", 0.4), ("seesaw", 0.6), ("gol", 0.9))
        for seed in (0, 1)
    ]


__all__ = ["CLASSES", "six_runs", "write_scene", "write_whole_run"]
