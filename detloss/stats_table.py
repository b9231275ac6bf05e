"""Class statistics as a table: counts, and whatever else has a number for every class and group (no torch)."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detloss.stats import ClassStats, frequency_groups


@dataclass(frozen=True, eq=False)
class Column:
    """A number for every class, [C], and one for the background where it has a meaning."""

    name: str  # in files: "ecm.gamma_plus"
    heading: str  # on a terminal: "gamma+"
    form: str  # how a number is written there: ".4f"
    values: np.ndarray
    background: float | None = None


@dataclass(frozen=True)
class Row:
    """One line of the table: a class, the background, or the means over the classes of a group."""

    kind: str  # class | background | group
    category_id: int | None
    name: str
    group: str  # r | c | f, empty for the background
    classes: int
    values: dict[str, float | None]  # by column name; None where it has no meaning

    def flat(self) -> dict[str, object]:
        """Return the values beside the other fields."""
        fields = {"kind": self.kind, "category_id": self.category_id, "name": self.name}
        return {**fields, "group": self.group, "classes": self.classes, **self.values}


@dataclass(frozen=True)
class StatsTable:
    """The rows in the order of the table: classes by falling number of images, background, groups r, c, f."""

    columns: tuple[Column, ...]
    classes: tuple[Row, ...]
    background: Row | None
    groups: tuple[Row, ...]

    @classmethod
    def make(
        cls,
        stats: ClassStats,
        columns: Sequence[Column],
        *,
        thresholds: tuple[int, int] | None,
        background_instances: float | None = None,
    ) -> "StatsTable":
        """Put ``columns`` beside the counts.

        ``thresholds`` divide the frequency groups (None: thirds); ``background_instances`` is n_bg of eq. 35, ECM.
        There is a background row where any column has a number for it.
        """
        background_images = None if background_instances is None else float(stats.num_images)
        columns = (
            Column("images", "images", ",.0f", stats.images, background_images),
            Column("instances", "instances", ",.0f", stats.instances, background_instances),
            *columns,
        )
        groups = frequency_groups(stats.images, thresholds)
        rows = tuple(
            Row(
                "class", stats.category_ids[index], stats.names[index], groups[index], 1,
                {column.name: column.values[index].item() for column in columns},
            )
            for index in by_images(stats).tolist()
        )  # fmt: skip
        of_background = {column.name: column.background for column in columns}
        background = None
        if any(value is not None for value in of_background.values()):
            background = Row("background", None, "background", "", 1, of_background)
        members = {group: [index for index, own in enumerate(groups) if own == group] for group in "rcf"}
        means = tuple(_mean_row(group, columns, indices) for group, indices in members.items() if indices)
        return cls(columns, rows, background, means)

    def rows(self) -> tuple[Row, ...]:
        """Return all rows: classes, background, groups."""
        background = () if self.background is None else (self.background,)
        return (*self.classes, *background, *self.groups)

    def to_csv(self) -> str:
        """Return the rows as CSV with a header; ``kind`` tells classes, background and groups apart."""
        text = io.StringIO()
        rows = [row.flat() for row in self.rows()]
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()

    def to_json(self) -> dict[str, object]:
        """Return the rows as plain dicts under ``classes``, ``background`` (or None) and ``groups``."""
        return {
            "classes": [row.flat() for row in self.classes],
            "background": None if self.background is None else self.background.flat(),
            "groups": [row.flat() for row in self.groups],
        }


def by_images(stats: ClassStats) -> np.ndarray:
    """Return the classes [C] by falling number of images, and of instances where these are equal."""
    return np.lexsort((np.arange(stats.num_classes), -stats.instances, -stats.images))


def _mean_row(group: str, columns: Sequence[Column], indices: list[int]) -> Row:
    means: dict[str, float | None] = {column.name: float(np.mean(column.values[indices])) for column in columns}
    return Row("group", None, {"r": "rare", "c": "common", "f": "frequent"}[group], group, len(indices), means)
