"""Losses over the steps, and AP where runs were evaluated on the way."""

from collections.abc import Sequence

from detloss.plots.history import Line
from detloss.plots.several_runs import draw_training, loss_curves, metric_curves
from detloss.report_page.blocks import Block, Column, Figure, Section, Table, Text
from detloss.report_page.scored import Scored
from detloss.report_page.svg import inline_svg


def training(
    scored: Sequence[Scored], lines: Sequence[Sequence[Line]], methods: Sequence[str], kind: str
) -> Section:
    """Return the curves of ``metrics.jsonl``; the metric is AP of overlaps of ``kind``."""
    of_methods = [(each.method, own) for each, own in zip(scored, lines, strict=True)]
    losses, metrics = loss_curves(of_methods), metric_curves(of_methods, f"{kind}/AP")
    blocks: list[Block] = []
    if losses:
        ends = [(methods[each.method], float(each.steps[-1]), float(each.values[-1])) for each in losses]
        seen = "Loss over the steps; last logged: " + ", ".join(f"{name} {loss:.3g}" for name, _, loss in ends)
        caption = "Each line is a run. Losses of different methods have different scales: their shapes compare, "
        caption += "their heights do not." + ("" if metrics else " AP was measured once in each run, at its end.")
        drawn = inline_svg(draw_training(losses, metrics, methods), "training", seen)
        blocks.append(Figure("losses", drawn, caption))
    logged = [(each, own) for each, own in zip(scored, lines, strict=True) if own]
    if logged:
        columns = (Column("run", numeric=False), Column("steps"), Column("first loss"), Column("last loss"))
        rows = [(each.label, *_ends(own)) for each, own in logged]
        blocks.append(Table.of("Length and loss of the runs", columns, rows))
    silent = [each.label for each, own in zip(scored, lines, strict=True) if not own]
    if silent:
        blocks.append(Text(f"No metrics.jsonl: {', '.join(silent)}."))
    return Section("training", "Training", tuple(blocks))


def _ends(lines: Sequence[Line]) -> tuple[str, str, str]:
    losses = [value for line in lines if (value := line.get("loss")) is not None]
    steps = max(int(line["step"] or 0) for line in lines)
    first, last = (f"{losses[0]:.3g}", f"{losses[-1]:.3g}") if losses else ("-", "-")
    return f"{steps:,}", first, last
