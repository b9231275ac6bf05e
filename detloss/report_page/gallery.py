"""The same few images for all methods: what is on them, and what was found."""

import base64
import io
from collections import Counter
from collections.abc import Sequence

from PIL.Image import Resampling

from detloss.comparison.runs import Run
from detloss.contact_sheet import outcomes
from detloss.data.coco import CocoDataset
from detloss.data.files import dataset_files
from detloss.evaluation.ground_truth import GroundTruth
from detloss.examples import Example, example, telling_images
from detloss.picture import Objects, draw_objects
from detloss.report_page.blocks import Cell, Column, Image, Row, Section, Table, Text
from detloss.report_page.scored import SHOWN_FROM, Scored

SIDES = {4: 480, 8: 360}
"""Pixels of a picture's longer side with at most so many columns; with more it is `LEAST_SIDE`."""
LEAST_SIDE = 280
QUALITY = 60
"""Of WebP: names on boxes stay legible."""
LETTERS = 1 / 30
"""Of a picture's longer side: on a page it is shown at about 280 pixels."""

SHOWN = 6


def choose_examples(run: Run, ground_truth: GroundTruth, kind: str) -> list[Example]:
    """Return images of classes from the rarest to the most frequent; `UserError` where they cannot be read."""
    folder = dataset_files(run.cfg.dataset).val_images
    dataset = CocoDataset(ground_truth.path, folder, masks=kind != "bbox")
    return [example(dataset, index) for index in telling_images(dataset, run.stats.images, SHOWN)]


def gallery(examples: Sequence[Example], firsts: Sequence[Scored], methods: Sequence[str]) -> Section:
    """Return a row for each image: its objects, and what the first run of each method found."""
    names = firsts[0].run.stats.names
    side = next((side for columns, side in SIDES.items() if len(methods) + 1 <= columns), LEAST_SIDE)
    rows = []
    for place, shown in enumerate(examples):
        count = len(shown.truth.classes)
        objects = f"{count} object{'' if count == 1 else 's'}"
        picture = _picture(shown, shown.truth, names, side, f"Ground truth: {_counted(shown.truth, names)}")
        cells = [Cell(str(shown.image_id)), Cell(objects, image=picture)]
        for each, method in zip(firsts, methods, strict=True):
            found = each.found[place]
            text, seen = _outcome(shown.truth, found, names)
            cells.append(Cell(text, image=_picture(shown, found, names, side, f"{method}: {seen}")))
        rows.append(Row(tuple(cells)))
    columns = tuple(Column(name, numeric=False) for name in ("image", "ground truth", *methods))
    explained = (
        "One image for each of some classes, from the rarest to the most frequent, with the detections that "
        f"have a score of {SHOWN_FROM} or more, of the first run of each method."
    )
    return Section("examples", "Examples", (Text(explained), Table("Example images", columns, tuple(rows))))


def _picture(shown: Example, objects: Objects, names: Sequence[str], side: int, alt: str) -> Image:
    drawn = draw_objects(shown.pixels, objects, names, letters=LETTERS)
    drawn.thumbnail((side, side), Resampling.LANCZOS)
    content = io.BytesIO()
    drawn.save(content, "WEBP", quality=QUALITY, method=6)
    uri = f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode()}"
    return Image(uri, alt, *drawn.size)


def _counted(objects: Objects, names: Sequence[str]) -> str:
    """Return ``2 cup, 1 spoon``, or ``nothing``."""
    counts = Counter(names[index] for index in objects.classes.tolist())
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "nothing"


def _outcome(truth: Objects, found: Objects, names: Sequence[str]) -> tuple[str, str]:
    """Return how many objects were found, and in words what became of each."""
    assert found.scores is not None
    became = outcomes(truth, found)
    seen = []
    for index, (outcome, detection) in zip(truth.classes.tolist(), became, strict=True):
        what = names[index]
        if outcome == "hit":
            seen.append(f"{what} found ({found.scores[detection]:.2f})")
        elif detection is None:
            seen.append(f"{what} missed")
        else:
            seen.append(f"{what} taken for {names[int(found.classes[detection])]}")
    hits = sum(outcome == "hit" for outcome, _ in became)
    text = f"{hits} of {len(became)} found" if became else "no object"
    if others := len(found.classes) - sum(detection is not None for _, detection in became):
        seen.append(f"{others} more detection{'' if others == 1 else 's'}")
        text += f", {others} more"
    return text, ", ".join(seen)
