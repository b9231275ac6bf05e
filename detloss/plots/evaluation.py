"""An evaluation as figures: precision and recall, AP by class frequency, what scores are worth (no torch)."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from detloss.evaluation.analysis import ALL, CONFIDENT, Analysis
from detloss.evaluation.average_precision import RECALLS
from detloss.evaluation.calibration_error import BINS
from detloss.evaluation.outcomes import precisions_by_group
from detloss.evaluation.result import Evaluation
from detloss.plots.errors import confusion_of_the_worst, errors_by_group, ranking_and_detection_error
from detloss.plots.figure import GROUP_COLORS, GROUP_NAMES, new_figure, plain, write_figures
from detloss.stats import ClassStats

ALL_COLOUR = "black"
MISTAKE_COLOUR = "0.55"


def draw_figures(
    folder: Path, evaluation: Evaluation, analyses: Mapping[str, Analysis], stats: ClassStats
) -> list[Path]:
    """Write the figures of every kind of IoU as PNG and SVG; ``stats`` is the training set's. Return the files."""
    figures: dict[str, Figure] = {}
    for kind, analysis in analyses.items():
        ap = np.array([np.nan if row[f"{kind}_AP"] is None else row[f"{kind}_AP"] for row in evaluation.per_class])
        figures |= {
            f"{kind}_precision_recall": precision_recall(analysis),
            f"{kind}_ap_by_frequency": ap_by_frequency(analysis, ap.astype(np.float64), stats),
            f"{kind}_scores": score_histograms(analysis),
            f"{kind}_reliability": reliability_diagram(analysis),
            f"{kind}_errors": errors_by_group(analysis),
            f"{kind}_confusion": confusion_of_the_worst(analysis, stats),
            f"{kind}_ranking_error": ranking_and_detection_error(analysis),
        }
    return write_figures(figures, folder)


def precision_recall(analysis: Analysis) -> Figure:
    """Draw precision against recall at IoU 0.5, the mean over a group's classes that have objects."""
    figure = new_figure(5.2, 4.4)
    axes = figure.subplots()
    for group, own in precisions_by_group(analysis.outcomes, analysis.groups).items():
        curve = own.mean(axis=0)
        style = "--" if group == ALL else "-"
        label = f"{_name(group)} ({len(own)} classes): AP50 {100 * curve.mean():.1f}"
        axes.plot(RECALLS, curve, style, color=_colour(group), label=label)
    axes.set(xlabel="recall", ylabel="precision, mean over the classes", xlim=(0, 1), ylim=(0, 1.02))
    axes.set_title("Precision and recall at IoU 0.5", loc="left")
    axes.grid(alpha=0.3)
    _legend(axes, loc="lower left")
    return figure


def ap_by_frequency(analysis: Analysis, ap: np.ndarray, stats: ClassStats) -> Figure:
    """Draw AP of each class, [C], against its images in the training set, with the mean of every group."""
    figure = new_figure(7.5, 4.4)
    axes = figure.subplots()
    groups = {group: chosen for group, chosen in analysis.groups.items() if group != ALL} or analysis.groups
    for group, chosen in groups.items():
        own = np.flatnonzero(chosen & ~np.isnan(ap))
        if not len(own):
            continue
        images, colour = stats.images[own], _colour(group)
        mean = ap[own].mean()
        axes.scatter(images, 100 * ap[own], s=26 if len(ap) <= 100 else 8, color=colour, alpha=0.8, linewidths=0)
        axes.plot(
            [images.min(), images.max()], [100 * mean] * 2, color=colour, label=f"{_name(group)}: {100 * mean:.1f}"
        )
        for place, above in {int(ap[own].argmin()): False, int(ap[own].argmax()): True}.items():
            _name_class(
                axes, plain(stats.names[own[place]]), float(images[place]), 100 * float(ap[own[place]]), above
            )
    axes.set_xscale("symlog" if (stats.images == 0).any() else "log")
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.set(xlabel="images of the class in the training set", ylabel="AP of the class, x 100", ylim=(-8, 108))
    axes.set_title("AP by class frequency (lines: the groups' means)", loc="left")
    axes.margins(x=0.08)
    axes.grid(alpha=0.3)
    _legend(axes, loc="lower right")
    return figure


def score_histograms(analysis: Analysis) -> Figure:
    """Draw how many hits and mistakes have which score, a panel for each group."""
    groups = [group for group in analysis.groups if group != ALL] or [ALL]
    figure = new_figure(3.6 * len(groups) + 0.6, 3.6)
    panels = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    outcomes, edges = analysis.outcomes, np.linspace(0, 1, 2 * BINS + 1)
    for axes, group in zip(panels, groups, strict=True):
        own = analysis.groups[group][outcomes.detections.category]
        mistakes, hits = (outcomes.detections.scores[own & (outcomes.hits == hit)] for hit in (False, True))
        axes.hist(np.clip(mistakes, 0, 1), edges, color=MISTAKE_COLOUR, label=f"{len(mistakes):,} mistakes")
        label = f"{len(hits):,} hits"
        axes.hist(np.clip(hits, 0, 1), edges, histtype="step", linewidth=2, color=_colour(group), label=label)
        axes.set(xlabel="score", xlim=(0, 1))
        axes.set_title(_name(group), loc="left")
        axes.grid(axis="y", alpha=0.3)
        _legend(axes, loc="upper center")
    panels[0].set_ylabel("detections, IoU 0.5")
    if len(outcomes.detections):
        panels[0].set_yscale("log")
        panels[0].set_ylim(0.7, 15 * panels[0].get_ylim()[1])  # room for the legend
    return figure


def reliability_diagram(analysis: Analysis) -> Figure:
    """Draw the share of hits among the detections of a score, by bins of it, below it how many there are."""
    figure = new_figure(5.2, 6.4)
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle=":")
    edges = np.linspace(0, 1, BINS + 1)
    for group, each in analysis.reliability.items():
        if each.error is None:
            continue
        confident = analysis.confident[group].error
        label = f"{_name(group)}: ECE {100 * each.error:.1f}"
        label += "" if confident is None else f", of scores from {CONFIDENT:g} on {100 * confident:.1f}"
        filled = each.counts > 0
        style = "--o" if group == ALL else "-o"
        axes.plot(
            each.scores[filled], each.precisions[filled], style, markersize=4, color=_colour(group), label=label
        )
        below.stairs(np.maximum(each.counts, 0.5), edges, color=_colour(group), baseline=None)
    axes.set(ylabel="precision at IoU 0.5", xlim=(0, 1), ylim=(0, 1))
    axes.set_title("Reliability of the scores (dotted: calibrated)", loc="left")
    below.set(xlabel="score, mean of its bin", ylabel="detections", yscale="log", ylim=(0.7, None))
    for panel in (axes, below):
        panel.grid(alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), frameon=False, loc="outside lower center", fontsize=9)
    return figure


def _name_class(axes: Axes, name: str, x: float, y: float, above: bool) -> None:
    axes.annotate(
        name, (x, y), (0, 5 if above else -5), textcoords="offset points", ha="center",
        va="bottom" if above else "top", fontsize=8, color="0.25",
    )  # fmt: skip


def _legend(axes: Axes, loc: str) -> None:
    """Add a legend where there is something to explain."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, loc=loc, fontsize=9)


def _colour(group: str) -> str:
    return GROUP_COLORS.get(group, ALL_COLOUR)


def _name(group: str) -> str:
    return GROUP_NAMES.get(group, group)
