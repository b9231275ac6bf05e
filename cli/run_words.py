"""The words with which verbs take many runs: folders or patterns, and how they are compared."""

from glob import glob
from pathlib import Path
from typing import Annotated

import typer

from detloss.errors import UserError

Runs = Annotated[
    list[str] | None,
    typer.Argument(metavar="RUN RUN...", help="Run folders, or patterns of them.", show_default=False),
]
Metrics = Annotated[
    str | None,
    typer.Option("--metric", metavar="NAME,...", help="AP, APr, oLRP, bbox/AP50, ...", show_default=False),
]
Draws = Annotated[
    int | None,
    typer.Option("--draws", min=2, help="Draws of images; 1000 or what the correction takes.", show_default=False),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of the draws.")]
Baseline = Annotated[
    Path | None,
    typer.Option("--baseline", metavar="RUN", help="The others are compared with it; the first if not given."),
]
AnnotationFile = Annotated[
    Path | None,
    typer.Option("--annotations", metavar="JSON", help="The validation file, where it has moved."),
]


def run_folders(words: list[str] | None, purpose: str) -> list[Path]:
    """Return the folders that the words name, of which there must be one; ``purpose`` is what they are for."""
    folders = [folder for word in words or [] for folder in _folders(word)]
    if not folders:
        raise UserError(f"no run to {purpose}; expected run folders, such as outputs/*ecm*")
    return folders


def _folders(word: str) -> list[Path]:
    """Return the folders of a pattern; a word that is a folder, as the shell leaves it, is itself."""
    if Path(word).exists():
        return [Path(word)]
    found = [Path(path) for path in sorted(glob(word)) if Path(path).is_dir()]
    if not found and any(character in word for character in "*?["):
        raise UserError(f"{word}: no folder of that pattern")
    return found or [Path(word)]
