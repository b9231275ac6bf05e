"""Errors as figures: their types, the classes that are confused, and ECM's bounds on what was found (no torch)."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from detloss.evaluation.analysis import ALL, Analysis, mean_of
from detloss.evaluation.error_types import TYPES
from detloss.evaluation.ranking_error import detection_error_bounds
from detloss.plots.figure import GROUP_COLORS, GROUP_NAMES, new_figure, plain
from detloss.stats import ClassStats

TYPE_COLOURS = ("#56B4E9", "#E69F00", "#CC79A7", "#999999", "#F0E442", "#000000")
"""Of `TYPES`, from Okabe and Ito's palette."""

MOST_CLASSES = 24
"""How many classes a confusion matrix shows, so that names and numbers can be read."""


def errors_by_group(analysis: Analysis) -> Figure:
    """Draw what AP50 loses by each type of error, and which share of a group's errors each type has."""
    groups = list(analysis.groups)
    figure = new_figure(10, 1.7 + 0.45 * len(groups))
    lost, shares = figure.subplots(1, 2, sharey=True)
    labels = [GROUP_NAMES.get(group, group) for group in groups]
    left = np.zeros((2, len(groups)))
    counts = np.array([analysis.errors[:, chosen].sum(axis=1) for chosen in analysis.groups.values()])
    totals = np.maximum(counts.sum(axis=1), 1)
    for index, (name, colour) in enumerate(zip(TYPES, TYPE_COLOURS, strict=True)):
        points = [100 * (mean_of(analysis.lost[index], chosen) or 0) for chosen in analysis.groups.values()]
        widths = np.array([np.maximum(points, 0), 100 * counts[:, index] / totals])
        for axes, width, start in zip((lost, shares), widths, left, strict=True):
            axes.barh(labels, width, left=start, color=colour, height=0.65, label=name)
        left += widths
    for place, total in enumerate(counts.sum(axis=1).tolist()):
        shares.text(101, place, f"{total:,}", va="center", fontsize=8, color="0.3")
    lost.invert_yaxis()
    lost.set_xlim(0, 1.05 * max(1, left[0].max()))
    lost.set(xlabel="AP50 lost, x 100; types overlap, the sum may exceed what is missing to 100")
    lost.xaxis.label.set_size(8)
    lost.set_title("What errors cost", loc="left")
    shares.set(xlim=(0, 100))
    shares.set_xlabel("share of the errors (%), of detections of all scores; right: their number", fontsize=8)
    shares.set_title("How many there are", loc="left")
    figure.legend(
        *lost.get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=len(TYPES), fontsize=9
    )
    return figure


def confusion_of_the_worst(analysis: Analysis, stats: ClassStats) -> Figure:
    """Draw as what the objects of the classes that are confused most were detected, classes by training images."""
    classes = _worst_classes(analysis)
    classes = classes[np.argsort(-stats.images[classes], kind="stable")]
    size = 2.6 + 0.3 * (len(classes) + 2)
    figure = new_figure(size + 0.6, size)
    axes = figure.subplots()
    counts = analysis.confusion.matrix(classes)
    shares = 100 * counts / np.maximum(analysis.outcomes.instances[classes], 1)[:, None]
    if not len(classes):
        axes.set_title("No two classes are confused", loc="left")
        axes.set_axis_off()
        return figure
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100, interpolation="none")
    for row, column in zip(*np.nonzero(shares >= 0.5), strict=True):
        share = shares[row, column]
        colour = "white" if share > 60 else "black"
        axes.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=7, color=colour)
    names = [plain(stats.names[index]) for index in classes]
    axes.set_xticks(
        range(len(names) + 2),
        [*names, "another class", "nothing"],
        rotation=60,
        ha="right",
        rotation_mode="anchor",
        fontsize=8,
    )
    axes.set_yticks(range(len(names)), names, fontsize=8)
    _colour_names(axes, analysis, classes)
    axes.axvline(len(names) - 0.5, color="0.4", linewidth=0.8)
    axes.set(xlabel="best detection on the object, IoU 0.5", ylabel="object, by falling number of training images")
    axes.set_title(f"The {len(names)} classes confused most: % of the objects of a row", loc="left")
    bar = figure.colorbar(drawn, ax=axes, shrink=0.5, label="% of the class's objects")
    assert bar.solids is not None
    bar.solids.set_rasterized(True)  # as SVG its 256 shades would be most of the file
    return figure


