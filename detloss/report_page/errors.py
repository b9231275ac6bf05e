"""What kinds of errors cost how much, and which classes are taken for one another."""

from collections.abc import Sequence

from detloss.comparison.texts import percent
from detloss.evaluation.error_types import TYPES
from detloss.plots.several_methods import draw_errors
from detloss.report_page.blocks import Block, Column, Details, Figure, Section, Table
from detloss.report_page.scored import Scored, means_over_seeds
from detloss.report_page.svg import inline_svg


def errors(scored: Sequence[Scored], methods: Sequence[str]) -> Section:
    """Return what AP50 loses by type of error, and the confusions of each run."""
    lost = means_over_seeds(scored, len(methods), lambda each: each.lost["all"])
    columns = [Column("run", numeric=False), *map(Column, TYPES)]
    rows = [(each.label, *(percent(float(value)) for value in each.lost["all"])) for each in scored]
    table = Table.of("AP50 x 100 that a run loses by each type of error", columns, rows)
    parts = [
        f"{name}: " + ", ".join(f"{of} {percent(float(value))}" for of, value in zip(TYPES, own, strict=True))
        for name, own in zip(methods, lost, strict=True)
    ]
    caption = (
        "What AP50 would gain without the errors of a type, the mean over classes and seeds, as in TIDE (Bolya et "
        "al., ECCV 2020)."
    )
    figure = Figure(
        "errors", inline_svg(draw_errors(lost, methods), "errors", "AP50 lost. " + "; ".join(parts)), caption
    )
    matrices = [
        Details(f"Confusions of {each.label}", _confusions(each, f"confusion{number}"))
        for number, each in enumerate(scored)
    ]
    return Section("errors", "Errors and confusions", (figure, table, *matrices))


def _confusions(scored: Scored, name: str) -> tuple[Block, ...]:
    """Return the matrix of the classes that are confused most, and the most frequent pairs as a table."""
    worst, names = scored.confused, scored.run.stats.names
    columns = (
        Column("object", numeric=False),
        Column("detected as", numeric=False),
        Column("objects"),
        Column("% of the class"),
    )
    rows = [
        (names[own], names[other], f"{count:,}", percent(count / worst.instances[own]))
        for own, other, count in zip(
            worst.object_class.tolist(), worst.detection_class.tolist(), worst.counts.tolist(), strict=True
        )
    ]
    pairs = [f"{row[0]} as {row[1]} {row[3]} %" for row in rows[:5]]
    seen = "Confusion matrix of the classes confused most. " + (
        "Most frequent: " + ", ".join(pairs) if pairs else "No two classes are confused"
    )
    caption = "The best detection on each object at IoU 0.5, whatever its class, in % of the objects of a row."
    table = Table.of(f"The most frequent confusions of {scored.label}", columns, rows)
    return (
        Figure(
            f"confusions of {scored.label}",
            inline_svg(scored.matrix, name, seen),
            caption,
            table if rows else None,
        ),
    )
