"""Drawing objects on images: boxes, masks as translucent fills, names with scores."""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

LEGIBLE_SIDE = 480
"""Pixels of the longest side up to which images are enlarged; below, names cover what they name."""
OPACITY = 0.3
LETTERS = 1 / 45
"""Their height in longest sides of a picture."""
GAP = 6

Box = tuple[int, int, int, int]
Color = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Objects:
    """D objects on an image: ``boxes`` [D, 4] xyxy in its pixels, ``classes`` [D] in 0..C-1, ``scores`` [D],
    ``masks`` [D, H, W]; ground truth has no scores."""

    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray | None = None
    masks: np.ndarray | None = None


class Label(NamedTuple):
    place: Box
    text: str
    start: tuple[float, float]
    color: Color


def draw_objects(
    image: np.ndarray, objects: Objects, names: Sequence[str], *, letters: float = LETTERS
) -> Image.Image:
    """Return ``image`` (uint8 [H, W, 3]) with objects on it, the best on top; a small image is enlarged.

    Args:
        letters: their height in longest sides of the image; larger for a picture that is to be shown small.
    """
    factor = max(1, -(-LEGIBLE_SIDE // max(image.shape[:2])))
    order = range(len(objects.classes)) if objects.scores is None else np.argsort(objects.scores, kind="stable")
    pixels = np.array(
        Image.fromarray(image).resize((image.shape[1] * factor, image.shape[0] * factor), Image.Resampling.BICUBIC)
    )
    if objects.masks is not None:
        for index in order:
            _fill(pixels, objects.masks[index], factor, class_color(int(objects.classes[index])))
    picture = Image.fromarray(pixels)
    canvas = ImageDraw.Draw(picture)
    width = max(2, max(picture.size) // 320)
    for index in order:
        box = _corners(objects.boxes[index] * factor, picture.size)
        canvas.rectangle(box, outline=class_color(int(objects.classes[index])), width=width)
    font = _font(picture.size, letters)
    _write_names(canvas, picture.size, objects, list(order)[::-1], names, factor, font)
    return picture


def side_by_side(pictures: Sequence[Image.Image], titles: Sequence[str]) -> Image.Image:
    """Return pictures of one size in a row, each under its title."""
    width, height = pictures[0].size
    font = _font(pictures[0].size, LETTERS)
    top = 2 * int(font.size)
    row = Image.new("RGB", (len(pictures) * (width + GAP) - GAP, top + height), "white")
    canvas = ImageDraw.Draw(row)
    for index, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
        left = index * (width + GAP)
        row.paste(picture, (left, top))
        canvas.text((left + GAP, top // 2), title, fill="black", font=font, anchor="lm")
    return row


def class_color(index: int) -> Color:
    """Return the colour of class ``index``, the same in every picture.

    Hues are apart by the golden ratio, so that neighbouring classes differ; brightness alternates as well.
    """
    value = (1.0, 0.78)[index // 8 % 2]
    red, green, blue = colorsys.hsv_to_rgb(index * 0.618034 % 1, 0.85, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _fill(pixels: np.ndarray, mask: np.ndarray, factor: int, color: Color) -> None:
    """Blend the colour into the pixels of the mask, whose edge is drawn in full."""
    inside = mask.astype(bool).repeat(factor, axis=0).repeat(factor, axis=1)
    core = inside.copy()
    core[1:] &= inside[:-1]
    core[:-1] &= inside[1:]
    core[:, 1:] &= inside[:, :-1]
    core[:, :-1] &= inside[:, 1:]
    pixels[core] = ((1 - OPACITY) * pixels[core] + OPACITY * np.array(color)).astype(np.uint8)
    pixels[inside & ~core] = color


def _write_names(
    canvas: ImageDraw.ImageDraw,
    size: tuple[int, int],
    objects: Objects,
    order: Sequence[int],
    names: Sequence[str],
    factor: int,
    font: ImageFont.FreeTypeFont,
) -> None:
    """Write names and scores, the first of ``order`` first: each where it covers no other, if it can."""
    labels: list[Label] = []
    for index in order:
        color = class_color(int(objects.classes[index]))
        text = names[int(objects.classes[index])]
        if objects.scores is not None:
            text += f" {objects.scores[index]:.2f}"
        left, top, right, bottom = canvas.textbbox((0, 0), text, font=font)
        extent = (round(right - left) + 6, round(bottom - top) + 6)
        taken = [label.place for label in labels]
        place = _free_place(_corners(objects.boxes[index] * factor, size), extent, size, taken)
        labels.append(Label(place, text, (place[0] + 3 - left, place[1] + 3 - top), color))
    for label in reversed(labels):
        canvas.rectangle(label.place, fill=label.color)
        canvas.text(label.start, label.text, fill=_legible_on(label.color), font=font)


def _legible_on(color: Color) -> str:
    # By Rec. 601 luma.
    return "black" if 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 128 else "white"


def _free_place(box: Box, extent: tuple[int, int], size: tuple[int, int], taken: Sequence[Box]) -> Box:
    """Return where a label goes: above its box, below it, or as near to these as other labels allow."""
    width, height = extent
    x = max(0, min(box[0], size[0] - width))
    steps = [(height + 1) * step for step in range(5)]
    tops = [*(box[1] - height - step for step in steps[:2]), *(box[3] + step for step in steps[:2])]
    tops += [*(box[1] + step for step in steps), *(box[3] - height - step for step in steps)]
    places = [(x, top, x + width, top + height) for top in tops if 0 <= top <= size[1] - height]
    free = (place for place in places if not any(_overlap(place, other) for other in taken))
    return next(free, places[0] if places else (x, 0, x + width, height))


def _overlap(first: Box, second: Box) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


def _corners(box: np.ndarray, size: tuple[int, int]) -> Box:
    """Return a box as whole pixels inside the picture, its sides in order."""
    left, top = (max(0, min(round(float(value)), side - 1)) for value, side in zip(box[:2], size, strict=True))
    right, bottom = (max(0, min(round(float(value)), side - 1)) for value, side in zip(box[2:], size, strict=True))
    return left, top, max(left, right), max(top, bottom)


def _font(size: tuple[int, int], letters: float) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size=max(13, int(max(size) * letters)))
    assert isinstance(font, ImageFont.FreeTypeFont)  # Pillow's wheels bring FreeType
    return font
