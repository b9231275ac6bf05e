"""``detloss compare``: runs beside one another, with intervals, and which differences are more than chance."""

from glob import glob
from pathlib import Path
from typing import Annotated

import typer

from detloss.errors import UserError

from .output import check_file

ENDINGS = (".csv", ".md", ".tex")

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
Classes = Annotated[bool, typer.Option("--classes", help="Also show the largest gains and losses of classes.")]
AnnotationFile = Annotated[
    Path | None,
    typer.Option("--annotations", metavar="JSON", help="The validation file, where it has moved."),
]
Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", metavar="FILE", help="All numbers as .csv, or the table as .md or .tex."),
]


def compare(
    runs: Runs = None,
    metric: Metrics = None,
    draws: Draws = None,
    seed: Seed = 0,
    baseline: Baseline = None,
    classes: Classes = False,
    annotations: AnnotationFile = None,
    output: Output = None,
) -> None:
    """Compare runs of one validation set: metrics, 95% intervals, and differences that are more than chance."""
    folders = [folder for word in runs or [] for folder in _folders(word)]
    if not folders:
        raise UserError("no run to compare; expected run folders, such as outputs/*ecm*")
    check_file(output, "-o", ENDINGS)
    from rich.console import Console

    from detloss.compare import compare_runs
    from detloss.comparison.files import write
    from detloss.comparison.table import terminal

    comparison = compare_runs(
        folders, metrics=metric, draws=draws, seed=seed, baseline=baseline, annotations=annotations
    )
    # Wider than any table: a narrow terminal wraps the lines, and numbers are never cut off.
    console = Console(highlight=False, markup=False, width=1000)
    console.print(terminal(comparison, classes=classes))
    if output is not None:
        write(comparison, output)
        print(f"wrote {output}")


def _folders(word: str) -> list[Path]:
    """Return the folders of a pattern; a word that is a folder, as the shell leaves it, is itself."""
    if Path(word).exists():
        return [Path(word)]
    found = [Path(path) for path in sorted(glob(word)) if Path(path).is_dir()]
    if not found and any(character in word for character in "*?["):
        raise UserError(f"{word}: no folder of that pattern")
    return found or [Path(word)]
