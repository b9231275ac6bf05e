"""Several methods in one figure: AP by class frequency, precision and recall, what errors cost (no torch here)."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from detloss.evaluation.analysis import ALL
from detloss.evaluation.average_precision import RECALLS
from detloss.evaluation.error_types import TYPES
from detloss.plots.errors import TYPE_COLOURS
from detloss.plots.figure import GROUP_NAMES, line_styles, new_figure, plain
from detloss.plots.panels import WIDTH, group_panels, legend_below, tidy

MANY = 400
"""From so many dots on they are drawn as pixels: as shapes they would be most of a page."""


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


def draw_ap_by_frequency(
    ap: Sequence[np.ndarray],
    images: np.ndarray,
    means: Sequence[np.ndarray],
    at: np.ndarray,
    methods: Sequence[str],
) -> Figure:
    """Return AP of each class, a light dot, and a line for each method.

    Args:
        ap: [C] of every method, NaN where undefined.
        images: [C], training images.
        means: [B] of every method, over classes about as frequent, which stand ``at`` [B].
    """
    figure = new_figure(WIDTH, 4.4)
    axes = figure.subplots()
    many = images.size * len(methods) > MANY
    size, alpha = (6, 0.2) if many else (14, 0.45)
    for own, mean, (color, stroke) in zip(ap, means, line_styles(len(methods)), strict=True):
        axes.scatter(images, 100 * own, s=size, color=color, alpha=alpha, linewidths=0, rasterized=many)
        axes.plot(at, 100 * mean, color=color, linestyle=stroke, marker="o", markersize=4)
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
