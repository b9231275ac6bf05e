"""The table of ``detloss stats`` on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from detloss.stats_table import Row, StatsTable

SHOWN = 40
"""Classes in a table on the terminal: half from the head, half from the tail."""


def print_table(table: StatsTable, notes: list[str], *, all_classes: bool) -> None:
    """Print classes, notes and groups; without ``all_classes`` only the ends of a long table."""
    rows = table.classes
    hidden = 0 if all_classes else max(0, len(rows) - SHOWN)
    head, tail = rows[: (len(rows) - hidden + 1) // 2], rows[(len(rows) + hidden + 1) // 2 :]
    background = [] if table.background is None else [table.background]
    classes = _rich_table(f"{len(rows)} classes, by images", table)
    for row in head:
        classes.add_row(*_cells(row, table))
    if hidden:
        classes.add_row("", f"... {hidden} more (--all)")
    for row in (*tail, *background):
        classes.add_row(*_cells(row, table))
    groups = _rich_table("Groups (means over their classes)", table)
    for row in table.groups:
        groups.add_row(*_cells(row, table))
    # Wider than any table: a narrow terminal wraps the lines, and numbers are never cut off.
    console = Console(highlight=False, markup=False, width=1000)
    for part in (classes, *notes, groups):
        console.print(part)


def _rich_table(title: str, of: StatsTable) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("id", justify="right", no_wrap=True)
    table.add_column("class", no_wrap=True)
    table.add_column("group", no_wrap=True)
    for column in of.columns:
        table.add_column(column.heading, justify="right", no_wrap=True)
    return table


def _cells(row: Row, table: StatsTable) -> tuple[str, ...]:
    of_a_group = row.kind == "group"
    numbers = []
    for column in table.columns:
        value = row.values[column.name]
        form = column.form.replace(".0f", ".1f") if of_a_group else column.form  # means of whole numbers
        numbers.append("" if value is None else format(value, form))
    name = f"{row.name} ({row.classes} classes)" if of_a_group else row.name
    return ("" if row.category_id is None else str(row.category_id), name, row.group, *numbers)
