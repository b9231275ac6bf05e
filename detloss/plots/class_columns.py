"""Class statistics as a figure: a panel for each column of the table, whatever the loss makes of the counts."""

import numpy as np
from matplotlib.figure import Figure

from detloss.plots.figure import GROUP_COLORS, GROUP_NAMES, new_figure
from detloss.stats_table import StatsTable

WIDE = 100
"""How many times its least a column's greatest value is, from which on its axis is logarithmic."""


def draw_columns(table: StatsTable) -> Figure:
    """Draw each column over the classes, the most frequent first, in the colours of their groups."""
    across = min(3, len(table.columns))
    down = -(-len(table.columns) // across)
    figure = new_figure(4 * across, 2.6 * down)
    panels = figure.subplots(down, across, squeeze=False, sharex=True).ravel()
    groups = np.array([row.group for row in table.classes])
    ranks = np.arange(1, len(groups) + 1)
    for axes, column in zip(panels, table.columns, strict=False):
        values = np.array([row.values[column.name] for row in table.classes], dtype=np.float64)
        for group, color in GROUP_COLORS.items():
            own = groups == group
            if own.any():
                axes.plot(ranks[own], values[own], ".", color=color, label=GROUP_NAMES[group])
        positive = values[values > 0]
        if len(positive) and values.min() >= 0 and values.max() > WIDE * positive.min():
            axes.set_yscale("symlog", linthresh=positive.min())  # with room for classes without any image
        axes.set_title(column.name, loc="left", fontsize=9)
        axes.grid(alpha=0.3)
    for axes in panels[len(table.columns) :]:
        axes.set_visible(False)
    figure.legend(*panels[0].get_legend_handles_labels(), frameon=False, loc="outside upper right", ncols=3)
    figure.supxlabel("classes, most frequent first", fontsize=9)
    return figure
