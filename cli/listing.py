"""``detloss list``: the config groups and their options."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from .config_groups import description, groups, options, stages_of_loss

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
            fits = [" + ".join(stages_of_loss(option)).replace("_", "-")] if group == "loss" else []
            table.add_row(f"[cyan]{option}[/]", *fits, description(group, option))
    Console(highlight=False).print(table)
