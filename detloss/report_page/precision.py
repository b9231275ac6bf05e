"""AP against class frequency, and precision and recall by frequency group, of every method."""

from collections.abc import Sequence

import numpy as np

from detloss.comparison.texts import percent
from detloss.plots.figure import GROUP_NAMES
from detloss.plots.several_methods import draw_ap_by_frequency, draw_precision_recall
from detloss.report_page.blocks import Column, Figure, Section, Table
from detloss.report_page.scored import Scored, mean_ap, means_over_seeds
from detloss.report_page.svg import inline_svg

BINS = 8
"""The most points of a line of AP by frequency."""

SHOWN_RECALLS = (10, 30, 50, 70, 90)
"""Percent, in the table beside the curves."""


def ap_by_frequency(scored: Sequence[Scored], methods: Sequence[str]) -> Section:
    """Return AP of the classes by their training images, means over a method's seeds."""
    ap = means_over_seeds(scored, len(methods), lambda each: each.ap)
    images = scored[0].run.stats.images
    bins = frequency_bins(images)
    means = [np.array([mean_ap(own[part]) for part in bins]) for own in ap]
    rows = [
        (_span(images[part]), str(len(part)), *(percent(float(own[place])) for own in means))
        for place, part in enumerate(bins)
    ]
    columns = [Column("training images", numeric=False), Column("classes"), *map(Column, methods)]
    table = Table.of("AP x 100 of classes about as frequent", columns, rows)
    ends = [
        f"{name} {percent(float(own[0]))} to {percent(float(own[-1]))}"
        for name, own in zip(methods, means, strict=True)
    ]
    seen = "AP of classes against their training images, from the rarest to the most frequent: " + ", ".join(ends)
    caption = "A light dot is a class, a line goes through the means of classes about as frequent."
    at = np.array([np.exp(np.log(np.maximum(images[part], 1)).mean()) for part in bins])
    figure = draw_ap_by_frequency(ap, images, means, at, methods)
    drawn = Figure("AP by class frequency", inline_svg(figure, "frequency", seen), caption, table)
    return Section("frequency", "AP by class frequency", (drawn,))


def precision_and_recall(scored: Sequence[Scored], methods: Sequence[str]) -> Section:
    """Return precision over recall at IoU 0.5 by group, means over a group's classes and a method's seeds."""
    groups = [group for group in (*GROUP_NAMES, "all") if group in scored[0].precision]
    curves = means_over_seeds(
        scored, len(methods), lambda each: np.stack([each.precision[group] for group in groups])
    )
    of_methods = [dict(zip(groups, own, strict=True)) for own in curves]
    columns = [Column("group", numeric=False), Column("method", numeric=False), Column("AP50")]
    columns += [Column(f"at recall {recall} %") for recall in SHOWN_RECALLS]
    rows = [
        (
            GROUP_NAMES.get(group, "all"),
            name,
            percent(float(own[group].mean())),
            *(percent(float(own[group][recall])) for recall in SHOWN_RECALLS),
        )
        for group in groups
        for name, own in zip(methods, of_methods, strict=True)
    ]
    table = Table.of("Precision x 100 at IoU 0.5", columns, rows)
    parts = [f"{row[0]}, {row[1]} {row[2]}" for row in rows]
    seen = "Precision over recall at IoU 0.5 by group; the areas, AP50: " + "; ".join(parts)
    caption = "Means over the classes of a group that have objects, and over a method's seeds."
    figure = draw_precision_recall(of_methods, methods)
    drawn = Figure("precision and recall", inline_svg(figure, "precision", seen), caption, table)
    return Section("precision", "Precision and recall", (drawn,))


def frequency_bins(images: np.ndarray) -> list[np.ndarray]:
    """Return the classes by training images [C], the rarest first, in about `BINS` parts of about one size.

    Equally frequent classes stay together.
    """
    order = np.argsort(images, kind="stable")
    ascending = images[order]
    parts = min(BINS, -(-len(images) // 4))
    cuts = np.arange(parts) * len(images) // parts
    return np.split(order, np.unique(np.searchsorted(ascending, ascending[cuts]))[1:])


def _span(images: np.ndarray) -> str:
    least, most = int(images.min()), int(images.max())
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"
