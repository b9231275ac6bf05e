"""``detloss plot``: a run's curves and balance of gradients, or what losses ask of one logit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detloss.errors import UserError, nearest

from . import compose
from .config_groups import options, stages_of_loss
from .verb import split_words

if TYPE_CHECKING:
    from omegaconf import DictConfig

MODELS = {"two_stage": "maskrcnn", "one_stage": "retinanet"}

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="run=FOLDER | loss=NAME,... [counts=N,...] [output=FOLDER] [OVERRIDES]...",
        help="A run, or losses with the instances of each class and overrides of their options.",
        show_default=False,
    ),
]


def plot(words: Words = None) -> None:
    """Draw a run's losses and gradients, or compare losses without a model; as PNG and SVG."""
    own, overrides = split_words(words or [], required=(), optional=("run", "loss", "counts", "output"))
    if bool(own.get("run")) == bool(own.get("loss")):
        raise UserError("expected run=FOLDER, or loss=NAME,... without a run")
    paths = _plot_run(own, overrides) if "run" in own else _plot_losses(own, overrides)
    for path in paths:
        print(f"wrote {path}")


def _plot_run(own: dict[str, str], overrides: list[str]) -> list[Path]:
    if "counts" in own or overrides:
        unused = [*overrides, *(f"counts={counts}" for counts in [own.get("counts")] if counts)]
        raise UserError(f"{unused[0]}: a run is drawn as it was; only output= may stand beside run=")
    from detloss.plots.run import plot_run

    run = Path(own["run"])
    return plot_run(run, Path(own.get("output", run / "plot")))


def _plot_losses(own: dict[str, str], overrides: list[str]) -> list[Path]:
    cfgs = {name: _config(name, overrides) for name in own["loss"].split(",")}
    counts = _counts(own["counts"]) if "counts" in own else None
    from detloss.loss_curves import sample_stats
    from detloss.plots.losses import plot_losses

    return plot_losses(cfgs, sample_stats(counts), Path(own.get("output", "outputs/plot")))


def _config(loss: str, overrides: list[str]) -> DictConfig:
    """Return a config with the loss on the kind of head that it has first, two-stage if it can."""
    if loss not in options("loss"):
        raise UserError(f"no loss '{loss}'{nearest(loss, options('loss'))} (see `detloss list loss`)")
    return compose.compose([f"model={MODELS[stages_of_loss(loss)[0]]}", f"loss={loss}", *overrides])


def _counts(text: str) -> list[int]:
    counts = [word.strip() for word in text.strip("[]").split(",")]
    if not all(word.isdecimal() for word in counts):
        raise UserError(f"counts={text}: expected each class's instances, such as 5000,200,4")
    return [int(word) for word in counts]
