"""``detloss report``: one page about one run or many, which opens from disk in any browser."""

from pathlib import Path
from typing import Annotated

import typer

from .output import check_file, check_folder
from .run_words import AnnotationFile, Baseline, Draws, Metrics, Runs, Seed, run_folders

PLACE = Path("outputs/report.html")

Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", metavar="FILE", help=f"The page, {PLACE} if not given.", show_default=False),
]


def report(
    runs: Runs = None,
    metric: Metrics = None,
    draws: Draws = None,
    seed: Seed = 0,
    baseline: Baseline = None,
    annotations: AnnotationFile = None,
    output: Output = None,
) -> None:
    """Write a page about runs of one validation set: results, settings, gradients, curves, errors and examples.

    The page is one HTML file that asks no network for anything.
    """
    folders = run_folders(runs, "report on")
    check_file(output, "-o", (".html",))
    if output is None:
        check_folder(PLACE.parent, "-o")
    from detloss.report import write_report

    written = output or PLACE
    size = write_report(
        folders, written, metrics=metric, draws=draws, seed=seed, baseline=baseline, annotations=annotations
    )
    print(f"wrote {written} ({size / 1e6:.1f} MB)")
