"""Where a run's numbers go: metrics.jsonl always, and W&B with the same values when asked for."""

import json
import math
import os
import secrets
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from omegaconf import DictConfig, OmegaConf

from detloss import distributed, gradients
from detloss.gradients import ClassGradients

Scalars = Mapping[str, float | int | None]


class Logger(ABC):
    """Takes named scalars of a step; ``finish`` gets the exit code of the run."""

    @abstractmethod
    def log(self, step: int, values: Scalars) -> None:
        """Record ``values`` at an optimizer step."""

    @abstractmethod
    def log_classes(self, step: int, found: ClassGradients) -> None:
        """Record the gradients by class of the window that ends with an optimizer step."""

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

    def log_classes(self, step: int, found: ClassGradients) -> None:
        with self._by_class.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **found.to_lists()}, separators=(",", ":")) + "\n")

    def finish(self, exit_code: int) -> None:
        self._file.close()


class WeightsAndBiases(Logger):
    """A W&B run; when W&B fails, training goes on without it."""

    def __init__(self, folder: Path, cfg: DictConfig, *, sweep: str | None) -> None:
        import wandb

        mode = os.environ.get("WANDB_MODE") or ("online" if wandb_key_exists() else "offline")
        content = OmegaConf.to_container(cfg, resolve=True)
        assert isinstance(content, dict)
        self._run = wandb.init(
            project=cfg.logger.project,
            entity=cfg.logger.entity,
            tags=list(cfg.logger.tags),
            name=folder.name,
            id=_run_id(folder / "wandb.id"),
            resume="allow",  # a resumed training goes on in its W&B run
            group=sweep,
            dir=str(folder),
            config={str(key): value for key, value in content.items()},
            mode=mode,  # type: ignore[arg-type]
            settings=wandb.Settings(silent=True, console="off"),
        )

    def log(self, step: int, values: Scalars) -> None:
        try:
            self._run.log({key: value for key, value in values.items() if value is not None}, step=step)
        except Exception as error:  # a dead connection or a full disk must not stop a training
            print(f"W&B: {error}", file=sys.stderr)

    def log_classes(self, step: int, found: ClassGradients) -> None:
        """W&B gets the ratios, as scalars."""

    def finish(self, exit_code: int) -> None:
        try:
            self._run.finish(exit_code=exit_code)
        except Exception as error:
            print(f"W&B: {error}", file=sys.stderr)


class Loggers:
    """All loggers of a run; as a context manager it finishes them with the right exit code."""

    def __init__(self, loggers: list[Logger]) -> None:
        self._loggers = loggers

    def log(self, step: int, values: Scalars) -> None:
        for logger in self._loggers:
            logger.log(step, values)

    def log_gradients(self, step: int, values: Scalars, found: ClassGradients) -> None:
        """Record what the gradient probe found in a window."""
        self.log(step, values)
        for logger in self._loggers:
            logger.log_classes(step, found)

    def __enter__(self) -> "Loggers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        exit_code = 0 if kind is None else 130 if kind is KeyboardInterrupt else 1
        for logger in self._loggers:
            logger.finish(exit_code)


def open_loggers(cfg: DictConfig, folder: Path, *, first_step: int, sweep: str | None) -> Loggers:
    """Return the loggers of ``cfg.logger``, none on ranks other than 0."""
    kind = cfg.logger.name
    if distributed.rank() != 0:
        return Loggers([])
    loggers: list[Logger] = [JsonLines(folder / "metrics.jsonl", first_step=first_step)]
    if kind == "wandb" or (kind == "auto" and wandb_wanted()):
        try:
            loggers.append(WeightsAndBiases(folder, cfg, sweep=sweep))
        except Exception as error:  # no network, no disk, a wrong key: the run matters more than its plots
            print(f"W&B is off: {error}", file=sys.stderr)
    elif kind == "auto":
        print("logging to metrics.jsonl only (W&B joins when a key or WANDB_MODE is set)")
    return Loggers(loggers)


def wandb_wanted() -> bool:
    """Whether the environment speaks of W&B: a key, or a mode other than disabled."""
    mode = os.environ.get("WANDB_MODE")
    return mode != "disabled" and (mode is not None or wandb_key_exists())


def wandb_key_exists() -> bool:
    """Whether W&B has a key, in the environment or in a netrc file (looked at without importing W&B)."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return "api.wandb.ai" in netrc.read_text("utf-8", errors="replace")
    except OSError:
        return False


def _run_id(path: Path) -> str:
    """Return the W&B id of the run in this folder, made when it is new."""
    if not path.exists():
        path.write_text(secrets.token_hex(4), encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()


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