def ranking_and_detection_error(analysis: Analysis) -> Figure:
    """Draw the detection error with its bounds by R_c, and R_c with its bound (ECM, ECCV 2022, Fig. 2 and 3)."""
    figure = new_figure(10, 4.4)
    detection, ranking = figure.subplots(1, 2)
    errors = analysis.ranking
    product = errors.ratio * errors.ranking
    shown = product > 0
    size, opacity = (4, 0.35) if shown.sum() <= 100 else (2, 0.12)
    for colour, classes in _coloured(analysis):
        own = classes & shown
        detection.vlines(product[own], errors.lowest[own], errors.highest[own], color=colour, alpha=opacity)
        detection.plot(product[own], errors.detection[own], "o", markersize=size, color=colour)
        ranking.plot(errors.binary[own], errors.ranking[own], "o", markersize=size, color=colour)
    if shown.any():
        grid = np.geomspace(product[shown].min() / 1.5, product[shown].max() * 1.5, 200)
        _, highest = detection_error_bounds(grid, np.ones_like(grid))  # which is by the product of both
        detection.plot(grid, highest, color="black", linewidth=1, label="upper bound")
        detection.plot([], [], color="0.5", linewidth=1, label="a class: from its lower to the upper bound")
        detection.set_xscale("log")
        detection.legend(frameon=False, loc="upper left", fontsize=9)
    detection.set(xlabel=r"$\alpha_c R_c$: mean number of mistakes above an object / objects", ylim=(-0.02, 1.02))
    detection.set_ylabel(r"detection error $1 - \mathrm{ap}_c$")
    detection.set_title("Theorem 2", loc="left")
    limit = 1.1 * float(np.nanmax(np.where(shown, errors.binary, np.nan), initial=0.01))
    ranking.plot([0, limit], [0, limit], color="black", linewidth=1, label="upper bound")
    ranking.set(xlabel="binary error at the best score threshold", ylabel="ranking error $R_c$")
    ranking.set_title("Theorem 3", loc="left")
    for group in [group for group in analysis.groups if group != ALL]:
        ranking.plot([], [], "o", markersize=4, color=GROUP_COLORS[group], label=GROUP_NAMES[group])
    ranking.legend(frameon=False, loc="upper left", fontsize=9)
    for axes in (detection, ranking):
        axes.grid(alpha=0.3)
    return figure


def _worst_classes(analysis: Analysis) -> np.ndarray:
    """Return the classes, [K], of the most frequent confusions."""
    worst = analysis.confusion.worst(analysis.outcomes.categories * MOST_CLASSES)
    classes: list[int] = []
    for pair in zip(worst.object_class.tolist(), worst.detection_class.tolist(), strict=True):
        added = [index for index in pair if index not in classes]
        if len(classes) + len(added) > MOST_CLASSES:
            break
        classes += added
    return np.array(classes, dtype=np.int64)


def _coloured(analysis: Analysis) -> list[tuple[str, np.ndarray]]:
    """Return colours and which classes have them, [C] bool; a class of no group is black."""
    coloured = [(GROUP_COLORS[group], own) for group, own in analysis.groups.items() if group != ALL]
    rest = analysis.groups[ALL].copy()
    for _, own in coloured:
        rest &= ~own
    return [*coloured, ("black", rest)]


def _colour_names(axes: Axes, analysis: Analysis, classes: np.ndarray) -> None:
    for colour, own in _coloured(analysis):
        for place in np.flatnonzero(own[classes]).tolist():
            axes.get_xticklabels()[place].set_color(colour)
            axes.get_yticklabels()[place].set_color(colour)
