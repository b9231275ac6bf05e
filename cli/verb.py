"""The shape of a verb: words go on to Hydra, and ``--help`` ends with the config groups and examples."""

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperCommand

from detloss.errors import UserError, nearest

from .config_groups import complete_override, groups, options

Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[OVERRIDES]...",
        help="group=option and key=value words, in Hydra's grammar.",
        autocompletion=complete_override,
        show_default=False,
    ),
]

HYDRA_WORDS = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Context settings with which words such as ``-m`` and ``--cfg job`` reach Hydra."""


def verb(examples: tuple[str, str], shown_groups: tuple[str, ...] | None = None) -> type[TyperCommand]:
    """Return a command class whose help also shows config groups (all when None) and two examples."""

    class Verb(TyperCommand):
        # `Any`: the types are those of the click that typer carries inside, which is not ours to import.
        def format_help(self, ctx: Any, formatter: Any) -> None:
            super().format_help(ctx, formatter)
            print_help_ending(examples, groups() if shown_groups is None else shown_groups)

    return Verb


def print_help_ending(examples: tuple[str, ...], shown_groups: tuple[str, ...] | list[str]) -> None:
    """Print the config groups with their options, then the examples."""
    console = Console(highlight=False)
    if shown_groups:
        table = Table.grid(padding=(0, 2, 0, 1))
        for group in shown_groups:
            table.add_row(f"[cyan]{group}=[/]", " ".join(options(group)))
        console.print("[bold]Config groups[/] (`detloss list GROUP` says what each option is)")
        console.print(table)
    console.print("\n[bold]Examples[/]")
    for example in examples:
        console.print(f" {example}", markup=False, soft_wrap=True)


def split_words(
    words: list[str], required: tuple[str, ...], optional: tuple[str, ...]
) -> tuple[dict[str, str], list[str]]:
    """Return the verb's own ``key=value`` words as a dict, and the rest: overrides of a run's config."""
    own: dict[str, str] = {}
    overrides: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key.startswith("-"):
            raise UserError(f"'{word}' is not a key=value word{nearest(word, [*required, *optional])}")
        if key in (*required, *optional):
            own[key] = value
        else:
            overrides.append(word)
    for key in required:
        if not own.get(key):
            raise UserError(f"{key}= is missing; expected {' '.join(f'{name}=...' for name in required)}")
    return own, overrides
