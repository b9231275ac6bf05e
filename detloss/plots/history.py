"""Losses and learning rate over a run."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from detloss.evaluation.result import IOU_NAMES
from detloss.plots.figure import GROUP_COLORS, GROUP_NAMES, PALETTE, new_figure, plain

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
    losses.set(ylabel="loss", ylim=(0, None), title=plain(title))
    losses.legend(frameon=False, fontsize=8, ncols=2)
    rate.plot(*curve(lines, "lr"), color="0.3", linewidth=1.2)
    rate.set(ylabel="learning rate", xlabel="step", ylim=(0, None))
    for axes in (losses, rate):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_average_precision(lines: Sequence[Line], title: str) -> Figure | None:
    """Return AP of all classes and of the frequency groups over the evaluations, None where there was none."""
    kinds = {kind: of for kind, of in IOU_NAMES.items() if curve(lines, f"{kind}/AP")[0]}
    if not kinds:
        return None
    figure = new_figure(7.5, 2.7 * len(kinds) + 0.4)
    panels = figure.subplots(len(kinds), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (kind, of) in zip(panels, kinds.items(), strict=True):
        for group, color in {"": "black", **GROUP_COLORS}.items():
            steps, values = curve(lines, f"{kind}/AP{group}")
            if steps:
                label = GROUP_NAMES.get(group, "all classes")
                axes.plot(steps, [100 * value for value in values], ".-", color=color, label=label)
        axes.set(ylabel=f"AP of {of}, x 100", ylim=(0, None))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_title(plain(title))
    panels[0].legend(frameon=False, fontsize=8, ncols=4)
    panels[-1].set_xlabel("step")
    return figure
