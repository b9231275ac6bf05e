"""``detloss data``: whether a data set's files are fit for training."""

import csv
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from detloss.errors import UserError

from . import compose
from .verb import Overrides, verb

if TYPE_CHECKING:
    from detloss.data.check import Problem

data = typer.Typer(help="Look into the files of a data set.", no_args_is_help=True)

CHECK_EXAMPLES = (
    "detloss data check dataset=coco dataset.root=/data/coco",
    "detloss data check dataset=coco dataset.root=DIR --no-decode -o problems.csv",
)

SHOWN = 3
"""Problems of a kind in the table."""

Decode = Annotated[bool, typer.Option("--decode/--no-decode", help="Decode every image, which takes a while.")]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="Write all problems to FILE.csv.")]


@data.command("check", cls=verb(CHECK_EXAMPLES, ("dataset",)))
def check(overrides: Overrides = None, decode: Decode = True, output: Output = None) -> None:
    """Find all that would break a training: exit code 1 where there is any."""
    if output is not None and output.suffix != ".csv":
        raise UserError(f"-o {output}: expected a name that ends in .csv")
    cfg = compose.compose(overrides or [])
    from detloss.data import check as checking
    from detloss.data.files import dataset_files

    files = dataset_files(cfg.dataset)
    parts = [(files.train_annotations, files.train_images), (files.val_annotations, files.val_images)]
    found = {path: list(checking.check(path, images, decode=decode)) for path, images in parts}
    for path, problems in found.items():
        if problems:
            Console(highlight=False).print(_table(path, problems))
        else:
            print(f"{path}: no problems")
    if output is not None:
        _write(found, output)
    if any(found.values()):
        raise typer.Exit(1)


def _table(path: Path, problems: list["Problem"]) -> Table:
    counts = Counter(problem.kind for problem in problems)
    table = Table(title=f"{path}: {len(problems):,} problems", title_justify="left", box=None, pad_edge=False)
    table.add_column("kind", no_wrap=True)
    table.add_column("number", justify="right")
    table.add_column("for example", overflow="fold")
    for kind, number in counts.most_common():
        examples = [problem for problem in problems if problem.kind == kind][:SHOWN]
        text = "\n".join(f"{problem.place}: {problem.text}" for problem in examples)
        table.add_row(kind, f"{number:,}", text)
    return table


def _write(found: dict[Path, list["Problem"]], output: Path) -> None:
    try:
        with open(output, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("file", "kind", "place", "problem"))
            for path, problems in found.items():
                writer.writerows((path, problem.kind, problem.place, problem.text) for problem in problems)
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror}") from error
    print(f"wrote {output}")
