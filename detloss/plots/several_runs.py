"""Several runs in one figure, a line each, those of a method in one colour: gradients and training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from detloss.evaluation.analysis import ALL
from detloss.plots.balance import Balance
from detloss.plots.figure import GROUP_NAMES, line_styles, new_figure
from detloss.plots.history import Line, curve
from detloss.plots.panels import WIDTH, group_panels, legend_below, logarithmic, tidy

MOST_POINTS = 200
"""Of a curve; where more were logged, neighbours are averaged."""

SHOWN_SHARE = 0.98
"""Of the ratios: a single one of 1e-6 in a run's first steps must not flatten all the others."""

MUCH = 1.5
"""Times the length of the axis that it takes to leave points out."""


@dataclass(frozen=True, eq=False)
class Curve:
    """A line of a run of method number ``method``."""

    method: int
    steps: np.ndarray
    values: np.ndarray


def balance_curves(balances: Sequence[tuple[int, Balance]]) -> dict[str, list[Curve]]:
    """Return negative over positive gradient by group, and of all classes, a curve for each method's run."""
    curves: dict[str, list[Curve]] = {group: [] for group in (*GROUP_NAMES, ALL)}
    for method, balance in balances:
        for group, (steps, values) in balance.ratios().items():
            shown = np.array(values) > 0  # on a logarithmic axis
            if shown.any():
                curves[group].append(Curve(method, np.array(steps)[shown], np.array(values)[shown]))
    return {group: own for group, own in curves.items() if own}


def shown_ratios(curves: Mapping[str, Sequence[Curve]]) -> tuple[float, float]:
    """Return the ends of the axis: around 1 and all points, or `SHOWN_SHARE` of them if that is much less."""
    points = np.log10(np.concatenate([each.values for own in curves.values() for each in own]))
    low, high = _around_zero(points, SHOWN_SHARE)
    least, most = _around_zero(points, 1)
    if most - least < MUCH * (high - low):
        low, high = least, most
    room = max(0.1 * (high - low), 0.1)
    return 10 ** (low - room), 10 ** (high + room)


def draw_balances(curves: Mapping[str, Sequence[Curve]], methods: Sequence[str]) -> Figure:
    """Return a panel for each group with the curves of all runs; at 1 both gradients are equal."""
    figure, panels = group_panels(list(curves), x="step", y="negative / positive gradient")
    for group, axes in panels.items():
        axes.axhline(1, color="0.35", linewidth=1, linestyle=(0, (2, 2)))
        _draw(axes, curves[group], len(methods))
        logarithmic(axes)
        axes.set_ylim(shown_ratios(curves))
    legend_below(figure, methods, sorted({each.method for own in curves.values() for each in own}))
    return figure


def loss_curves(lines: Sequence[tuple[int, Sequence[Line]]]) -> list[Curve]:
    """Return the loss over the steps of each method's run that logged it."""
    curves = [_thinned(method, *curve(own, "loss")) for method, own in lines]
    return [each for each in curves if len(each.steps)]


def metric_curves(lines: Sequence[tuple[int, Sequence[Line]]], name: str) -> list[Curve]:
    """Return a metric such as ``bbox/AP`` over the steps of each method's run that was evaluated on the way."""
    curves = [Curve(method, *map(np.array, curve(own, name))) for method, own in lines]
    return [each for each in curves if len(each.steps) > 1]


def draw_training(losses: Sequence[Curve], metrics: Sequence[Curve], methods: Sequence[str]) -> Figure:
    """Return the losses, of which there must be one, and beside them AP where runs were evaluated on the way."""
    figure = new_figure(WIDTH, 3.6)
    axes = figure.subplots(1, 2 if metrics else 1, squeeze=False)[0]
    _draw(axes[0], losses, len(methods))
    axes[0].set(xlabel="step", ylabel="loss, sum of its terms")
    values = np.concatenate([each.values for each in losses])
    if values.min() > 0 and values.max() > 20 * np.median(values):
        logarithmic(axes[0])
    elif values.min() >= 0:
        axes[0].set_ylim(0, None)
    if metrics:
        percents = [Curve(each.method, each.steps, 100 * each.values) for each in metrics]
        _draw(axes[1], percents, len(methods))
        axes[1].set(xlabel="step", ylabel="AP x 100", ylim=(0, None))
    for panel in axes:
        tidy(panel)
    legend_below(figure, methods, sorted({each.method for each in [*losses, *metrics]}))
    return figure


def _around_zero(points: np.ndarray, share: float) -> tuple[float, float]:
    """Return the ends of the inner ``share`` of points and of 0."""
    low, high = np.quantile(points, ((1 - share) / 2, (1 + share) / 2)).tolist()
    return min(low, 0.0), max(high, 0.0)


def _draw(axes: Axes, curves: Sequence[Curve], methods: int) -> None:
    styles = line_styles(methods)
    for each in curves:
        color, stroke = styles[each.method]
        marker = "o" if len(each.steps) < 3 else None
        axes.plot(
            each.steps, each.values, color=color, linestyle=stroke, marker=marker, markersize=4, linewidth=1.4
        )
    axes.xaxis.set_major_formatter("{x:,g}")


def _thinned(method: int, steps: Sequence[float], values: Sequence[float]) -> Curve:
    size = -(-len(steps) // MOST_POINTS) or 1
    starts = range(0, len(steps), size)
    means = [float(np.mean(values[start : start + size])) for start in starts]
    return Curve(method, np.array([steps[min(start + size, len(steps)) - 1] for start in starts]), np.array(means))
