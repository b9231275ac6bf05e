"""Where a run's numbers go: metrics.jsonl always, and W&B with the same values when asked for."""

import json
import math
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from omegaconf import DictConfig

from detloss import distributed, gradients
from detloss.data.coco import CocoDataset
from detloss.evaluation.result import Evaluation
from detloss.gradients import ClassGradients
from detloss.stats import ClassStats
from detloss.wandb_account import wandb_mode, wandb_wanted

Scalars = Mapping[str, float | int | None]


class Logger(ABC):
    """Takes what happens at optimizer steps; ``finish`` gets the exit code of the run."""

    @abstractmethod
    def log(self, step: int, values: Scalars) -> None:
        """Record named scalars."""

    @abstractmethod
    def log_gradients(self, step: int, values: Scalars, found: ClassGradients) -> None:
        """Record what the gradient probe found in the window that ends here, as scalars and by class."""

    @abstractmethod
    def log_evaluation(self, step: int, evaluation: Evaluation) -> None:
        """Record an evaluation, after the step's other values."""

    @abstractmethod
    def finish(self, exit_code: int) -> None:
        """Close; nothing is logged afterwards."""


class JsonLines(Logger):
    """One JSON object a line: ``{"step": 20, "loss": 1.5, ...}``; what is not finite becomes null.

    Lists by class have a file of their own beside it, ``gradients.jsonl``, from the first of them on.
    """

    def __init__(self, path: Path, *, first_step: int) -> None:
        """Open for appending; lines beyond ``first_step`` belong to work that a resumed run does again."""
        self._by_class = path.with_name(gradients.FILE)
        for file in (path, self._by_class):
            _drop_lines_beyond(file, first_step)
        self._file = path.open("a", encoding="utf-8")

    def log(self, step: int, values: Scalars) -> None:
        finite = {
            key: None if value is None or not math.isfinite(value) else value for key, value in values.items()
        }
        self._file.write(json.dumps({"step": step, **finite}) + "\n")
        self._file.flush()

    def log_gradients(self, step: int, values: Scalars, found: ClassGradients) -> None:
        self.log(step, values)
        with self._by_class.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **found.to_lists()}, separators=(",", ":")) + "\n")

    def log_evaluation(self, step: int, evaluation: Evaluation) -> None:
        self.log(step, evaluation.scalars())

    def finish(self, exit_code: int) -> None:
        self._file.close()


class Loggers:
    """All loggers of a run; as a context manager it finishes them with the right exit code."""

    def __init__(self, loggers: list[Logger]) -> None:
        self._loggers = loggers

    def log(self, step: int, values: Scalars) -> None:
        for logger in self._loggers:
            logger.log(step, values)

    def log_gradients(self, step: int, values: Scalars, found: ClassGradients) -> None:
        for logger in self._loggers:
            logger.log_gradients(step, values, found)

    def log_evaluation(self, step: int, evaluation: Evaluation) -> None:
        for logger in self._loggers:
            logger.log_evaluation(step, evaluation)

    def __enter__(self) -> "Loggers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        exit_code = 0 if kind is None else 130 if kind is KeyboardInterrupt else 1
        for logger in self._loggers:
            logger.finish(exit_code)


def open_loggers(
    cfg: DictConfig,
    folder: Path,
    stats: ClassStats,
    validation: CocoDataset,
    *,
    first_step: int,
    sweep: str | None,
) -> Loggers:
    """Return the loggers of ``cfg.logger``, none on ranks other than 0; W&B comes last and draws from the files.

    Args:
        stats: counts of the training set, which W&B shows.
        validation: whose images are its examples.
        sweep: the group of the run.
    """
    kind = cfg.logger.name
    if distributed.rank() != 0:
        return Loggers([])
    loggers: list[Logger] = [JsonLines(folder / "metrics.jsonl", first_step=first_step)]
    if (kind == "wandb" and wandb_mode() != "disabled") or (kind == "auto" and wandb_wanted()):
        try:
            from detloss.weights_and_biases import WeightsAndBiases

            loggers.append(WeightsAndBiases(folder, cfg, stats, validation, first_step=first_step, sweep=sweep))
        except Exception as error:  # no disk, or no W&B that works: the run matters more than its plots
            print(f"W&B is off: {' '.join(str(error).split())}", file=sys.stderr)
    elif kind == "auto":
        print("logging to metrics.jsonl only (W&B joins when a key or WANDB_MODE is set)")
    return Loggers(loggers)


def _drop_lines_beyond(path: Path, step: int) -> None:
    """Rewrite a file, if there is one, without the lines of later steps."""
    if not path.exists():
        return
    lines = path.read_text("utf-8").splitlines()
    kept = [line for line in lines if _step_of(line) <= step]
    partial = path.with_name(f".{path.name}.part")
    partial.write_text("".join(f"{line}\n" for line in kept), "utf-8")
    os.replace(partial, path)


def _step_of(line: str) -> float:
    """Return the line's step; a line cut off by a crash counts as beyond any."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf
