"""Several methods in one figure: AP by class frequency, precision and recall, what errors cost (no torch here)."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from detloss.evaluation.analysis import ALL
from detloss.evaluation.average_precision import RECALLS
from detloss.evaluation.error_types import TYPES
from detloss.plots.errors import TYPE_COLOURS
from detloss.plots.figure import GROUP_NAMES, line_styles, new_figure, plain

BINS = 8
"""The most points of a line of AP by frequency."""

MANY = 400
"""From so many dots on they are drawn as pixels: as shapes they would be most of a page."""


def frequency_bins(images: np.ndarray) -> list[np.ndarray]:
    """Return the classes in at most `BINS` parts of about one size, by training images, the rarest first."""
    order = np.argsort(images, kind="stable")
    return [part for part in np.array_split(order, min(BINS, -(-len(images) // 3))) if len(part)]


def draw_ap_by_frequency(ap: Sequence[np.ndarray], images: np.ndarray, methods: Sequence[str]) -> Figure:
    """Return AP of each class, a light dot, and the means of the classes about as frequent, a line per method.

    Args:
        ap: [C] of every method, NaN where undefined.
        images: [C], training images.
    """
    figure = new_figure(8.4, 4.4)
    axes = figure.subplots()
    bins = frequency_bins(images)
    for own, (color, stroke), name in zip(ap, line_styles(len(methods)), methods, strict=True):
        dots = images.size * len(methods) > MANY
        axes.scatter(
            images, 100 * own, s=6 if dots else 14, color=color, alpha=0.25, linewidths=0, rasterized=dots
        )
        means = [100 * _mean(own[part]) for part in bins]
        middle = [float(images[part].mean()) for part in bins]
        axes.plot(middle, means, color=color, linestyle=stroke, marker="o", markersize=4, label=plain(name))
    axes.set_xscale("symlog" if (images == 0).any() else "log")
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.set(xlabel="training images of the class", ylabel="AP x 100", ylim=(-2, None))
    _finish(figure, [axes], methods)
    return figure


def draw_precision_recall(precision: Sequence[Mapping[str, np.ndarray]], methods: Sequence[str]) -> Figure:
    """Return a panel for each group with a line for each method, of its precision [R] at `RECALLS`."""
    groups = [group for group in (*GROUP_NAMES, ALL) if group in precision[0]]
    rows = -(-len(groups) // 2)
    figure = new_figure(8.4, 0.6 + 2.7 * rows)
    panels = figure.subplots(rows, 2, sharex=True, sharey=True, squeeze=False).ravel().tolist()
    for axes, group in zip(panels, groups, strict=False):
        for own, (color, stroke), name in zip(precision, line_styles(len(methods)), methods, strict=True):
            axes.plot(RECALLS, own[group], color=color, linestyle=stroke, linewidth=1.6, label=plain(name))
        title = "all classes" if group == ALL else f"{GROUP_NAMES[group]} classes"
        axes.set_title(title, loc="left", fontsize=10)
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
    for axes in panels[len(groups) :]:
        axes.set_axis_off()
    figure.supxlabel("recall", fontsize=10)
    figure.supylabel("precision", fontsize=10)
    _finish(figure, panels[: len(groups)], methods)
    return figure


def draw_errors(lost: Sequence[np.ndarray], methods: Sequence[str]) -> Figure:
    """Return what AP50 loses by each type of error, a bar for each method from its [types]."""
    figure = new_figure(8.4, 1.3 + 0.34 * len(methods))
    axes = figure.subplots()
    points = 100 * np.maximum(np.nan_to_num(np.array(lost)), 0)
    left = np.zeros(len(methods))
    places = range(len(methods))
    for index, (name, color) in enumerate(zip(TYPES, TYPE_COLOURS, strict=True)):
        axes.barh(places, points[:, index], left=left, color=color, height=0.65, label=name)
        left += points[:, index]
    axes.set_yticks(places, [plain(name) for name in methods])
    axes.invert_yaxis()
    axes.set(xlabel="AP50 lost x 100; types overlap, the sum may exceed what is missing to 100")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.25)
    handles = axes.get_legend_handles_labels()
    figure.legend(*handles, frameon=False, loc="outside lower center", ncols=len(TYPES), fontsize=9)
    return figure


def _finish(figure: Figure, panels: Sequence[Axes], methods: Sequence[str]) -> None:
    """Add grids, and the methods' names below the panels, where they cover nothing."""
    for axes in panels:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    columns = max(1, min(len(methods), 110 // (max(map(len, methods)) + 8)))
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, frameon=False, loc="outside lower center", ncols=columns, fontsize=9)


def _mean(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")
