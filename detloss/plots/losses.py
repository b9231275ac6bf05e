"""Losses side by side: value and gradient against one logit, for a rare, a common and a frequent class."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from omegaconf import DictConfig

from detloss import build
from detloss.errors import UserError
from detloss.loss_curves import ROLES, Curve, drawn_classes, loss_curves
from detloss.losses import ClassLoss
from detloss.plots.figure import PALETTE, new_figure, write_figures
from detloss.stats import ClassStats

LOGITS = np.linspace(-8, 8, 97)
STYLES = ("-", "--", ":")

ROLE_NAMES = {
    "own": "in a row of the class",
    "others": "in a row of the most\nfrequent other class",
    "background": "in a background row",
}

Curves = Mapping[tuple[str, int, str], Curve]
"""By loss, class and role."""


def plot_losses(cfgs: Mapping[str, DictConfig], stats: ClassStats, output: Path) -> list[Path]:
    """Draw the losses of composed configs, by name; return the files, PNG and SVG.

    Raises:
        UserError: a loss has a wrong option, or none is a function of a row's logits.
    """
    classes = drawn_classes(stats)
    curves: dict[tuple[str, int, str], Curve] = {}
    for name, cfg in cfgs.items():
        stage = cfg.model.stage
        loss = build.instantiate(cfg.loss[stage], stats, option=f"loss.{stage}")
        if not isinstance(loss, ClassLoss):
            print(f"{name} is not drawn: it looks at boxes or at all rows together, no curve of one logit")
            continue
        for index in classes:
            curves |= {(name, index, role): one for role, one in loss_curves(loss, stats, index, LOGITS).items()}
    if not curves:
        raise UserError(f"loss={','.join(cfgs)}: no loss of single rows among them; try loss=ecm,seesaw,focal")
    figures = {
        "loss_gradient": draw_losses(curves, classes, stats, of="gradients"),
        "loss_value": draw_losses(curves, classes, stats, of="values"),
    }
    return write_figures(figures, output)


def draw_losses(curves: Curves, classes: list[int], stats: ClassStats, *, of: str) -> Figure:
    """Return a panel for each class and role with a line for each loss; ``of`` is gradients or values."""
    names = list(dict.fromkeys(name for name, _, _ in curves))
    roles = [role for role in ROLES if any(role == one for _, _, one in curves)]
    figure = new_figure(1.5 + 2.6 * len(classes), 1 + 2.2 * len(roles))
    grid = figure.subplots(len(roles), len(classes), sharex=True, sharey="row", squeeze=False)
    for row, role in zip(grid, roles, strict=True):
        for axes, index in zip(row, classes, strict=True):
            for number, name in enumerate(names):
                found = curves[name, index, role]
                color, style = PALETTE[number % len(PALETTE)], STYLES[number // len(PALETTE) % len(STYLES)]
                values = found.gradients if of == "gradients" else found.values
                axes.plot(found.logits, values, label=name, linewidth=1.5, color=color, linestyle=style)
            axes.axhline(0, color="0.6", linewidth=0.8)
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
        row[0].set_ylabel(ROLE_NAMES[role], fontsize=9)
    for axes, index in zip(grid[0], classes, strict=True):
        axes.set_title(f"class with {stats.instances[index]:,} of {stats.instances.sum():,} instances", fontsize=9)
    figure.supxlabel("logit of the class (the others as at the start of training)", fontsize=9)
    figure.suptitle(
        {"gradients": "gradient on the logit", "values": "loss, less its least value here"}[of], fontsize=10
    )
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside right upper", fontsize=8, frameon=False)
    return figure
