"""``detloss list``: the config groups and their options."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from .config_groups import description, groups, options, stages_of_loss, state_of_loss

Group = Annotated[
    str | None,
    typer.Argument(help="A config group.", autocompletion=lambda: groups(), show_default=False),
]


def list_options(group: Group = None) -> None:
    """List the config groups, or the options of one with what they are and where they come from."""
    table = Table.grid(padding=(0, 2, 0, 0))
    if group is None:
        for name in groups():
            table.add_row(f"[cyan]{name}[/]", " ".join(options(name)))
    else:
        for option in options(group):
            columns = _loss_columns(option) if group == "loss" else []
            table.add_row(f"[cyan]{option}[/]", *columns, description(group, option))
    console = Console(highlight=False)
    if not console.is_terminal:  # a file has room for whole lines
        console = Console(highlight=False, width=200)
    console.print(table)


def _loss_columns(option: str) -> list[str]:
    """Return the heads a loss fits and what it keeps from batch to batch."""
    state = state_of_loss(option)
    return [" + ".join(stages_of_loss(option)).replace("_", "-"), f"keeps {state}" if state else "no state"]
