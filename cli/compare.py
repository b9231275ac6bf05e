"""``detloss compare``: runs beside one another, with intervals, and which differences are more than chance."""

from pathlib import Path
from typing import Annotated

import typer

from .output import check_file
from .run_words import AnnotationFile, Baseline, Draws, Metrics, Runs, Seed, run_folders

ENDINGS = (".csv", ".md", ".tex")

Classes = Annotated[bool, typer.Option("--classes", help="Also show the largest gains and losses of classes.")]
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
    folders = run_folders(runs, "compare")
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
