"""``detloss calibrate``: a finished run's scores, corrected for class frequencies without training."""

from pathlib import Path
from typing import Annotated

import typer

from detloss.errors import UserError, nearest

from .verb import split_words

OPTIONS = ("gamma", "tau", "batches")

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="run=FOLDER method=norcal|tau|logn|fracal [gamma=.6|tau=1|batches=200] [checkpoint=F] [OVERRIDES]",
        help="The run, the method with its option (gamma is norcal's, tau tau's, batches of training logn's), and "
        "overrides of the run's own config, such as model.detector.score_threshold=0.",
        show_default=False,
    ),
]


def calibrate(words: Words = None) -> None:
    """Calibrate a trained run's scores for the long tail, without training, and evaluate it beside the run."""
    own, overrides = split_words(words or [], required=("run", "method"), optional=(*OPTIONS, "checkpoint"))
    for word in overrides:  # keys of a run's config are in groups, so this is one of ours, mistyped
        key = word.partition("=")[0]
        if "." not in key and key != "evaluator":
            raise UserError(f"calibrate has no '{key}='{nearest(key, ['run', 'method', *OPTIONS, 'checkpoint'])}")
    options = {name: _number(name, own[name]) for name in OPTIONS if name in own}
    from detloss.calibrate import calibrate_run

    calibrate_run(
        Path(own["run"]), own["method"], options, overrides, checkpoint_name=own.get("checkpoint", "last")
    )


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{name}={text}: expected a number") from None
