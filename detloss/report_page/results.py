"""Which method is better, with intervals: what ``detloss compare`` prints, as tables."""

from collections.abc import Sequence

import numpy as np

from detloss.comparison.result import Comparison, Difference, Estimate
from detloss.comparison.table import heading
from detloss.comparison.texts import interval, p_value, percent, signed
from detloss.plots.several_methods import draw_estimates
from detloss.report_page.blocks import Block, Cell, Column, Figure, Listing, Row, Section, Table
from detloss.report_page.svg import inline_svg


def results(comparison: Comparison, methods: Sequence[str], baseline: str) -> Section:
    """Return the metrics of all methods and what each differs from ``baseline``, one of ``methods``."""
    metrics = [Column(heading(metric, comparison.metrics)) for metric in comparison.metrics]
    first = Column("method", numeric=False)
    rows = [
        Row((Cell(name), Cell(str(len(row.method.runs))), *map(_estimate, row.estimates)))
        for name, row in zip(methods, comparison.rows, strict=True)
    ]
    caption = "Metrics x 100 with 95% intervals"
    blocks: list[Block] = [Table(caption, (first, Column("seeds"), *metrics), tuple(rows))]
    if len(methods) > 1:
        blocks.insert(0, _figure(comparison, methods))
    others = [
        Row((Cell(name), *map(_difference, row.differences)))
        for name, row in zip(methods, comparison.rows, strict=True)
        if row.differences
    ]
    if others:
        blocks.append(Table(f"Differences to {baseline} x 100", (first, *metrics), tuple(others)))
    return Section("results", "Results", (*blocks, Listing(tuple(f"{note}." for note in comparison.notes))))


def _figure(comparison: Comparison, methods: Sequence[str]) -> Figure:
    """Return the estimates with their intervals beside one another."""
    numbers = [[(each.value, each.low, each.high) for each in row.estimates] for row in comparison.rows]
    values, lows, highs = np.moveaxis(np.array(numbers), 2, 0)
    names = [heading(metric, comparison.metrics) for metric in comparison.metrics]
    best = [
        f"{name}: highest {methods[int(np.nanargmax(own))]} {percent(float(np.nanmax(own)))}"
        for name, own in zip(names, values.T, strict=True)
        if not np.isnan(own).all()
    ]
    seen = "Metrics of all methods with 95% intervals; the table below has the numbers. " + "; ".join(best)
    drawn = inline_svg(draw_estimates(values, lows, highs, names, methods), "estimates", seen)
    return Figure(
        "metrics", drawn, "Each metric x 100; a line spans its 95% interval, over what the notes below say."
    )


def _estimate(estimate: Estimate) -> Cell:
    return Cell(percent(estimate.value, estimate.deviation), (interval(estimate.low, estimate.high),))


def _difference(difference: Difference) -> Cell:
    if difference.identical:
        return Cell("0", (difference.verdict,))
    notes = [interval(difference.low, difference.high, signs=True)]
    notes += [f"p {p_value(difference.p)}"] if difference.p is not None else []
    return Cell(signed(difference.value), (*notes, difference.verdict), strong=difference.verdict == "differs")
