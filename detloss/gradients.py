"""Gradients on the class logits, summed by class and by where they come from; no torch here."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from detloss.errors import UserError

FILE = "gradients.jsonl"
"""Of a run folder: a line per window with ``step`` and the lists [C] of `ClassGradients`."""


@dataclass(frozen=True, eq=False)
class ClassGradients:
    """Sums of |dL/dz_c| over the rows of some steps, [C] float64 each.

    Attributes:
        own: over rows of the class itself, where the loss pulls the logit up: the positive gradient.
        others: over foreground rows of other classes.
        background: over background rows; with ``others`` it is the negative gradient.
    """

    own: np.ndarray
    others: np.ndarray
    background: np.ndarray

    @property
    def negative(self) -> np.ndarray:
        return self.others + self.background

    def ratios(self) -> np.ndarray:
        """Return each class's negative over its positive gradient [C], NaN without positives."""
        return np.divide(self.negative, self.own, out=np.full(len(self.own), np.nan), where=self.own > 0)

    def ratio(self, classes: np.ndarray | slice = slice(None)) -> float | None:
        """Return the summed negative over the summed positive gradient of ``classes``, None without positives.

        Over all classes it is the rate of aLRP (NeurIPS 2020), Fig. 4.
        """
        positive = float(self.own[classes].sum())
        return float(self.negative[classes].sum()) / positive if positive > 0 else None

    def group_ratios(self, groups: Sequence[str]) -> dict[str, float | None]:
        """Return the ratio of each frequency group that has classes; ``groups`` are r, c or f by class."""
        members = {name: np.array(groups) == name for name in "rcf"}
        return {name: self.ratio(chosen) for name, chosen in members.items() if chosen.any()}

    def to_lists(self) -> dict[str, list[float]]:
        """Return the sums by name, rounded to five digits: with 1,203 classes a line is 30 kB."""
        return {field.name: [_rounded(value) for value in getattr(self, field.name)] for field in fields(self)}

    @classmethod
    def from_lists(cls, lists: Mapping[str, object]) -> "ClassGradients":
        return cls(*(np.asarray(lists[field.name], dtype=np.float64) for field in fields(cls)))


def read_gradients(path: Path, num_classes: int) -> tuple[list[int], list[ClassGradients]]:
    """Return the steps at which windows ended, and the windows' sums.

    Raises:
        UserError: the file is missing, empty, damaged, or of another number of classes.
    """
    steps, windows = [], []
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            content = json.loads(line)
            steps.append(int(content["step"]))
            windows.append(ClassGradients.from_lists(content))
    except FileNotFoundError:
        windows = []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"cannot read {path}: {error!r}") from error
    if not windows:
        raise UserError(f"{path}: no gradients; a training records them, unless trainer.probe.every=null")
    if {len(window.own) for window in windows} != {num_classes}:
        raise UserError(f"{path} has gradients of {len(windows[0].own)} classes; expected {num_classes}")
    return steps, windows


def total(windows: Sequence[ClassGradients]) -> ClassGradients:
    """Return the sums over all windows."""
    return ClassGradients(
        *(np.sum([getattr(window, field.name) for window in windows], axis=0) for field in fields(ClassGradients))
    )


def _rounded(value: float) -> float:
    return float(f"{value:.5g}") if value else 0
