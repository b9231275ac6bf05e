"""``detloss data``: whether a data set's files are fit for training."""

import csv
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from detloss.errors import UserError, nearest

from . import compose
from .verb import Overrides, verb

if TYPE_CHECKING:
    from detloss.data.check import Problem

data = typer.Typer(help="Look into the files of a data set.")

CHECK_EXAMPLES = (
    "detloss data check dataset=coco dataset.root=/data/coco",
    "detloss data check dataset=coco dataset.root=DIR --no-decode -o problems.csv",
)

CONVERT_EXAMPLES = (
    "detloss data convert voc VOCdevkit/VOC2007 --split trainval -o train.json",
    "detloss data convert predictions outputs/RUN/predictions.npz -o predictions.json",
)

INFO_EXAMPLES = ("detloss data info", "detloss data info dataset=lvis_v1 dataset.root=/data/lvis")

FORMATS = ("voc", "yolo", "openimages", "predictions")

SHOWN = 3
"""Problems of a kind in the table."""

Decode = Annotated[bool, typer.Option("--decode/--no-decode", help="Decode every image, which takes a while.")]
Format = Annotated[str, typer.Argument(metavar="FORMAT", help="voc, yolo, openimages or predictions.")]
Source = Annotated[
    Path, typer.Argument(metavar="SOURCE", help="A folder, Open Images' box CSV, or a predictions file.")
]
Result = Annotated[Path, typer.Option("-o", "--output", help="The COCO-format file to write, or FILE.npz.")]
Split = Annotated[str | None, typer.Option("--split", help="Part of the set (voc, yolo).")]
Classes = Annotated[Path | None, typer.Option("--classes", help="Class descriptions (openimages).")]
Images = Annotated[Path | None, typer.Option("--images", help="Folder of images (openimages).")]
Hierarchy = Annotated[Path | None, typer.Option("--hierarchy", help="Tree of classes (openimages).")]
Labels = Annotated[Path | None, typer.Option("--labels", help="Verified image labels (openimages).")]
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
    found = [(path, list(checking.check(path, images, decode=decode))) for path, images in parts]
    for path, problems in found:
        if problems:
            Console(highlight=False).print(_table(path, problems))
        else:
            print(f"{path}: no problems")
    if output is not None:
        _write(found, output)
    if any(problems for _, problems in found):
        raise typer.Exit(1)


@data.command("info", cls=verb(INFO_EXAMPLES, ("dataset",)))
def info(overrides: Overrides = None) -> None:
    """Say what a data set holds: images, objects, classes by frequency, sizes, segmentations."""
    cfg = compose.compose(overrides or [])
    from detloss import build
    from detloss.data.files import dataset_files
    from detloss.data.info import describe

    files = dataset_files(cfg.dataset)
    thresholds = build.group_thresholds(cfg)
    for path, bounds in ((files.train_annotations, thresholds), (files.val_annotations, None)):
        Console(highlight=False).print(describe(path, bounds))


@data.command("convert", cls=verb(CONVERT_EXAMPLES, ()))
def convert(
    format: Format,
    source: Source,
    output: Result,
    split: Split = None,
    classes: Classes = None,
    images: Images = None,
    hierarchy: Hierarchy = None,
    labels: Labels = None,
) -> None:
    """Write annotations of another format, or predictions, as a COCO-format file.

    A run's predictions (.npz) become COCO results (.json), and COCO results become what a run has.
    """
    if format not in FORMATS:
        raise UserError(f"no format '{format}': expected {', '.join(FORMATS)}{nearest(format, FORMATS)}")
    if format == "predictions":
        from detloss.evaluation.predictions import convert_predictions

        print(f"wrote {output}: {len(convert_predictions(source, output)):,} detections")
        return
    if format == "openimages":
        from detloss.data.open_images import read_open_images

        if classes is None or images is None:
            raise UserError("openimages needs --classes FILE.csv and --images FOLDER")
        content = read_open_images(source, classes, images, hierarchy=hierarchy, labels=labels)
    elif format == "voc":
        from detloss.data.voc import read_voc

        content = read_voc(source, split)
    else:
        from detloss.data.yolo import read_yolo

        content = read_yolo(source, split)
    content.write(output)
    print(
        f"wrote {output}: {len(content.images):,} images, {len(content.annotations):,} objects, "
        f"{len(content.class_names):,} classes"
    )


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


def _write(found: list[tuple[Path, list["Problem"]]], output: Path) -> None:
    try:
        with open(output, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("file", "kind", "place", "problem"))
            for path, problems in found:
                writer.writerows((path, problem.kind, problem.place, problem.text) for problem in problems)
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror}") from error
    print(f"wrote {output}")
