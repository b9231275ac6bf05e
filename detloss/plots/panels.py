"""What figures of several methods share: a panel for each frequency group, and the methods' names below."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from detloss.plots.figure import GROUP_NAMES, line_styles, new_figure, plain

WIDTH = 8.4
"""Inches: a page's figures have one width."""

LEGEND = 110
"""About how many letters a line of the legend holds."""

LINE = 0.19
"""Inches: the height of a line of the legend."""


def group_panels(groups: Sequence[str], *, x: str, y: str) -> tuple[Figure, dict[str, Axes]]:
    """Return a figure with a panel for each of ``groups``, r, c, f or all, its axes named ``x`` and ``y``."""
    rows = -(-len(groups) // 2)
    figure = new_figure(WIDTH, 0.6 + 2.6 * rows)
    figure.set_layout_engine("constrained", wspace=0.06)  # so that numbers of neighbours do not touch
    every = figure.subplots(rows, 2, sharex=True, sharey=True, squeeze=False).ravel().tolist()
    for index, axes in enumerate(every):
        if index >= len(groups):
            axes.set_axis_off()
            continue
        axes.set_title(f"{GROUP_NAMES.get(groups[index], groups[index])} classes", loc="left", fontsize=10)
        if index % 2 == 0:
            axes.set_ylabel(y, fontsize=9)
        if index + 2 >= len(groups):  # nothing is below it
            axes.set_xlabel(x)
            axes.tick_params(labelbottom=True)
        tidy(axes)
    return figure, dict(zip(groups, every, strict=False))


def logarithmic(axes: Axes) -> None:
    """Scale the values by powers of ten, written out; and what is between them where they are few."""
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))


def tidy(axes: Axes) -> None:
    """Give a light grid, and no frame at the top and right."""
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def legend_below(figure: Figure, methods: Sequence[str], shown: Sequence[int] | None = None) -> None:
    """Name the methods (those ``shown``) with their colours below the panels, where they cover nothing."""
    styles = line_styles(len(methods))
    chosen = list(range(len(methods))) if shown is None else list(shown)
    axes = figure.axes[0]
    handles = [axes.plot([], [], color=styles[i][0], linestyle=styles[i][1], linewidth=2)[0] for i in chosen]
    names = [plain(methods[i]) for i in chosen]
    columns = max(1, min(len(chosen), LEGEND // (max(map(len, names)) + 8)))
    rows = -(-len(chosen) // columns)
    figure.set_figheight(figure.get_figheight() + LINE * (rows - 1))  # or else many names take the panels' room
    figure.legend(handles, names, frameon=False, loc="outside lower center", ncols=columns, fontsize=9)
