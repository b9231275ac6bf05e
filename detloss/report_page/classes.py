"""A row for every class: how often it occurs, AP of each method, and what that gains over the baseline."""

from collections.abc import Sequence

from detloss.comparison.texts import percent, signed
from detloss.evaluation.ground_truth import GroundTruth
from detloss.plots.figure import GROUP_NAMES
from detloss.report_page.blocks import Cell, Column, Row, Section, Table
from detloss.report_page.scored import Scored, means_over_seeds


def classes(scored: Sequence[Scored], methods: Sequence[str], baseline: int, ground_truth: GroundTruth) -> Section:
    """Return AP of every class, means over seeds, the rarest class first; ``baseline`` is a method's number."""
    ap = means_over_seeds(scored, len(methods), lambda each: each.ap)
    others = [number for number in range(len(methods)) if number != baseline]
    stats, groups = scored[0].run.stats, scored[0].run.groups
    instances = ground_truth.instances.tolist()
    rows = []
    for index in sorted(range(len(groups)), key=lambda index: (stats.images[index], index)):
        cells = [stats.names[index], GROUP_NAMES[groups[index]], f"{stats.images[index]:,}"]
        cells += [f"{instances[index]:,}", *(percent(own[index]) for own in ap)]
        cells += [signed(ap[number][index] - ap[baseline][index]) for number in others]
        rows.append(Row(tuple(map(Cell, cells)), groups[index]))
    columns = [Column("class", numeric=False), Column("group", numeric=False)]
    columns += [Column("training images"), Column("objects"), *map(Column, methods)]
    columns += [Column(methods[number]) for number in others]
    spans = [("", 4), ("AP x 100", len(methods)), (f"difference to {methods[baseline]}", len(others))]
    present = tuple((group, name) for group, name in GROUP_NAMES.items() if group in groups)
    table = Table(
        "AP of every class",
        tuple(columns),
        tuple(rows),
        spans=tuple(span for span in spans if span[1]),
        groups=present,
        sortable=True,
    )
    return Section("classes", "Classes", (table,))
