"""Figures 4 to 7 of "Long-tail Detection with Effective Class-Margins" (ECCV 2022), on a data set's own counts."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from detloss import margins
from detloss.plots.figure import new_figure
from detloss.stats import ClassStats

POSITIVE, NEGATIVE = "#0072B2", "#D55E00"

RATIOS = {1e0: "#E69F00", 1e2: "#009E73", 1e4: "#56B4E9", 1e6: "#0072B2"}
"""Of Fig. 5, with colours: from a class as frequent as all others together to one as rare as LVIS's rarest."""


def ecm_figures(
    stats: ClassStats, groups: tuple[str, ...], background_ratio: float | None, colours: Mapping[str, str]
) -> dict[str, Figure]:
    """Return the figures by file name; ``background_ratio`` is None for heads without background."""
    positive, negative = margins.class_counts(stats.instances, background_ratio)
    alpha = margins.ratio(positive, negative)
    of_group = np.array(groups)
    marks = {colour: alpha[: stats.num_classes][of_group == group] for group, colour in colours.items()}
    return {
        "ecm_margins_and_weights": margins_and_weights(alpha, marks),
        "ecm_gradients": gradients(),
        "ecm_class_weights": class_weights(positive, negative, stats.num_classes),
    }


def margins_and_weights(alpha: np.ndarray, marks: Mapping[str, np.ndarray]) -> Figure:
    """Draw margins, weights and m_c against the ratio alpha [C or C + 1] (Fig. 4 and 6).

    ``marks`` are the ratios of the classes, by colour, ticked along the lower edge.
    """
    figure = new_figure(11, 3.8)
    panels = figure.subplots(1, 3)
    grid = np.geomspace(min(alpha.min(), 1.0) / 2, alpha.max() * 2, 400)
    one = np.ones_like(grid)
    gamma_plus, gamma_minus = margins.margins(one, grid)
    weight_plus, weight_minus = margins.weights(one, grid)
    panels[0].plot(grid, gamma_plus, color=POSITIVE, label=r"$\gamma^+$")
    panels[0].plot(grid, gamma_minus, color=NEGATIVE, linestyle="--", label=r"$\gamma^-$")
    panels[1].plot(grid, weight_plus, color=POSITIVE, label=r"$w^+$")
    panels[1].plot(grid, weight_minus, color=NEGATIVE, linestyle="--", label=r"$w^-$")
    panels[2].plot(grid, margins.detection_weight(grid), color="black")
    for axes, title in zip(panels, ("margins", "weights", "detection weight $m_c$"), strict=True):
        axes.set(xscale="log", xlabel=r"$\alpha_c = n_{-c} / n_c$")
        axes.set_title(title, loc="left")
        axes.grid(alpha=0.3)
        for colour, ratios in marks.items():
            axes.plot(ratios, np.full(len(ratios), 0.015), "|", color=colour, transform=axes.get_xaxis_transform())
    _plain_log(panels[1])
    for axes in panels[:2]:
        axes.legend(frameon=False)
    for axes in (panels[0], panels[2]):
        axes.set_ylim(-0.05, 1.05)
    figure.supxlabel("ticks: the classes, coloured by group as in class_frequency", fontsize=9, color="0.3")
    return figure


def gradients() -> Figure:
    """Draw the gradient's size against the logit, on positives and on negatives, for several ratios (Fig. 5)."""
    figure = new_figure(9, 3.8)
    panels = figure.subplots(1, 2, sharey=True)
    logit = np.linspace(-6, 6, 400)
    for alpha, colour in RATIOS.items():
        exponent = round(np.log10(alpha))
        for axes, sizes in zip(panels, margins.surrogate_gradients(logit, alpha), strict=True):
            axes.plot(logit, sizes, color=colour, label=rf"$\alpha = 10^{exponent}$")
    for axes, title in zip(panels, ("on a positive (downwards)", "on a negative (upwards)"), strict=True):
        axes.set(xlabel="logit $f(x)_c$")
        axes.set_title(title, loc="left")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel(r"$|\partial \ell / \partial f(x)_c|$, without $m_c$")
    panels[0].legend(frameon=False)
    return figure


def class_weights(positive: np.ndarray, negative: np.ndarray, num_classes: int) -> Figure:
    """Draw w+ and w- of every class, each in ascending order (Fig. 7), and the background's where there is one."""
    figure = new_figure(9, 3.8)
    panels = figure.subplots(1, 2)
    for axes, weights, name, colour in zip(
        panels, margins.weights(positive, negative), ("w^+", "w^-"), (POSITIVE, NEGATIVE), strict=True
    ):
        classes = np.sort(weights[:num_classes])
        axes.plot(np.arange(1, num_classes + 1), classes, color=colour, drawstyle="steps-mid")
        background = f", background {weights[-1]:.3g}" if len(weights) > num_classes else ""
        axes.set(xlabel="class, sorted by its weight", ylabel=f"${name}$")
        axes.set_title(f"${name}$: {classes[0]:.3g} to {classes[-1]:.3g}{background}", loc="left")
        axes.grid(alpha=0.3)
    _plain_log(panels[1])
    return figure


def _plain_log(axes: Axes) -> None:
    """Make the y axis logarithmic with plain numbers at it: 20, not 2 x 10^1."""
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(LogFormatter(labelOnlyBase=False, minor_thresholds=(3, 0.5)))
