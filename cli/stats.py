"""``detloss stats``: what a run will see of its training set, through its sampler and its loss."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from detloss.errors import UserError

from . import compose
from .config_groups import each_option
from .output import check_file, check_folder
from .verb import Overrides

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from detloss.data.image_labels import ImageLabels
    from detloss.sampler_columns import Epoch
    from detloss.stats import ClassStats
    from detloss.stats_table import Column, Row, StatsTable

SHOWN = 40
"""Classes in a table on the terminal: half from the head, half from the tail."""

Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="Write all rows, with every loss and sampler, to FILE.csv or FILE.json."),
]
All = Annotated[bool, typer.Option("--all", help="Show every class, however many there are.")]
Cooccurrence = Annotated[
    Path | None,
    typer.Option("--cooccurrence", help="Write how many images show two classes together, FILE.csv or FILE.npz."),
]
Figures = Annotated[Path | None, typer.Option("--figures", help="Draw figures into FOLDER, as PNG and SVG.")]
Batches = Annotated[
    int, typer.Option("--batches", min=1, help="Batches to measure a model's background ratio on.")
]


def stats(
    overrides: Overrides = None,
    output: Output = None,
    cooccurrence: Cooccurrence = None,
    figures: Figures = None,
    batches: Batches = 10,
    all_classes: All = False,
) -> None:
    """Print what a run sees of its training set: class counts, the sampler's epoch, the loss's margins or weights.

    A model that is named (model=) has its background ratio measured on real batches.
    """
    words = overrides or []
    check_file(output, "-o", (".csv", ".json"))
    check_file(cooccurrence, "--cooccurrence", (".csv", ".npz"))
    check_folder(figures, "--figures")
    cfg = compose.compose(words)
    from detloss import build
    from detloss.data.image_labels import ImageLabels
    from detloss.stats import ClassStats

    annotations = build.training_annotations(cfg)
    if annotations is None and cooccurrence is not None:
        raise UserError("--cooccurrence needs the annotation file; give dataset.root=DIR")
    labels = None if annotations is None else ImageLabels.from_annotations(annotations)
    counts = ClassStats.lvis_v1() if annotations is None else ClassStats.from_annotations(annotations)
    ratio, notes = _background(cfg, words, batches)

    samplers = each_option(cfg, "sampler")
    name = next((name for name, node in samplers.items() if node is cfg.sampler), "sampler")
    sampling, epochs = _sampling(cfg, {name: cfg.sampler}, counts, labels)
    notes.append(_on_sampler(name, epochs.get(name)))
    columns = _of_loss(cfg, cfg.loss, counts, ratio)
    if not columns:
        notes.insert(0, f"loss={cfg.loss.name}: no margins or weights from class counts")
    shown = [] if name == "uniform" else sampling  # the counts stand there already
    _print(_table(cfg, counts, [*shown, *columns], ratio), notes, all_classes)

    if output is not None:
        losses = each_option(cfg, "loss").values()
        of_losses = [column for node in losses for column in _of_loss(cfg, node, counts, ratio)]
        sampling, _ = _sampling(cfg, {name: cfg.sampler, **samplers}, counts, labels)
        _write(_table(cfg, counts, [*sampling, *of_losses], ratio), output)
    if cooccurrence is not None and labels is not None:
        from detloss.cooccurrence import cooccurrence as count_together
        from detloss.cooccurrence import write_cooccurrence

        write_cooccurrence(count_together(labels), counts, cooccurrence)
        print(f"wrote {cooccurrence}")
    if figures is not None:
        from detloss.stats_figures import draw_figures

        _, epochs = _sampling(cfg, samplers, counts, labels)
        drawn = draw_figures(
            figures,
            counts,
            thresholds=build.group_thresholds(cfg),
            background_ratio=ratio,
            epochs=epochs,
            labels=labels,
        )
        print(f"wrote {', '.join(sorted({file.stem for file in drawn}))} as PNG and SVG in {figures}")


def _table(cfg: DictConfig, counts: ClassStats, columns: list[Column], ratio: float | None) -> StatsTable:
    from detloss import build, margins
    from detloss.stats_table import StatsTable

    of_ecm = ratio is not None and any(column.name.startswith("ecm.") for column in columns)
    background = (
        margins.background_count(margins.positive_counts(counts.instances), ratio or 0) if of_ecm else None
    )
    thresholds = build.group_thresholds(cfg)
    return StatsTable.make(counts, columns, thresholds=thresholds, background_instances=background)


def _sampling(
    cfg: DictConfig, nodes: dict[str, DictConfig], counts: ClassStats, labels: ImageLabels | None
) -> tuple[list[Column], dict[str, Epoch]]:
    """Return each sampler's columns, and the epochs that need the labels."""
    from detloss import build
    from detloss.sampler_columns import Epoch, repeat_columns

    if labels is not None and cfg.dataset.drop_empty:
        labels = labels.without_empty()
    annotated = counts.num_annotated_images if cfg.dataset.drop_empty else None
    num_images = len(labels) if labels is not None else annotated or counts.num_images
    columns, epochs = [], {}
    for name, node in nodes.items():
        threshold = float(node.get("threshold") or 0)
        columns += repeat_columns(name, str(node.get("_target_")), threshold, counts, num_images)
        if labels is not None:
            epochs[name] = Epoch.expected(build.sampler_of(node, labels), labels)
            columns += epochs[name].columns(name)
    return columns, epochs


