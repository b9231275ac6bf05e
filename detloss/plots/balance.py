"""The balance of negative and positive gradient over a run: by group, by class over time, and in sum."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axis import Axis
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from detloss.gradients import ClassGradients, total
from detloss.plots.figure import GROUP_COLORS, GROUP_NAMES, new_figure, plain
from detloss.plots.history import Line, curve

TIMES = 40
"""The most points in time of a curve or heat map: windows are summed, as rare classes are in few of them."""

NAMED = 40
"""The most classes whose names are written on an axis."""

ROWS = 120
"""The most rows of a heat map: more classes than that share rows with those about as frequent."""

SOURCES = {"own": "#009e73", "others": "#e69f00", "background": "#0072b2"}
SOURCE_NAMES = {
    "own": "own positives (pull)", "others": "other classes' positives (push)", "background": "background (push)",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Balance:
    """What the probe found in a run: windows, the steps they end at, and the classes, the most frequent first.

    Attributes:
        steps: [W], in ascending order.
        windows: [W].
        names: [C].
        groups: [C], r, c or f.
        images: [C], training images.
        reference: [C], ratios that ECM's margins make, for its runs.
        title: what the run is.
    """

    steps: list[int]
    windows: list[ClassGradients]
    names: tuple[str, ...]
    groups: tuple[str, ...]
    images: np.ndarray
    reference: np.ndarray | None
    title: str

    @property
    def order(self) -> np.ndarray:
        """Classes by training images, most first."""
        return np.lexsort((np.arange(len(self.images)), -self.images))

    def over_time(self, times: int) -> tuple[list[int], list[ClassGradients]]:
        """Return the windows in at most ``times`` sums, and the steps these end at."""
        size = math.ceil(len(self.windows) / times)
        ends = range(size, len(self.windows) + size, size)
        return (
            [self.steps[min(end, len(self.steps)) - 1] for end in ends],
            [total(self.windows[end - size : end]) for end in ends],
        )

    def ratios(self) -> dict[str, tuple[list[int], list[float]]]:
        """Return the steps at which a ratio is defined, and the ratios, of each group with classes and all."""
        steps, sums = self.over_time(TIMES)
        groups = [group for group in GROUP_NAMES if group in self.groups]
        ratios = {group: [one.group_ratios(self.groups)[group] for one in sums] for group in groups}
        ratios["all"] = [one.ratio() for one in sums]
        return {group: _known(steps, own) for group, own in ratios.items()}


def draw_ratios(balance: Balance, lines: Sequence[Line]) -> Figure:
    """Return ratios by group over the steps, above the gradient's norms at the features of both branches."""
    figure = new_figure(7.5, 6)
    ratios, norms = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    found = balance.ratios()
    for group, color in GROUP_COLORS.items():
        if group in found:
            ratios.plot(*found[group], color=color, marker="o", markersize=3, label=GROUP_NAMES[group])
    ratios.plot(*found["all"], color="black", linewidth=2, label="all classes")
    ratios.axhline(1, color="0.5", linestyle=":", linewidth=1)
    ratios.set(yscale="log", ylabel="negative / positive gradient", title=f"{plain(balance.title)}{_rates(lines)}")
    ratios.legend(frameon=False, fontsize=8, ncols=4)
    learns = False  # in the second stage of decoupled learning features do not: norms are 0
    for name, label, color in (("classification", "class branch", "#cc79a7"), ("box", "box branch", "#56b4e9")):
        at, values = curve(lines, f"gradient/{name}_norm")
        norms.plot(at, values, color=color, linewidth=1.2, label=label)
        learns |= any(values)
    scale = "log" if learns else "linear"
    norms.set(xlabel="step", ylabel="gradient norm at\nthe shared features", yscale=scale)
    norms.legend(frameon=False, fontsize=8, ncols=2)
    for axes in (ratios, norms):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_heat_map(balance: Balance) -> Figure:
    """Return each class's ratio over the steps, red where negatives outweigh, grey without positives."""
    steps, sums = balance.over_time(TIMES)
    rows = np.array_split(balance.order, min(ROWS, len(balance.order)))
    ratios = np.array([[one.ratio(row) for one in sums] for row in rows], dtype=np.float64)
    edges = np.cumsum([0, *map(len, rows)])
    known = ratios[np.isfinite(ratios) & (ratios > 0)]
    widest = float(np.quantile(np.abs(np.log10(known)), 0.98)) if len(known) else 1.0
    bound = 10 ** max(widest, 0.1)
    figure = new_figure(7.5, max(3.5, 1.2 + 0.2 * min(len(balance.names), NAMED)))
    axes = figure.subplots()
    axes.set_facecolor("0.85")
    mesh = axes.pcolormesh(
        [0, *steps], edges, np.ma.masked_invalid(np.clip(ratios, 1 / bound, bound)),
        cmap="RdBu_r", norm=LogNorm(1 / bound, bound), rasterized=True,
    )  # fmt: skip
    axes.set(xlabel="step", title=plain(balance.title))
    _class_axis(axes.yaxis, balance, names_turned=0, groups_turned=90)
    axes.invert_yaxis()
    bar = figure.colorbar(mesh, ax=axes, extend="both", aspect=40)
    assert bar.solids is not None
    bar.solids.set_rasterized(True)  # as SVG its 256 shades would be most of the file
    bar.set_label("negative / positive gradient (grey: no positives)")
    return figure


