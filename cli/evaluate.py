"""``detloss eval``: score a run again, from a checkpoint or from a predictions file."""

from pathlib import Path
from typing import Annotated

import typer

from .verb import split_words

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="run=FOLDER [checkpoint=best|last|FILE] [predictions=FILE] [figures=FOLDER] [OVERRIDES]...",
        help="The run, what to score, where to draw figures, and overrides of the run's own config.",
        show_default=False,
    ),
]


def evaluate(words: Words = None) -> None:
    """Evaluate a trained run: its checkpoint on the validation set, or offline a predictions file.

    ``predictions=`` takes a run's ``predictions.npz`` and COCO results in JSON alike; ``detloss data convert
    predictions`` turns one into the other.
    """
    own, overrides = split_words(words or [], required=("run",), optional=("checkpoint", "predictions", "figures"))
    from detloss.evaluate import evaluate_run

    predictions, figures = own.get("predictions"), own.get("figures")
    evaluate_run(
        Path(own["run"]),
        overrides,
        checkpoint_name=own.get("checkpoint", "best"),
        predictions=None if predictions is None else Path(predictions),
        figures=None if figures is None else Path(figures),
    )
