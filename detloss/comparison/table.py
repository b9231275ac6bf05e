"""A comparison on the terminal; numbers times 100."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from detloss.comparison.metrics import Metric
from detloss.comparison.result import ClassDifference, Comparison, Difference, Estimate, Row
from detloss.comparison.texts import interval, p_value, percent, signed
from detloss.evaluation.result import IOU_NAMES

SHOWN_CLASSES = 10
"""Of every method's gains, and of its losses."""


def terminal(comparison: Comparison, *, classes: bool) -> RenderableType:
    """Return the methods' metrics, their differences to the baseline, of ``classes`` if asked, and the notes."""
    parts: list[RenderableType] = [_estimates(comparison)]
    others = [row for row in comparison.rows if row.differences]
    if others:
        parts.append(_differences(comparison, others))
    if classes:
        parts += [_classes(comparison, row) for row in others]
    return Group(*parts, Text("\n".join(comparison.notes), style="dim"))


def heading(metric: Metric, metrics: Sequence[Metric]) -> str:
    """Return a metric's name, and what it is of where the metrics are of several kinds."""
    several = len({each.kind for each in metrics}) > 1
    return f"{metric.name} ({IOU_NAMES[metric.kind]})" if several else metric.name


def leading(rows: Sequence[Row]) -> list[str]:
    """Return the columns that say what a row is; framework and backbone only where they differ."""
    frameworks, backbones = {row.method.framework for row in rows}, {row.method.backbone for row in rows}
    shown = [("framework", len(frameworks) > 1), ("backbone", len(backbones) > 1), ("method", True)]
    return [name for name, wanted in shown if wanted]


def names_of(row: Row, rows: Sequence[Row]) -> list[str]:
    """Return what stands in the columns of `leading`."""
    values = {"framework": row.method.framework, "backbone": row.method.backbone, "method": row.method.name}
    return [values[name] for name in leading(rows)]


def _estimates(comparison: Comparison) -> Table:
    kinds = dict.fromkeys(IOU_NAMES[metric.kind] for metric in comparison.metrics)
    table = Table(title=" and ".join(kinds), title_justify="left")
    for name in leading(comparison.rows):
        table.add_column(name)
    table.add_column("seeds", justify="right")
    for metric in comparison.metrics:
        table.add_column(heading(metric, comparison.metrics), justify="right", no_wrap=True)
    for row in comparison.rows:
        cells = [_estimate(estimate) for estimate in row.estimates]
        table.add_row(*names_of(row, comparison.rows), str(len(row.method.runs)), *cells)
    return table


def _differences(comparison: Comparison, rows: Sequence[Row]) -> Table:
    table = Table(title=f"less {comparison.baseline}", title_justify="left")
    for name in leading(comparison.rows):
        table.add_column(name)
    for name in ("metric", "difference", "95% interval", "p", ""):
        table.add_column(name, justify="left" if name in ("", "metric") else "right", no_wrap=True)
    for row in rows:
        names = names_of(row, comparison.rows)
        for metric, difference in zip(comparison.metrics, row.differences, strict=True):
            table.add_row(
                *names, heading(metric, comparison.metrics), *_difference(difference), difference.verdict
            )
            names = [""] * len(names)
        table.add_section()
    return table


def _classes(comparison: Comparison, row: Row) -> Table:
    metric = heading(comparison.metrics[0], comparison.metrics)
    table = Table(title=f"{metric} of classes, {row.method.name} less {comparison.baseline}", title_justify="left")
    for name in ("class", "group", "instances", metric, "difference", "95% interval"):
        table.add_column(name, justify="left" if name in ("class", "group") else "right")
    for each in _ends(row.classes):
        if each is None:
            table.add_row("...")
            continue
        numbers = str(each.instances), percent(each.value), *_difference(each.difference)[:2]
        table.add_row(each.name, each.group, *numbers)
    return table


def _ends(classes: Sequence[ClassDifference]) -> Iterator[ClassDifference | None]:
    """Yield the largest gains, nothing for what is left out, and the largest losses."""
    if len(classes) <= 2 * SHOWN_CLASSES:
        yield from classes
        return
    yield from classes[:SHOWN_CLASSES]
    yield None
    yield from classes[-SHOWN_CLASSES:]


def _estimate(estimate: Estimate) -> str:
    return f"{percent(estimate.value, estimate.deviation)}\n{interval(estimate.low, estimate.high)}"


def _difference(difference: Difference) -> tuple[str, str, str]:
    if difference.identical:
        return "0", "", ""
    return signed(difference.value), interval(difference.low, difference.high, signs=True), p_value(difference.p)
