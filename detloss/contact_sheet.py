"""What became of objects, on one sheet: hits, confusions and misses of rare, common and frequent classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torchvision.ops import box_iou

from detloss.picture import Objects

OUTCOMES = ("hit", "confusion", "miss")
HEADINGS = {"hit": "hits", "confusion": "confusions", "miss": "misses"}
GROUPS = {"r": "rare", "c": "common", "f": "frequent"}
SHOWN = 6
"""Crops of each outcome in each group."""

SIDE, CAPTION, GAP = 132, 32, 8
CONTEXT = 0.3
"""Of a box's longer side, what is shown around it."""

COLORS = {"hit": "#0072b2", "confusion": "#e69f00", "miss": "#d55e00"}
"""From Okabe and Ito's palette, which colour-blind people can tell apart."""


@dataclass(frozen=True, eq=False)
class Cell:
    """An object's crop [SIDE, SIDE]; ``weight`` is the score, or of a miss its area, by which cells are chosen."""

    outcome: str
    group: str
    caption: str
    weight: float
    crop: Image.Image


def outcomes(truth: Objects, found: Objects, *, threshold: float = 0.5) -> list[tuple[str, int | None]]:
    """Return for every object what became of it, and the detection that tells.

    The best detections choose first, each an object of its class that it overlaps by ``threshold`` (IoU) or more:
    a hit. An object that none has chosen is confused with the best detection of another class that overlaps it as
    much and has hit nothing, or else missed.
    """
    assert found.scores is not None
    overlaps = box_iou(torch.as_tensor(truth.boxes).float(), torch.as_tensor(found.boxes).float()).numpy()
    same = truth.classes[:, None] == found.classes[None, :]
    hit_by: dict[int, int] = {}
    order = np.argsort(-found.scores, kind="stable").tolist()
    for detection in order:
        free = same[:, detection] & (overlaps[:, detection] >= threshold)
        free[list(hit_by)] = False
        if free.any():
            hit_by[int(np.where(free, overlaps[:, detection], -1).argmax())] = detection
    taken = set(hit_by.values())
    results: list[tuple[str, int | None]] = []
    for thing in range(len(truth.classes)):
        near = [each for each in order if overlaps[thing, each] >= threshold and not same[thing, each]]
        confused = next((each for each in near if each not in taken), None)
        if thing in hit_by:
            results.append(("hit", hit_by[thing]))
        else:
            results.append(("miss", None) if confused is None else ("confusion", confused))
    return results


def cells_of(
    image: np.ndarray, truth: Objects, found: Objects, names: Sequence[str], groups: Sequence[str]
) -> list[Cell]:
    """Return a cell for every object on an image (uint8 [H, W, 3]); ``groups`` are r, c or f by class."""
    assert found.scores is not None
    cells = []
    for thing, (outcome, detection) in enumerate(outcomes(truth, found)):
        box, name = truth.boxes[thing], names[int(truth.classes[thing])]
        weight = float((box[2] - box[0]) * (box[3] - box[1]))
        caption = name
        if detection is not None:
            weight = float(found.scores[detection])
            caption = f"{weight:.2f} {name}"
        if outcome == "confusion":
            caption = f"{name}, taken for\n{weight:.2f} {names[int(found.classes[detection])]}"
        group = groups[int(truth.classes[thing])]
        cells.append(Cell(outcome, group, caption, weight, _crop(image, box, COLORS[outcome])))
    return cells


def most_telling(cells: Sequence[Cell]) -> list[Cell]:
    """Return of each outcome and group the `SHOWN` cells that weigh most: sure hits and errors, large misses."""
    chosen: list[Cell] = []
    for outcome in OUTCOMES:
        for group in GROUPS:
            chosen += sorted(_alike(cells, outcome, group), key=lambda cell: -cell.weight)[:SHOWN]
    return chosen


def contact_sheet(cells: Sequence[Cell]) -> Image.Image:
    """Return cells as a picture: groups from top to bottom, outcomes from left to right."""
    chosen = most_telling(cells)
    blocks = [{group: _alike(chosen, outcome, group) for group in GROUPS} for outcome in OUTCOMES]
    widths = [max(1, *map(len, block.values())) * (SIDE + GAP) + 2 * GAP for block in blocks]
    font = ImageFont.load_default(size=13)
    left, top, height = 80, 28, SIDE + CAPTION + 2 * GAP
    sheet = Image.new("RGB", (left + sum(widths), top + len(GROUPS) * height), "white")
    canvas = ImageDraw.Draw(sheet)
    for down, group in enumerate(GROUPS.values()):
        canvas.text((GAP, top + down * height + SIDE // 2), group, fill="black", font=font, anchor="lm")
    for outcome, block, width in zip(OUTCOMES, blocks, widths, strict=True):
        canvas.text((left, top // 2), HEADINGS[outcome], fill=COLORS[outcome], font=font, anchor="lm")
        for down, row in enumerate(block.values()):
            y = top + down * height
            for number, cell in enumerate(row):
                x = left + number * (SIDE + GAP)
                sheet.paste(cell.crop, (x, y))
                lines = [_shortened(line, font) for line in cell.caption.split("\n")]
                canvas.multiline_text((x, y + SIDE + 2), "\n".join(lines), fill="black", font=font, spacing=1)
        left += width
    return sheet


def _alike(cells: Sequence[Cell], outcome: str, group: str) -> list[Cell]:
    return [cell for cell in cells if (cell.outcome, cell.group) == (outcome, group)]


def _crop(image: np.ndarray, box: np.ndarray, color: str) -> Image.Image:
    """Return a square around a box, which is drawn in it; beyond the image it is white."""
    side = max(float(max(box[2] - box[0], box[3] - box[1])) * (1 + 2 * CONTEXT), 8.0)
    left, top = (float(low + high) / 2 - side / 2 for low, high in ((box[0], box[2]), (box[1], box[3])))
    scale = SIDE / side
    corners = (left, top, left + side, top + side)
    crop = Image.fromarray(image).transform(
        (SIDE, SIDE), Image.Transform.EXTENT, corners, Image.Resampling.BICUBIC, fillcolor="white"
    )
    drawn = [(float(box[i]) - (left, top)[i % 2]) * scale for i in range(4)]
    ImageDraw.Draw(crop).rectangle(drawn, outline=color, width=2)
    return crop


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Return a line that fits under a crop."""
    if font.getlength(text) <= SIDE:
        return text
    while text and font.getlength(text + "…") > SIDE:
        text = text[:-1]
    return text + "…"
