"""Class statistics as a table: counts, margins and sampling of every class and frequency group (no torch)."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, fields

import numpy as np

from detloss import margins
from detloss.data.samplers import repeat_factors_by_class
from detloss.stats import ClassStats, frequency_groups


@dataclass(frozen=True)
class ClassRow:
    """One line of the table: a class, the background, or the means over the classes of a group."""

    kind: str  # class | background | group
    category_id: int | None
    name: str
    group: str  # r | c | f, empty for the background
    classes: int
    images: float
    instances: float
    alpha: float  # n_- / n_+ (Theorem 2, ECM, ECCV 2022)
    gamma_plus: float  # margins (eq. 8)
    gamma_minus: float
    weight_plus: float  # inverse margins (eq. 11)
    weight_minus: float
    logit_shift: float  # log(w+ / w-)
    detection_weight: float  # m_c
    repeat_factor: float  # RFS (LVIS, CVPR 2019)


COLUMNS = tuple(field.name for field in fields(ClassRow))


@dataclass(frozen=True)
class StatsTable:
    """The rows in the order of the table: classes by falling number of images, background, groups r, c, f."""

    classes: tuple[ClassRow, ...]
    background: ClassRow | None
    groups: tuple[ClassRow, ...]

    @classmethod
    def make(
        cls,
        stats: ClassStats,
        *,
        background_ratio: float | None,
        thresholds: tuple[int, int] | None,
        repeat_threshold: float,
    ) -> "StatsTable":
        """Compute the table; ``background_ratio`` is r of eq. 35, or None for heads without background.

        ``thresholds`` divide the frequency groups (None: thirds) and ``repeat_threshold`` is the t of RFS.
        """
        columns = _Columns.make(stats, background_ratio, repeat_threshold)
        groups = frequency_groups(stats.images, thresholds)
        order = np.lexsort((np.arange(stats.num_classes), -stats.instances, -stats.images))
        rows = tuple(
            columns.row(index, "class", stats.category_ids[index], stats.names[index], groups[index])
            for index in order.tolist()
        )
        background = None
        if background_ratio is not None:
            background = columns.row(stats.num_classes, "background", None, "background", "")
        members = {group: [row for row in rows if row.group == group] for group in "rcf"}
        return cls(rows, background, tuple(_mean_row(group, rows) for group, rows in members.items() if rows))

    def rows(self) -> tuple[ClassRow, ...]:
        """Return all rows: classes, background, groups."""
        background = () if self.background is None else (self.background,)
        return (*self.classes, *background, *self.groups)

    def to_csv(self) -> str:
        """Return the rows as CSV with a header; ``kind`` tells classes, background and groups apart."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(astuple(row) for row in self.rows())
        return text.getvalue()

    def to_json(self) -> dict[str, object]:
        """Return the rows as plain dicts under ``classes``, ``background`` (or None) and ``groups``."""
        return {
            "classes": [asdict(row) for row in self.classes],
            "background": None if self.background is None else asdict(self.background),
            "groups": [asdict(row) for row in self.groups],
        }


@dataclass(frozen=True)
class _Columns:
    """The columns as float64 arrays, [C], or [C + 1] with the background last."""

    images: np.ndarray
    instances: np.ndarray
    derived: tuple[np.ndarray, ...]  # from alpha to the repeat factor, in the order of `ClassRow`

    @classmethod
    def make(cls, stats: ClassStats, background_ratio: float | None, repeat_threshold: float) -> "_Columns":
        positive = margins.positive_counts(stats.instances)
        images = stats.images.astype(np.float64)
        instances = stats.instances.astype(np.float64)
        repeat_factor = repeat_factors_by_class(stats.images, stats.num_images, repeat_threshold)
        if background_ratio is not None:
            background = margins.background_count(positive, background_ratio)
            positive = np.append(positive, background)
            images = np.append(images, stats.num_images)
            instances = np.append(instances, background)
            repeat_factor = np.append(repeat_factor, 1.0)
        negative = margins.negative_counts(positive)
        alpha = margins.ratio(positive, negative)
        derived = (
            alpha,
            *margins.margins(positive, negative),
            *margins.weights(positive, negative),
            margins.logit_shift(positive, negative),
            margins.detection_weight(alpha),
            repeat_factor,
        )
        return cls(images, instances, derived)

    def row(self, index: int, kind: str, category_id: int | None, name: str, group: str) -> ClassRow:
        counts = float(self.images[index]), float(self.instances[index])
        return ClassRow(
            kind, category_id, name, group, 1, *counts, *(float(column[index]) for column in self.derived)
        )


def _mean_row(group: str, rows: Sequence[ClassRow]) -> ClassRow:
    means = np.mean([astuple(row)[5:] for row in rows], axis=0).tolist()
    return ClassRow("group", None, {"r": "rare", "c": "common", "f": "frequent"}[group], group, len(rows), *means)
