"""``detloss stats``: what the class counts of a training set make of margins, weights and sampling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from detloss.errors import UserError

from . import compose
from .verb import Overrides

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from detloss.stats_table import ClassRow, StatsTable

SHOWN = 40
"""Classes in a table on the terminal: half from the head, half from the tail."""

HEADINGS = (
    "id", "class", "group", "images", "instances",
    "alpha", "gamma+", "gamma-", "w+", "w-", "shift", "m_c", "RFS",
)  # fmt: skip

Output = Annotated[
    Path | None, typer.Option("-o", "--output", help="Also write all rows to FILE.csv or FILE.json.")
]
All = Annotated[bool, typer.Option("--all", help="Show every class, however many there are.")]


def stats(overrides: Overrides = None, output: Output = None, all_classes: All = False) -> None:
    """Print counts, margins, weights and repeat factors of a training set, by class and by group."""
    if output is not None and output.suffix not in (".csv", ".json"):
        raise UserError(f"-o {output}: expected a name that ends in .csv or .json")
    cfg = compose.compose(overrides or [])
    from detloss import build
    from detloss.stats_table import StatsTable

    ratio, caption = _background(cfg)
    table = StatsTable.make(
        build.class_stats(cfg),
        background_ratio=ratio,
        thresholds=build.group_thresholds(cfg),
        repeat_threshold=float(cfg.sampler.get("threshold") or 0.001),
    )
    _print(table, caption, all_classes)
    if output is not None:
        _write(table, output)


def _background(cfg: DictConfig) -> tuple[float | None, str]:
    """Return r of eq. 35, or None for one-stage heads, and a caption that says which it is."""
    if cfg.model.stage == "one_stage":
        return None, "one-stage: no background class"
    from detloss.margins import OFFICIAL_BACKGROUND_RATIO

    ratio, source = cfg.loss.two_stage.get("background_ratio"), "loss.two_stage.background_ratio"
    if ratio is None:
        ratio = OFFICIAL_BACKGROUND_RATIO
        source = "Mask R-CNN R-50 on LVIS v1; training with loss=ecm measures its own"
    return float(ratio), f"background = {ratio} x all instances ({source})"


def _print(table: StatsTable, caption: str, all_classes: bool) -> None:
    rows = table.classes
    hidden = 0 if all_classes else max(0, len(rows) - SHOWN)
    head, tail = rows[: (len(rows) - hidden + 1) // 2], rows[(len(rows) + hidden + 1) // 2 :]
    background = [] if table.background is None else [table.background]
    classes = _rich_table(f"{len(rows)} classes, by images")
    for row in head:
        classes.add_row(*_cells(row))
    if hidden:
        classes.add_row("", f"... {hidden} more (--all)", *[""] * (len(HEADINGS) - 2))
    for row in (*tail, *background):
        classes.add_row(*_cells(row))
    classes.caption = caption
    groups = _rich_table("Groups (means over their classes)")
    for row in table.groups:
        groups.add_row(*_cells(row))
    for part in (classes, groups):  # a narrow terminal wraps the lines; numbers are never cut off
        width = Console(width=1000).measure(part).maximum
        Console(highlight=False, width=width).print(part)


def _rich_table(title: str) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left", box=None, pad_edge=False)
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading in ("class", "group") else "right", no_wrap=True)
    return table


def _cells(row: ClassRow) -> tuple[str, ...]:
    of_a_group = row.kind == "group"
    count = "{:,.1f}" if of_a_group else "{:,.0f}"
    return (
        "" if row.category_id is None else str(row.category_id),
        f"{row.name} ({row.classes} classes)" if of_a_group else row.name,
        row.group,
        count.format(row.images),
        count.format(row.instances),
        f"{row.alpha:.4g}",
        *(f"{value:.4f}" for value in (row.gamma_plus, row.gamma_minus)),
        *(f"{value:.3f}" for value in (row.weight_plus, row.weight_minus)),
        f"{row.logit_shift:+.3f}",
        f"{row.detection_weight:.4f}",
        f"{row.repeat_factor:.2f}",
    )


def _write(table: StatsTable, output: Path) -> None:
    text = table.to_csv() if output.suffix == ".csv" else json.dumps(table.to_json(), indent=1) + "\n"
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror}") from error
    print(f"wrote {output}")
