"""A run in W&B: the same numbers as in the run folder, with tables, charts and pictures of them."""

import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

import numpy as np
import wandb
from omegaconf import DictConfig, OmegaConf

from detloss import build, gradients
from detloss.data.coco import CocoDataset
from detloss.evaluation.detections import Detections
from detloss.evaluation.result import Evaluation
from detloss.examples import Example, example, found_on, telling_images
from detloss.gradients import ClassGradients
from detloss.loggers import Logger, Scalars
from detloss.loss_columns import loss_columns
from detloss.picture import Objects
from detloss.plots.balance import Balance, draw_heat_map
from detloss.plots.class_columns import draw_columns
from detloss.plots.run import read_balance
from detloss.stats import ClassStats
from detloss.stats_table import StatsTable
from detloss.wandb_account import wandb_mode
from detloss.wandb_media import (
    balance_table,
    class_table,
    example_image,
    figure_image,
    mask_codes,
    precision_recall_charts,
    ratio_chart,
)
from detloss.wandb_sync import UNSENT

INIT_TIMEOUT = 20.0
"""Seconds that the start of a training waits for the server, before the run goes on offline."""

FINISH_TIMEOUT = 120.0
"""Seconds that the end of a training waits for what is still to be sent."""

EXAMPLES = 6
"""Images that are shown at each evaluation."""

MOST_FOUND, LEAST_SCORE = 30, 0.05
"""How many detections an example shows at most, and from which score on; W&B has a slider to show fewer."""


class WeightsAndBiases(Logger):
    """A W&B run that holds what the run folder holds; whatever fails in it is said once, and training goes on.

    Where the server does not answer, or refuses the key, the run is an offline one, for ``detloss sync``.
    """

    def __init__(
        self,
        folder: Path,
        cfg: DictConfig,
        stats: ClassStats,
        validation: CocoDataset,
        *,
        first_step: int,
        sweep: str | None,
    ) -> None:
        self._folder, self._cfg = folder, cfg
        self._stats, self._validation = stats, validation
        self._step, self._failed = first_step, False
        self._run = _start(folder, cfg, sweep)
        self._home = Path(self._run.dir).parent
        with self._spared():
            for prefix, kept in {"loss": "min", "bbox/A": "max", "segm/A": "max", "boundary/A": "max"}.items():
                self._run.define_metric(f"{prefix}*", summary=f"{kept},last")
        with self._spared():
            table = _class_statistics(cfg, stats)
            shown = {"classes/table": class_table(table), "classes/chart": figure_image(draw_columns(table))}
            self._run.log(shown, step=first_step)

    def log(self, step: int, values: Scalars) -> None:
        self._step = step
        with self._spared():
            self._run.log({key: value for key, value in values.items() if value is not None}, step=step)

    def log_gradients(self, step: int, values: Scalars, found: ClassGradients) -> None:
        self.log(step, values)  # by class they are drawn at evaluations, from the run folder

    def log_evaluation(self, step: int, evaluation: Evaluation) -> None:
        self.log(step, evaluation.scalars())
        with self._spared():
            self._run.log(precision_recall_charts(evaluation), step=step)
        with self._spared():
            self._run.log(self._gradient_charts(), step=step)
        with self._spared():
            if "bbox" in evaluation.outcomes:
                self._run.log(self._examples(evaluation.outcomes["bbox"].detections), step=step)

    def finish(self, exit_code: int) -> None:
        with self._spared():
            if exit_code == 0 and (balance := self._balance()):
                self._run.log({"gradient/table": balance_table(balance)}, step=self._step)
        try:
            self._send_the_rest(exit_code)
        except Exception as error:
            with suppress(OSError):
                (self._home / UNSENT).touch()
            print(f"W&B: {_reason(error)}; `detloss sync run={self._folder}` sends the rest", file=sys.stderr)

    def _send_the_rest(self, exit_code: int) -> None:
        """Finish the run in a thread, so that W&B's own process cannot hold this one for ever."""
        problems: list[Exception] = []

        def finish() -> None:
            try:
                self._run.finish(exit_code=exit_code)
            except Exception as error:
                problems.append(error)

        thread = Thread(target=finish, daemon=True)
        thread.start()
        thread.join(FINISH_TIMEOUT + 10)
        if thread.is_alive():
            raise TimeoutError(f"it did not finish within {FINISH_TIMEOUT + 10:.0f} s")
        if problems:
            raise problems[0]

    def _gradient_charts(self) -> Mapping[str, object]:
        """Return the heat map of the classes over time and the ratios by group, nothing without the probe."""
        balance = self._balance()
        if balance is None:
            return {}
        lines = ratio_chart(balance)
        return {
            "gradient/heat_map": figure_image(draw_heat_map(balance)),
            **({} if lines is None else {"gradient/groups": lines}),
        }

    def _balance(self) -> Balance | None:
        if not (self._folder / gradients.FILE).exists():
            return None
        return read_balance(self._folder, self._cfg, [], self._folder.name)

    def _examples(self, detections: Detections) -> Mapping[str, object]:
        """Return a few images with what is on them and what was found."""
        chosen = telling_images(self._validation, self._stats.images, EXAMPLES)
        shown = [example(self._validation, index) for index in chosen]
        codes = mask_codes([each.truth for each in shown], self._stats.num_classes)
        ids = np.sort(self._validation.image_ids)  # the order of the ground truth
        return {
            "examples": [
                example_image(each, _found(each, detections, ids), self._stats.names, codes) for each in shown
            ]
        }

    @contextmanager
    def _spared(self) -> Iterator[None]:
        """Keep what fails in here, a dead connection or a full disk, from the training; say the first of it."""
        try:
            yield
        except Exception as error:
            if not self._failed:
                print(
                    f"W&B: {_reason(error)}; the training goes on, metrics.jsonl has its numbers", file=sys.stderr
                )
            self._failed = True


