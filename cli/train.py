"""``detloss train``: one run, or with ``-m`` a sweep of runs."""

from __future__ import annotations

import math
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from detloss.errors import TrainingFailed, UserError
from detloss.ranks import rank_given

from . import compose
from .summary import print_summary
from .verb import Overrides

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from detloss.run_folder import Metrics

PROGRAM = "detloss train"


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its exit code, box AP (nan without one), the line that says so, and what it found."""

    exit_code: int
    score: float
    line: str
    overrides: list[str]
    metrics: Metrics


def train(overrides: Overrides = None) -> None:
    """Train and evaluate a detector; the same command again resumes or shows what it found.

    -m runs every combination of comma-separated values, --cfg job prints the config, --info explains it.
    """
    words = overrides or []
    sweep = _sweep(words)
    outcomes: list[Outcome] = []

    def job(cfg: DictConfig) -> float:
        outcome = _train_one(cfg, words, sweep)
        outcomes.append(outcome)
        if not _follower():  # rank 0 speaks for all
            print(outcome.line, file=sys.stderr if outcome.exit_code else sys.stdout)
        return outcome.score  # what a sweeper that searches (Optuna) maximizes

    compose.run_jobs(job, words, PROGRAM, _root(words))
    if len(outcomes) > 1 and not _follower():
        print(f"\n{len(outcomes)} runs, {sum(outcome.exit_code > 0 for outcome in outcomes)} failed")
        print("\n".join(f"  {outcome.line}" for outcome in outcomes))
        print_summary((outcome.overrides, outcome.metrics) for outcome in outcomes if outcome.metrics)
    worst = max((outcome.exit_code for outcome in outcomes), default=0)
    if worst:
        raise typer.Exit(worst)


def metrics_line(metrics: Metrics) -> str:
    """Return what the table shows as one line, ``bbox AP 0.312, APr 0.101, ...; segm ...``, no undefined ones."""
    from detloss.evaluation.result import SHOWN

    parts = []
    for kind, values in metrics.items():
        shown = [f"{name} {value:.3f}" for name, value in values.items() if value is not None and name in SHOWN]
        parts.append(f"{kind} {', '.join(shown)}")
    return "; ".join(parts) or "no metrics"


def _train_one(cfg: DictConfig, words: list[str], sweep: str | None) -> Outcome:
    """Train one config; errors become outcomes, so that a sweep goes on."""
    from hydra.core.hydra_config import HydraConfig

    overrides = list(HydraConfig.get().overrides.task)
    where = f"{' '.join(overrides)}: " if sweep else ""
    try:
        folder = _folder(cfg, sweep)
        metrics = _in_its_folder(cfg, folder, words, sweep)
    except UserError as error:
        return Outcome(2, math.nan, f"error: {where}{error}", overrides, {})
    except TrainingFailed as error:
        return Outcome(1, math.nan, f"error: {where}{error}", overrides, {})
    except Exception as error:  # a defect of ours: show where, and let the rest of a sweep run
        traceback.print_exc()
        return Outcome(1, math.nan, f"error: {where}{type(error).__name__}: {error}", overrides, {})
    score = metrics.get("bbox", {}).get("AP")
    line = f"{folder}: {metrics_line(metrics)}"
    return Outcome(0, math.nan if score is None else score, line, overrides, metrics)


def _in_its_folder(cfg: DictConfig, folder: Path, words: list[str], sweep: str | None) -> Metrics:
    from detloss import run_folder

    compose.settle_length(cfg, words)
    compose.check_choices_fit(cfg)
    config = compose.resolved(cfg)
    if _follower():  # rank 0 alone touches the folder; the others only ask whether there is work
        found = run_folder.State.NEW if cfg.overwrite else run_folder.state(folder, config)
        return {} if found is run_folder.State.FINISHED else _launch(cfg, folder, sweep)
    with run_folder.locked(folder):
        command = " ".join([PROGRAM, *words])
        found = run_folder.prepare(folder, config, overwrite=bool(cfg.overwrite), command=command)
        if found is run_folder.State.FINISHED:
            print(f"{folder} is finished; {_how_to_go_on(cfg, folder)}")
            return run_folder.read_metrics(folder)
        try:
            metrics = _launch(cfg, folder, sweep)
        except UserError:
            if found is run_folder.State.NEW:
                run_folder.withdraw(folder)
            raise
        run_folder.mark_finished(folder)
        return metrics


def _launch(cfg: DictConfig, folder: Path, sweep: str | None) -> Metrics:
    from detloss.launch import launch

    return launch(cfg, folder, sweep=sweep)


def _folder(cfg: DictConfig, sweep: str | None) -> Path:
    """Return the run folder: ``output_dir``, under ``-m`` a folder of that root, else outputs/NAME."""
    from hydra.core.hydra_config import HydraConfig

    from detloss.run_name import folder_name

    if cfg.output_dir is not None and sweep is None:
        return Path(str(cfg.output_dir))
    hydra = HydraConfig.get()
    root = Path("outputs" if cfg.output_dir is None else str(cfg.output_dir))
    return root / folder_name(hydra.runtime.choices, list(hydra.overrides.task))


def _root(words: list[str]) -> Path:
    """Return the folder that holds the runs of a sweep."""
    given = [word.partition("=")[2] for word in words if word.startswith("output_dir=")]
    return Path(given[-1].strip("'\"") if given else "outputs")


def _sweep(words: list[str]) -> str | None:
    """Return the name that groups the runs of a sweep, or None outside a sweep."""
    from detloss.run_name import sweep_name

    return sweep_name(words) if {"-m", "--multirun"} & set(words) else None


def _follower() -> bool:
    """Whether torchrun or srun started this process as another rank than 0."""
    return (rank_given() or 0) > 0


def _how_to_go_on(cfg: DictConfig, folder: Path) -> str:
    steps, epochs = cfg.schedule.steps, cfg.schedule.epochs
    length = f"schedule.epochs={2 * epochs}" if steps is None else f"schedule.steps={2 * steps}"
    return f"add overwrite=true to start again, or output_dir={folder} {length} to train longer"
