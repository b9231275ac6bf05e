"""The statistics as figures: class frequencies, sampled epochs, co-occurrence, and ECM's own (no torch)."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from detloss.cooccurrence import cooccurrence
from detloss.data.image_labels import ImageLabels
from detloss.plots.ecm import ecm_figures
from detloss.plots.figure import GROUP_COLORS, new_figure, plain, write_figures
from detloss.sampler_columns import Epoch
from detloss.stats import ClassStats, frequency_groups
from detloss.stats_table import by_images

SAMPLER_MARKS = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "x"), ("#E69F00", "d"))

NAMED = 40
"""Classes up to which their names stand at an axis."""


def draw_figures(
    folder: Path,
    stats: ClassStats,
    *,
    thresholds: tuple[int, int] | None,
    background_ratio: float | None,
    epochs: Mapping[str, Epoch],
    labels: ImageLabels | None,
) -> list[Path]:
    """Write every figure as PNG and SVG and return the files.

    Without ``labels`` only counts are known: neither samplers nor co-occurrence are drawn. ``background_ratio`` is
    None for heads without background.
    """
    groups = frequency_groups(stats.images, thresholds)
    figures = {"class_frequency": class_frequency(stats, groups)}
    if epochs:
        figures["sampling"] = sampling(stats, epochs)
    if labels is not None:
        figures["cooccurrence"] = cooccurrence_map(stats, groups, cooccurrence(labels))
    figures |= ecm_figures(stats, groups, background_ratio, GROUP_COLORS)
    return write_figures(figures, folder)


def class_frequency(stats: ClassStats, groups: tuple[str, ...]) -> Figure:
    """Draw images and instances of the classes, by falling number of images, on a logarithmic scale."""
    figure = new_figure(9, 4.2)
    axes = figure.subplots()
    order = by_images(stats)
    ranks, of_rank = np.arange(1, len(order) + 1), np.array(groups)[order]
    size = 26 if len(order) <= NAMED else 7
    for group, name in (("f", "frequent"), ("c", "common"), ("r", "rare")):
        own = of_rank == group
        if own.any():
            classes, colour = order[own], GROUP_COLORS[group]
            axes.scatter(
                ranks[own], stats.instances[classes], s=size, marker="^", color=colour, alpha=0.45, linewidths=0
            )
            axes.scatter(
                ranks[own], stats.images[classes], s=size, color=colour, label=f"{name} ({own.sum()} classes)"
            )
    axes.scatter([], [], color="0.4", label="images")
    axes.scatter([], [], color="0.4", marker="^", alpha=0.5, label="instances")
    axes.set(yscale="log", ylabel="number in the training set")
    axes.set_title(f"{stats.num_classes:,} classes in {stats.num_images:,} images", loc="left")
    if (stats.images == 0).any():
        axes.set_yscale("symlog", linthresh=1)
        axes.set_ylim(bottom=-0.1)
    _class_axis(axes, stats, order)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False, loc="upper right")
    return figure


def sampling(stats: ClassStats, epochs: Mapping[str, Epoch]) -> Figure:
    """Draw the images and instances of each class that an epoch shows on average, for each sampler."""
    figure = new_figure(9, 6.8)
    panels = figure.subplots(2, 1, sharex=True)
    order = by_images(stats)
    ranks = np.arange(1, len(order) + 1)
    size = 6.0 if len(order) <= NAMED else 2.0
    for axes, what, before in zip(panels, ("images", "instances"), (stats.images, stats.instances), strict=True):
        axes.plot(ranks, before[order], color="black", linewidth=0.9, label="the data set, and uniform")
        others = {name: epoch for name, epoch in epochs.items() if name != "uniform"}
        for (name, epoch), (colour, marker) in zip(others.items(), SAMPLER_MARKS, strict=False):
            counts = epoch.images if what == "images" else epoch.instances
            axes.plot(
                ranks, counts[order], marker, markersize=size, color=colour, fillstyle="none",
                label=f"{name}: {epoch.length:,.0f} images",
            )  # fmt: skip
        axes.set(yscale="symlog" if (before == 0).any() else "log", ylabel=f"{what} an epoch, expected")
        axes.grid(axis="y", alpha=0.3)
    _class_axis(panels[1], stats, order)
    figure.legend(
        *panels[0].get_legend_handles_labels(), frameon=False, loc="outside upper left", ncols=4,
        fontsize=9, columnspacing=1.2, markerscale=1 if len(order) <= NAMED else 2.5,
    )  # fmt: skip
    return figure


def cooccurrence_map(stats: ClassStats, groups: tuple[str, ...], counts: np.ndarray) -> Figure:
    """Draw which share of a class's images also shows another, classes by falling number of images."""
    figure = new_figure(8, 7)
    axes = figure.subplots()
    order = by_images(stats)
    own = np.maximum(np.diagonal(counts), 1)
    shares = (counts / own[:, None])[np.ix_(order, order)]
    np.fill_diagonal(shares, np.nan)
    shares[shares == 0] = np.nan
    lowest = max(float(np.nanmin(shares, initial=1.0)), 1e-4)
    drawn = axes.imshow(
        shares, norm="log" if lowest < 1 else None, vmin=lowest, vmax=1, cmap="viridis", interpolation="nearest"
    )
    colours = figure.colorbar(drawn, ax=axes, shrink=0.8)
    colours.set_label("share of the row's images that show the column, too")
    axes.set_title("Classes that are seen together (white: never)", loc="left")
    if len(order) <= NAMED:
        names = [plain(stats.names[index]) for index in order]
        axes.set_xticks(range(len(order)), names, rotation=90, fontsize=7)
        axes.set_yticks(range(len(order)), names, fontsize=7)
        return figure
    axes.set(xlabel="class, by images", ylabel="class, by images")
    ends = np.cumsum([groups.count(group) for group in "fcr"])[:-1]
    for end in ends:
        axes.axhline(end - 0.5, color="#D55E00", linewidth=0.7)
        axes.axvline(end - 0.5, color="#D55E00", linewidth=0.7)
    return figure


def _class_axis(axes: Axes, stats: ClassStats, order: np.ndarray) -> None:
    if len(order) > NAMED:
        axes.set_xlabel("class, by falling number of images")
        axes.margins(x=0.01)
        return
    names = [plain(stats.names[index]) for index in order]
    axes.set_xticks(range(1, len(order) + 1), names, rotation=60, ha="right", fontsize=8)
