"""``detloss predict``: a trained run on images, drawn and as JSON."""

from pathlib import Path
from typing import Annotated

import typer

from detloss.errors import UserError

from .verb import split_words

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="run=FOLDER images=PATH [annotations=FILE] [output=FOLDER] [score=0.3] [limit=N] [checkpoint=F]",
        help="The run, an image or a folder of images, and what to do with the detections.",
        show_default=False,
    ),
]


def predict(words: Words = None) -> None:
    """Detect objects on images with a trained run: drawn boxes and masks, and a JSON file."""
    optional = ("annotations", "output", "score", "limit", "checkpoint")
    own, overrides = split_words(words or [], required=("run", "images"), optional=optional)
    run = Path(own["run"])
    try:
        score = float(own.get("score", "0.3"))
    except ValueError as error:
        raise UserError(f"score={own['score']}: expected a number between 0 and 1") from error
    limit = own.get("limit")
    if limit is not None and not (limit.isdecimal() and int(limit)):
        raise UserError(f"limit={limit}: expected a number of images")
    from detloss.predict import predict_images

    predict_images(
        run,
        Path(own["images"]),
        Path(own.get("output", run / "predict")),
        annotations=Path(own["annotations"]) if "annotations" in own else None,
        score=score,
        checkpoint_name=own.get("checkpoint", "best"),
        limit=None if limit is None else int(limit),
        overrides=overrides,
    )
