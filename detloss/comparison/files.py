"""A comparison as a file: all numbers as CSV, or a table in the shape of ECM's Table 1 as LaTeX or Markdown."""

import csv
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from detloss.comparison.metrics import Metric
from detloss.comparison.result import Comparison, Difference, Row
from detloss.comparison.texts import interval, percent
from detloss.errors import UserError

COLUMNS = (
    "what", "framework", "backbone", "method", "seeds", "baseline", "kind", "metric", "category_id", "class",
    "group", "instances", "value", "deviation", "low", "high", "p", "verdict",
)  # fmt: skip

TEX = {
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
}


def write(comparison: Comparison, path: Path) -> None:
    """Write ``path`` by one rename; its ending says what it becomes: .csv, .md or .tex."""
    forms = {".csv": csv_text, ".md": markdown, ".tex": latex}
    partial = path.with_name(f".{path.name}.part")
    try:
        partial.write_text(forms[path.suffix](comparison), encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"-o {path}: cannot be written ({error.strerror})") from error


def csv_text(comparison: Comparison) -> str:
    """Return a line for every number: estimates, differences to the baseline, and those of all classes, sorted.

    Numbers are in 0..1; a cell without one is empty.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for line in _lines(comparison):
        writer.writerow({key: "" if value is None or value != value else value for key, value in line.items()})
    return text.getvalue()


def markdown(comparison: Comparison) -> str:
    """Return the table: a row for each method, framework and backbone where they change, then the notes."""
    names = [_plain(metric, comparison.metrics) for metric in comparison.metrics]
    lines = ["| " + " | ".join(["Framework", "Backbone", "Method", *names]) + " |"]
    lines.append("|---|---|---|" + "---:|" * len(names))
    for rows in _blocks(comparison):
        for number, row in enumerate(rows):
            place = [row.method.framework, row.method.backbone] if number == 0 else ["", ""]
            cells = [*place, row.method.name, *_cells(row)]
            lines.append("| " + " | ".join(map(_markdown, cells)) + " |")
    return "\n".join([*lines, "", *(f"{_markdown(note)}.  " for note in _notes(comparison))]) + "\n"


def latex(comparison: Comparison) -> str:
    """Return the table for the package booktabs, the notes as its caption."""
    names = [_mathematical(metric, comparison.metrics) for metric in comparison.metrics]
    lines = [r"\begin{table}", r"\centering", rf"\begin{{tabular}}{{lll{'c' * len(names)}}}", r"\toprule"]
    lines.append(" & ".join(["Framework", "Backbone", "Method", *names]) + r" \\")
    for rows in _blocks(comparison):
        lines.append(r"\midrule")
        for number, row in enumerate(rows):
            place = [row.method.framework, row.method.backbone] if number == 0 else ["", ""]
            cells = [*map(_escaped, (*place, row.method.name)), *map(_set, _cells(row))]
            lines.append(" & ".join(cells) + r" \\")
    caption = " ".join(f"{_escaped(note)}." for note in _notes(comparison)).replace("±", r"$\pm$")
    lines += [r"\bottomrule", r"\end{tabular}", rf"\caption{{{caption}}}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def _lines(comparison: Comparison) -> Iterator[dict[str, object]]:
    for row in comparison.rows:
        method = row.method
        names: dict[str, object] = {
            "framework": method.framework,
            "backbone": method.backbone,
            "method": method.name,
        }
        names["seeds"] = len(method.runs)
        for metric, estimate in zip(comparison.metrics, row.estimates, strict=True):
            line = names | {"what": "estimate", "kind": metric.kind, "metric": metric.name}
            yield line | asdict(estimate)
        names["baseline"] = comparison.baseline
        for metric, difference in zip(comparison.metrics, row.differences, strict=False):  # the baseline has none
            line = names | {"what": "difference", "kind": metric.kind, "metric": metric.name}
            yield line | _numbers(difference) | {"verdict": difference.verdict}
        for each in row.classes:
            line = names | {"what": "class difference", "kind": comparison.metrics[0].kind}
            line |= {"metric": comparison.metrics[0].name, "category_id": each.category_id, "class": each.name}
            yield line | {"group": each.group, "instances": each.instances} | _numbers(each.difference)


def _numbers(difference: Difference) -> dict[str, object]:
    return {"value": difference.value, "low": difference.low, "high": difference.high, "p": difference.p}


def _blocks(comparison: Comparison) -> list[list[Row]]:
    """Return the rows by framework and backbone, which come in the order of their first rows."""
    blocks: dict[tuple[str, str], list[Row]] = {}
    for row in comparison.rows:
        blocks.setdefault((row.method.framework, row.method.backbone), []).append(row)
    return list(blocks.values())


def _cells(row: Row) -> list[str]:
    """Return a row's metrics with their intervals, a star at those that differ from the baseline's."""
    stars = ["*" if difference.verdict == "differs" else "" for difference in row.differences]
    return [
        " ".join(filter(None, [percent(each.value, each.deviation) + star, interval(each.low, each.high)]))
        for each, star in zip(row.estimates, stars or [""] * len(row.estimates), strict=True)
    ]


def _notes(comparison: Comparison) -> list[str]:
    if len(comparison.rows) == 1:
        return list(comparison.notes)
    star = f"* differs from {comparison.baseline} (p < 0.05); others are not distinguishable from it"
    return [*comparison.notes, star]


def _plain(metric: Metric, metrics: Sequence[Metric]) -> str:
    name, subscripts = _parts(metric, metrics)
    if subscripts and subscripts[0].isdecimal():
        name += subscripts.pop(0)
    return "_".join([name, *subscripts])


def _mathematical(metric: Metric, metrics: Sequence[Metric]) -> str:
    name, subscripts = _parts(metric, metrics)
    return rf"{name}$_\mathrm{{{','.join(subscripts)}}}$" if subscripts else name


def _parts(metric: Metric, metrics: Sequence[Metric]) -> tuple[str, list[str]]:
    """Return a metric's name and subscripts as in ECM's tables; the kind unless it is the first one's."""
    if metric.name == "AP":
        return "mAP", [metric.kind]
    stem, rest = (metric.name[:2], metric.name[2:]) if metric.name.startswith("AP") else (metric.name, "")
    words = [rest] if metric.kind == metrics[0].kind else [rest, metric.kind]
    return stem, [word for word in words if word]


def _markdown(text: str) -> str:
    return text.replace("|", r"\|").replace("*", r"\*")


def _escaped(text: str) -> str:
    return "".join(TEX.get(character, character) for character in text)


def _set(cell: str) -> str:
    """Return a cell with its interval in small type."""
    number, bracket, rest = cell.replace("±", r"$\pm$").replace("*", "$^*$").partition(" [")
    return rf"{number} {{\scriptsize [{rest}}}" if bracket else number
