"""A run's folder as figures: losses, and what its gradient probe found."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from detloss import build, gradients, margins, run_folder
from detloss.errors import UserError
from detloss.plots.balance import Balance, draw_classes, draw_heat_map, draw_ratios
from detloss.plots.figure import write_figures
from detloss.plots.history import Line, curve, draw_history
from detloss.stats import ClassStats, frequency_groups


def plot_run(run: Path, output: Path) -> list[Path]:
    """Draw what ``metrics.jsonl`` and ``gradients.jsonl`` of a run hold; return the files, PNG and SVG.

    Raises:
        UserError: the folder is no run, nothing was logged, or a file is damaged.
    """
    cfg = run_folder.load_config(run)
    title = f"{cfg.dataset.name}, {cfg.model.name}, {cfg.loss.name}"
    lines = read_metrics_lines(run / "metrics.jsonl")
    figures = {"history": draw_history(lines, title)}
    if (run / gradients.FILE).exists():
        balance = read_balance(run, cfg, lines, title)
        figures["gradient_ratio"] = draw_ratios(balance, lines)
        figures["gradient_heat_map"] = draw_heat_map(balance)
        figures["gradient_classes"] = draw_classes(balance)
    else:
        print(f"no {gradients.FILE} in {run}: it was trained with trainer.probe.every=null")
    return write_figures(figures, output)


def read_metrics_lines(path: Path) -> list[Line]:
    """Return the lines of ``metrics.jsonl``, of which there must be one."""
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if not lines or not all(isinstance(line, dict) and "step" in line for line in lines):
            raise ValueError("expected objects with a step, one a line")
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    return lines


def read_balance(run: Path, cfg: DictConfig, lines: Sequence[Line], title: str) -> Balance:
    """Return what ``gradients.jsonl`` of a run holds, which must be there."""
    stats = run_folder.read_stats(run)
    steps, windows = gradients.read_gradients(run / gradients.FILE, stats.num_classes)
    return Balance(
        steps,
        windows,
        names=stats.names,
        groups=frequency_groups(stats.images, build.group_thresholds(cfg)),
        images=stats.images,
        reference=_margins_ratio(cfg, stats, lines) if cfg.loss.name == "ecm" else None,
        title=title,
    )


def _margins_ratio(cfg: DictConfig, stats: ClassStats, lines: Sequence[Line]) -> np.ndarray:
    """Return what ECM's margins ask for, with the background ratio that the run was given or measured."""
    positive = margins.positive_counts(stats.instances)
    background = 0.0
    if cfg.model.stage == "two_stage":
        measured = curve(lines, "state/background_ratio")[1]
        given = cfg.loss.two_stage.background_ratio
        ratio = given if given is not None else [margins.OFFICIAL_BACKGROUND_RATIO, *measured][-1]
        background = margins.background_count(positive, float(ratio))
    return margins.gradient_ratio(positive, margins.negative_counts(positive, background))
