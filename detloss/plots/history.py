"""Losses and learning rate over a run."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from detloss.plots.figure import PALETTE, new_figure

Line = Mapping[str, float | None]
"""A line of ``metrics.jsonl``."""


def curve(lines: Sequence[Line], name: str) -> tuple[list[float], list[float]]:
    """Return the steps at which ``name`` was logged, and its values."""
    points = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
    return [float(step or 0) for step, _ in points], [float(value or 0) for _, value in points]


def draw_history(lines: Sequence[Line], title: str) -> Figure:
    """Return the loss and its terms above the learning rate."""
    names = [name for name in dict.fromkeys(key for line in lines for key in line) if name.startswith("loss")]
    figure = new_figure(7.5, 5)
    losses, rate = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for index, name in enumerate(names):
        whole = name == "loss"
        color = "black" if whole else PALETTE[(index - 1) % len(PALETTE)]
        label = "sum" if whole else name.removeprefix("loss_").replace("_", " ")
        losses.plot(*curve(lines, name), color=color, linewidth=1.8 if whole else 1.2, label=label)
    losses.set(ylabel="loss", ylim=(0, None), title=title)
    losses.legend(frameon=False, fontsize=8, ncols=2)
    rate.plot(*curve(lines, "lr"), color="0.3", linewidth=1.2)
    rate.set(ylabel="learning rate", xlabel="step", ylim=(0, None))
    for axes in (losses, rate):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return figure