def draw_classes(balance: Balance) -> Figure:
    """Return the run's sums by class and where they come from, above the ratios by class."""
    summed, order = total(balance.windows), balance.order
    figure = new_figure(8.5, 6.5)
    sums, ratios = figure.subplots(2, 1, sharex=True)
    places = np.arange(len(order)) + 0.5
    size = 5 if len(order) <= NAMED else 2
    for source, color in SOURCES.items():
        values = getattr(summed, source)[order]
        sums.plot(
            places,
            np.where(values > 0, values, np.nan),
            "o",
            color=color,
            markersize=size,
            label=SOURCE_NAMES[source],
        )
    sums.set(yscale="log", ylabel="summed |gradient| on the logit", title=plain(balance.title))
    ratios.plot(places, summed.ratios()[order], "o", color="black", markersize=size, label="measured")
    if balance.reference is not None:
        label = r"ECM's margins at logit 0, $\alpha^{3/4}$ (eq. 33, 34)"
        ratios.plot(places, balance.reference[order], "_", color="#cc79a7", markersize=2 * size, label=label)
    ratios.axhline(1, color="0.5", linestyle=":", linewidth=1)
    ratios.set(yscale="log", ylabel="negative / positive gradient")
    _class_axis(ratios.xaxis, balance, names_turned=90, groups_turned=0)
    for axes in (sums, ratios):
        axes.legend(frameon=False, fontsize=8, ncols=3)
        axes.grid(alpha=0.3, axis="y")
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _known(steps: Sequence[int], values: Sequence[float | None]) -> tuple[list[int], list[float]]:
    """Return the points at which a ratio is defined; a line goes straight on over the others."""
    known = [(step, value) for step, value in zip(steps, values, strict=True) if value is not None]
    return [step for step, _ in known], [value for _, value in known]


def _rates(lines: Sequence[Line]) -> str:
    """Return the least and greatest rate of single steps as aLRP's Fig. 4 writes them, "1/4.269 to 1083.708"."""
    least, most = (curve(lines, f"gradient/ratio_{end}")[1] for end in ("min", "max"))
    if not least or not most:
        return ""
    written = [f"1/{1 / rate:.3f}" if 0 < rate < 1 else f"{rate:.3f}" for rate in (least[-1], most[-1])]
    return f"; single steps from {written[0]} to {written[1]}"


def _class_axis(axis: Axis, balance: Balance, *, names_turned: int, groups_turned: int) -> None:
    """Name the classes where they are few, and else their frequency groups, from the most frequent class."""
    order = balance.order
    if len(order) <= NAMED:
        axis.set_ticks(np.arange(len(order)) + 0.5, [plain(balance.names[index]) for index in order])
        axis.set_tick_params(labelsize=7, rotation=names_turned, length=0)
        for label, index in zip(axis.get_ticklabels(), order, strict=True):
            label.set_color(GROUP_COLORS[balance.groups[index]])
        axis.set_label_text("classes, most frequent first (rare red, common green, frequent blue)", fontsize=8)
        return
    sorted_groups = np.array(balance.groups)[order]
    middles = {
        group: np.flatnonzero(sorted_groups == group).mean() + 0.5
        for group in GROUP_NAMES
        if group in sorted_groups
    }
    edges = np.flatnonzero(sorted_groups[1:] != sorted_groups[:-1]) + 1
    axis.set_ticks(edges, ["" for _ in edges])
    axis.set_ticks(list(middles.values()), [GROUP_NAMES[group] for group in middles], minor=True)
    axis.set_tick_params(which="minor", length=0, rotation=groups_turned)
    axis.set_label_text(f"{len(order):,} classes, most frequent first", fontsize=8)