def _start(folder: Path, cfg: DictConfig, sweep: str | None) -> wandb.Run:
    """Start or resume the folder's W&B run, offline where it cannot be online."""
    mode = wandb_mode()
    try:
        return _init(folder, cfg, sweep, mode)
    except Exception as error:
        if mode in ("offline", "dryrun"):
            raise
        print(
            f"W&B is offline: {_reason(error)}; `detloss sync run={folder}` sends the run later", file=sys.stderr
        )
        wandb.teardown()  # its process takes the run for one in use
        return _init(folder, cfg, sweep, "offline")


def _init(folder: Path, cfg: DictConfig, sweep: str | None, mode: str) -> wandb.Run:
    content = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(content, dict)
    return wandb.init(
        project=cfg.logger.project,
        entity=cfg.logger.entity,
        tags=list(cfg.logger.tags),
        name=folder.name,
        id=_run_id(folder / "wandb.id"),
        resume="allow",  # a resumed training goes on in its W&B run
        reinit="create_new",  # a run of this sweep that did not finish is not to take in the next one's numbers
        group=sweep,
        job_type="train",
        dir=str(folder),
        config={str(key): value for key, value in content.items()},
        mode=mode,  # type: ignore[arg-type]
        settings=wandb.Settings(
            silent=True,
            console="off",
            init_timeout=INIT_TIMEOUT,
            finish_timeout=FINISH_TIMEOUT,
            finish_timeout_raises=True,
        ),
    )


def _reason(error: Exception) -> str:
    """Return what an error says first; the lines after it are W&B's advice."""
    return next(iter(str(error).splitlines()), "").rstrip(".") or type(error).__name__


def _run_id(path: Path) -> str:
    """Return the W&B id of the run in this folder, made when it is new."""
    if not path.exists():
        path.write_text(secrets.token_hex(4), encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()


def _class_statistics(cfg: DictConfig, stats: ClassStats) -> StatsTable:
    """Return the counts, and what the loss makes of them; ECM's background is the given one or the official."""
    options = OmegaConf.to_container(cfg.loss[cfg.model.stage], resolve=True)
    assert isinstance(options, dict)
    values = {str(key): value for key, value in options.items()}
    columns = loss_columns(str(cfg.loss.name), str(values["_target_"]), values, stats)
    return StatsTable.make(stats, columns, thresholds=build.group_thresholds(cfg))


def _found(shown: Example, detections: Detections, ids: np.ndarray) -> Objects:
    """Return the best detections on an image; ``ids`` are those of all images, ascending."""
    position = int(np.searchsorted(ids, shown.image_id))
    best = np.sort(detections.scores[detections.image == position])[-MOST_FOUND:]
    return found_on(detections, position, score=max(LEAST_SCORE, float(best[0]) if len(best) else 1.0))
