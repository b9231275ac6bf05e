"""Several runs in one figure: each line is a run's numbers, and single outliers hide nobody's."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from detloss.gradients import ClassGradients
from detloss.plots.balance import Balance
from detloss.plots.several_runs import (
    Curve,
    balance_curves,
    draw_balances,
    draw_training,
    loss_curves,
    metric_curves,
    shown_ratios,
)

METHODS = ("ce", "ecm")


def balance(scale: float) -> Balance:
    """Two windows of a rare and a frequent class; the rare one has no positives in the second."""
    windows = [
        ClassGradients(np.array([1.0, 8.0]), scale * np.array([2.0, 1.0]), scale * np.array([2.0, 1.0])),
        ClassGradients(np.array([0.0, 4.0]), scale * np.array([1.0, 1.0]), scale * np.array([1.0, 1.0])),
    ]
    return Balance([10, 20], windows, ("a", "b"), ("r", "f"), np.array([3, 300]), None, "a run")


def lines_of(figure: Figure, panel: int) -> list[tuple[list[float], list[float]]]:
    drawn = figure.axes[panel].get_lines()
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in drawn if len(line.get_xdata()) > 0]


def test_a_curve_is_the_summed_negative_over_the_summed_positive_gradient_of_a_group() -> None:
    curves = balance_curves([(0, balance(1)), (1, balance(10))])
    assert list(curves) == ["r", "f", "all"]
    found = {group: [(each.method, each.steps.tolist(), each.values.tolist()) for each in own]
             for group, own in curves.items()}  # fmt: skip
    assert found["r"] == [(0, [10], [4]), (1, [10], [40])]
    assert found["f"] == [(0, [10, 20], [2 / 8, 2 / 4]), (1, [10, 20], [20 / 8, 20 / 4])]
    assert found["all"] == [(0, [10, 20], [6 / 9, 4 / 4]), (1, [10, 20], [60 / 9, 40 / 4])]


def test_seeds_of_a_method_share_a_colour_and_balance_is_marked() -> None:
    figure = draw_balances(balance_curves([(0, balance(1)), (0, balance(2)), (1, balance(3))]), METHODS)
    mark, *runs = figure.axes[1].get_lines()
    assert set(mark.get_ydata()) == {1}
    colours = [line.get_color() for line in runs]
    assert colours[0] == colours[1] != colours[2]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(METHODS)
    assert [axes.get_title(loc="left") for axes in figure.axes[:3]] == [
        "rare classes",
        "frequent classes",
        "all classes",
    ]


def test_a_single_outlier_does_not_set_the_axis() -> None:
    steps = np.arange(300)
    values = np.full(300, 5.0)
    values[0] = 1e-9
    low, high = shown_ratios({"all": [Curve(0, steps, values)]})
    assert 0.5 < low < 1 and 5 < high < 10  # 1 is seen, too
    values[:2] = 0.9, 6.0  # not much further than the others: seen
    low, high = shown_ratios({"all": [Curve(0, steps, values)]})
    assert low < 0.9 and high > 6


def test_a_long_loss_is_averaged_and_a_metric_takes_two_evaluations() -> None:
    lines = [{"step": step, "loss": float(step % 2)} for step in range(1, 1001)]
    (curve,) = loss_curves([(1, lines)])
    assert len(curve.steps) == 200 and curve.steps[-1] == 1000
    assert curve.values.mean() == pytest.approx(0.5) and curve.values.max() <= 0.6
    once, twice = [{"step": 9, "bbox/AP": 0.3}], [{"step": 4, "bbox/AP": 0.1}, {"step": 9, "bbox/AP": 0.3}]
    (curve,) = metric_curves([(0, once), (1, twice)], "bbox/AP")
    assert (curve.method, curve.values.tolist()) == (1, [0.1, 0.3])
    assert loss_curves([(0, once)]) == []


def test_losses_of_very_different_heights_are_on_a_logarithmic_axis() -> None:
    flat = Curve(0, np.arange(10), np.ones(10))
    steep = Curve(1, np.arange(10), np.array([500.0] + [1.0] * 9))
    assert draw_training([flat], [], METHODS).axes[0].get_yscale() == "linear"
    assert draw_training([flat, steep], [], METHODS).axes[0].get_yscale() == "log"
    figure = draw_training([flat], [Curve(0, np.array([1, 2]), np.array([0.1, 0.2]))], METHODS)
    assert lines_of(figure, 1) == [([1, 2], [10, 20])]  # AP x 100
