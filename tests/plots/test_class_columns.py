"""The chart of a table's columns."""

import numpy as np

from detloss.plots.class_columns import draw_columns
from detloss.stats import ClassStats
from detloss.stats_table import Column, StatsTable


def test_each_column_has_a_panel_with_its_values_by_falling_number_of_images() -> None:
    stats = ClassStats(
        ("rare", "frequent", "common"), (1, 2, 3), 4000, np.array([4, 3500, 60]), np.array([3, 3000, 40])
    )
    margin = Column("ldam.margin", "margin", ".4f", np.array([0.5, 0.1, 0.25]))
    figure = draw_columns(StatsTable.make(stats, [margin], thresholds=(10, 100)))
    panels = {axes.get_title("left"): axes for axes in figure.axes if axes.get_visible()}
    assert list(panels) == ["images", "instances", "ldam.margin"]
    points = {
        name: {line.get_label(): (line.get_xdata().tolist(), line.get_ydata().tolist()) for line in axes.lines}
        for name, axes in panels.items()
    }
    assert points["images"] == {"rare": ([3], [3]), "common": ([2], [40]), "frequent": ([1], [3000])}
    assert points["ldam.margin"] == {"rare": ([3], [0.5]), "common": ([2], [0.25]), "frequent": ([1], [0.1])}
    assert panels["images"].get_yscale() == "symlog"  # 3 to 3000
    assert panels["ldam.margin"].get_yscale() == "linear"
