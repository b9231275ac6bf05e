"""Several methods in one figure: AP by class frequency, precision and recall, what errors cost (no torch here)."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from detloss.evaluation.average_precision import RECALLS
from detloss.evaluation.error_types import TYPES
from detloss.plots.errors import TYPE_COLOURS
from detloss.plots.figure import GROUP_NAMES, line_styles, new_figure, plain
from detloss.plots.panels import ALL, WIDTH, group_panels, legend_below, tidy

BINS = 8
"""The most points of a line of AP by frequency."""

MANY = 400
"""From so many dots on they are drawn as pixels: as shapes they would be most of a page."""


def frequency_bins(images: np.ndarray) -> list[np.ndarray]:
    """Return the classes in at most `BINS` parts of about one size, by training images, the rarest first."""
    order = np.argsort(images, kind="stable")
    return [part for part in np.array_split(order, min(BINS, -(-len(images) // 4))) if len(part)]


def draw_estimates(
    values: np.ndarray, lows: np.ndarray, highs: np.ndarray, metrics: Sequence[str], methods: Sequence[str]
) -> Figure:
    """Return a panel for each metric with a dot and its interval for each method, [methods, metrics] each."""
    figure = new_figure(WIDTH, 1.0 + 0.3 * len(methods))
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    places = np.arange(len(methods))
    for number, (axes, name) in enumerate(zip(panels, metrics, strict=True)):
        for place, (color, _) in zip(places, line_styles(len(methods)), strict=True):
            ends = [100 * lows[place, number], 100 * highs[place, number]]
            axes.plot(ends, [place, place], color=color, linewidth=2)
            axes.plot(100 * values[place, number], place, "o", color=color, markersize=5)
        axes.set_title(name, loc="left", fontsize=10)
        axes.margins(x=0.15)
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        tidy(axes)
        axes.grid(visible=False, axis="y")
    panels[0].set_yticks(places, [plain(name) for name in methods])
    panels[0].set_ylim(len(methods) - 0.5, -0.5)
    return figure


def draw_ap_by_frequency(ap: Sequence[np.ndarray], images: np.ndarray, methods: Sequence[str]) -> Figure:
    """Return AP of each class, a light dot, and the means of the classes about as frequent, a line per method.

    Args:
        ap: [C] of every method, NaN where undefined.
        images: [C], training images.
    """
    figure = new_figure(WIDTH, 4.4)
    axes = figure.subplots()
    bins = frequency_bins(images)
    many = images.size * len(methods) > MANY
    size, alpha = (6, 0.2) if many else (14, 0.45)
    for own, (color, stroke) in zip(ap, line_styles(len(methods)), strict=True):
        axes.scatter(images, 100 * own, s=size, color=color, alpha=alpha, linewidths=0, rasterized=many)
        means = [100 * mean_of(own, part) for part in bins]
        middle = [float(images[part].mean()) for part in bins]
        axes.plot(middle, means, color=color, linestyle=stroke, marker="o", markersize=4)
    axes.set_xscale("symlog" if (images == 0).any() else "log")
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.set(xlabel="training images of the class", ylabel="AP x 100", ylim=(0, None))
    tidy(axes)
    legend_below(figure, methods)
    return figure


def draw_precision_recall(precision: Sequence[Mapping[str, np.ndarray]], methods: Sequence[str]) -> Figure:
    """Return a panel for each group with a line for each method, of its precision [R] at `RECALLS`."""
    groups = [group for group in (*GROUP_NAMES, ALL) if group in precision[0]]
    figure, panels = group_panels(groups, x="recall", y="precision")
    for group, axes in panels.items():
        for own, (color, stroke) in zip(precision, line_styles(len(methods)), strict=True):
            axes.plot(RECALLS, own[group], color=color, linestyle=stroke, linewidth=1.6)
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
    legend_below(figure, methods)
    return figure


def draw_errors(lost: Sequence[np.ndarray], methods: Sequence[str]) -> Figure:
    """Return what AP50 loses by each type of error, a bar for each method from its [types]."""
    figure = new_figure(WIDTH, 1.3 + 0.34 * len(methods))
    axes = figure.subplots()
    points = 100 * np.maximum(np.nan_to_num(np.array(lost)), 0)
    left, places = np.zeros(len(methods)), range(len(methods))
    for index, (name, color) in enumerate(zip(TYPES, TYPE_COLOURS, strict=True)):
        axes.barh(places, points[:, index], left=left, color=color, height=0.65, label=name)
        left += points[:, index]
    axes.set_yticks(places, [plain(name) for name in methods])
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.02 * max(1, left.max())))
    axes.set(xlabel="AP50 lost x 100; types overlap, the sum may exceed what is missing to 100")
    tidy(axes)
    axes.grid(visible=False, axis="y")
    handles = axes.get_legend_handles_labels()
    figure.legend(*handles, frameon=False, loc="outside lower center", ncols=len(TYPES), fontsize=9)
    return figure


def mean_of(values: np.ndarray, chosen: np.ndarray | slice = slice(None)) -> float:
    """Return the mean of what is defined among ``chosen``, NaN where nothing is."""
    defined = values[chosen][~np.isnan(values[chosen])]
    return float(defined.mean()) if len(defined) else float("nan")
