"""Which method is better, with intervals: what ``detloss compare`` prints, as tables."""

from collections.abc import Sequence

from detloss.comparison.result import Comparison, Difference, Estimate
from detloss.comparison.table import heading
from detloss.comparison.texts import interval, p_value, percent, signed
from detloss.report_page.blocks import Cell, Column, Listing, Row, Section, Table


def results(comparison: Comparison, methods: Sequence[str], baseline: str) -> Section:
    """Return the metrics of all methods and what each differs from ``baseline``, one of ``methods``."""
    metrics = [Column(heading(metric, comparison.metrics)) for metric in comparison.metrics]
    first = Column("method", numeric=False)
    rows = [
        Row((Cell(name), Cell(str(len(row.method.runs))), *map(_estimate, row.estimates)))
        for name, row in zip(methods, comparison.rows, strict=True)
    ]
    caption = "Metrics x 100 with 95% intervals"
    blocks = [Table(caption, (first, Column("seeds"), *metrics), tuple(rows))]
    others = [
        Row((Cell(name), *map(_difference, row.differences)))
        for name, row in zip(methods, comparison.rows, strict=True)
        if row.differences
    ]
    if others:
        blocks.append(Table(f"Differences to {baseline} x 100", (first, *metrics), tuple(others)))
    return Section("results", "Results", (*blocks, Listing(tuple(f"{note}." for note in comparison.notes))))


def _estimate(estimate: Estimate) -> Cell:
    return Cell(percent(estimate.value, estimate.deviation), (interval(estimate.low, estimate.high),))


def _difference(difference: Difference) -> Cell:
    if difference.identical:
        return Cell("0", (difference.verdict,))
    notes = [interval(difference.low, difference.high, signs=True)]
    notes += [f"p {p_value(difference.p)}"] if difference.p is not None else []
    return Cell(signed(difference.value), (*notes, difference.verdict), strong=difference.verdict == "differs")