def _on_sampler(name: str, epoch: Epoch | None) -> str:
    if epoch is not None:
        return f"sampler={name}: {epoch.length:,.0f} images an epoch"
    return f"sampler={name}: what an epoch shows needs the annotation file (dataset.root=DIR)"


def _of_loss(cfg: DictConfig, loss: DictConfig, counts: ClassStats, ratio: float | None) -> list[Column]:
    """Return the columns of a loss with its hyper-parameters; none where it does not fit the model's heads."""
    from omegaconf import OmegaConf

    from detloss.loss_columns import loss_columns

    stage = str(cfg.model.stage)
    if stage not in loss:
        return []
    options = OmegaConf.to_container(loss[stage], resolve=True)
    assert isinstance(options, dict)
    values = {str(key): value for key, value in options.items()}
    target = str(values.get("_target_"))
    if target.endswith(".ECM"):
        values["background_ratio"] = ratio
    return loss_columns(str(loss.name), target, values, counts, option=f"loss.{stage}")


def _background(cfg: DictConfig, words: list[str], batches: int) -> tuple[float | None, list[str]]:
    """Return r of eq. 35, ECM, None for one-stage heads, and what there is to say about it."""
    from detloss.margins import OFFICIAL_BACKGROUND_RATIO

    two_stage, of_ecm = cfg.model.stage == "two_stage", cfg.loss.name == "ecm"
    notes = [] if two_stage or not of_ecm else ["one-stage: no background class"]
    ratio, source = (
        OFFICIAL_BACKGROUND_RATIO,
        "Mask R-CNN R-50 on LVIS v1; training with loss=ecm measures its own",
    )
    if any(word.lstrip("+").partition("=")[0] == "model" for word in words):
        measured, note = _measured(cfg, batches)
        notes.append(note)
        if measured is not None:
            ratio, source = measured, f"measured on {batches} batches"
    if not two_stage:
        return None, notes
    given = cfg.loss.two_stage.get("background_ratio") if of_ecm else None
    if given is not None:
        ratio, source = given, "loss.two_stage.background_ratio"
    if of_ecm:
        notes.insert(0, f"background = {ratio:.6g} x all instances ({source})")
    return ratio, notes


def _measured(cfg: DictConfig, batches: int) -> tuple[float | None, str]:
    """Measure r with the model on the first training batches where there are images."""
    dataset = cfg.dataset
    if dataset.format != "shapes" and dataset.root is None and dataset.train.images is None:
        return None, f"model={cfg.model.name}: r not measured, as dataset={dataset.name} has no images given"
    from detloss.settings import check_settings

    check_settings(cfg)
    from detloss.background_ratio import measure_background_ratio

    ratio = measure_background_ratio(cfg, batches=batches)
    rows = "proposals" if cfg.model.stage == "two_stage" else "anchors or locations"
    return ratio, (
        f"model={cfg.model.name}: r = {ratio:.6g} background {rows} for a foreground one, measured on {batches} x "
        f"{cfg.schedule.batch_size} images"
    )


def _print(table: StatsTable, notes: list[str], all_classes: bool) -> None:
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
    parts: tuple[Table | str, ...] = (classes, *notes, groups)
    for part in parts:  # a narrow terminal wraps the lines; numbers are never cut off
        width = Console(width=1000).measure(part).maximum
        Console(highlight=False, markup=False, width=width).print(part)


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


def _write(table: StatsTable, output: Path) -> None:
    text = table.to_csv() if output.suffix == ".csv" else json.dumps(table.to_json(), indent=1) + "\n"
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror}") from error
    print(f"wrote {output}")
