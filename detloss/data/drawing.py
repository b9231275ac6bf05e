"""Draw the pictures of the embedded data set: cluttered backgrounds and textured, coloured shapes."""

import colorsys
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SUPERSAMPLE = 3  # sub-pixels along each side of a pixel, for soft edges
MOST_TURN = 30.0  # degrees to either side: upright enough that 400 training steps are not spent on rotation


class Colour(NamedTuple):
    """Hue in degrees, whether a texture's second colour is light rather than dark, range of the saturation."""

    hue: float
    light_second: bool
    saturation: tuple[float, float] = (0.68, 0.95)


# The second colour is light on the dark hues and dark on the bright ones: every texture shows in every colour.
COLOURS: dict[str, Colour] = {
    "red": Colour(0, True),
    "orange": Colour(27, False),
    "yellow": Colour(54, False),
    "lime": Colour(82, False),
    "green": Colour(130, False),
    "teal": Colour(178, False),
    "blue": Colour(222, True),
    "purple": Colour(275, True),
    "pink": Colour(325, False),
    "white": Colour(60, False, (0.0, 0.05)),
}


@dataclass(frozen=True)
class Patch:
    """One drawn object: its upper left pixel, coverage [h, w] in 0..1, coverage * colour [h, w, 3]."""

    top: int
    left: int
    coverage: np.ndarray
    paint: np.ndarray

    def mask(self, size: int) -> np.ndarray:
        """Return the pixels covered by at least half, bool [size, size]."""
        mask = np.zeros((size, size), dtype=bool)
        height, width = self.coverage.shape
        mask[self.top : self.top + height, self.left : self.left + width] = self.coverage >= 0.5
        return mask

    def paste(self, canvas: np.ndarray) -> None:
        """Lay the object over ``canvas`` (float32 [S, S, 3], in place)."""
        height, width = self.coverage.shape
        region = canvas[self.top : self.top + height, self.left : self.left + width]
        region *= 1 - self.coverage[..., None]
        region += self.paint


def draw_object(
    shape: str,
    texture: str,
    colour: str,
    centre: tuple[float, float],
    radius: float,
    rng: np.random.Generator,
) -> Patch:
    """Draw a slightly turned object inside the circle (centre x, y and radius in pixels).

    The circle must lie within the picture; ``rng`` gives rotation, tone, light and the texture's phase.
    """
    left, top = int(centre[0] - radius) - 1, int(centre[1] - radius) - 1
    side = int(np.ceil(2 * radius)) + 3
    angle = np.deg2rad(rng.uniform(-MOST_TURN, MOST_TURN) - 90)  # the first axis of the outlines points upwards
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    inside, border = _rasterise(shape, turn * radius, np.subtract(centre, (left, top)), side)

    # Object coordinates of every sub-pixel's centre: the unit circle is the object's own circle.
    ticks = (np.arange(side * SUPERSAMPLE, dtype=np.float32) + 0.5) / SUPERSAMPLE
    x, y = np.float32(centre[0] - left), np.float32(centre[1] - top)
    across = (ticks[None, :] - x) / np.float32(radius)
    down = (ticks[:, None] - y) / np.float32(radius)
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    second = _texture(texture, cosine * across + sine * down, cosine * down - sine * across, rng)

    colours = _tones(colour, rng)
    parts = (inside & ~border & ~second, inside & ~border & second, border)
    weights = np.stack([_shrink(part) for part in parts], axis=-1)
    lit = rng.uniform(0, 2 * np.pi)
    light = 1 + 0.16 * (np.cos(lit) * across + np.sin(lit) * down).astype(np.float32)
    light = light[SUPERSAMPLE // 2 :: SUPERSAMPLE, SUPERSAMPLE // 2 :: SUPERSAMPLE]
    return Patch(top, left, weights.sum(axis=-1), np.minimum(weights @ colours * light[..., None], 255))


def draw_background(size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a muted gradient with noise, blobs and lines that are no objects: float32 [S, S, 3], 0..255."""
    ticks = np.linspace(-1, 1, size)
    angle = rng.uniform(0, 2 * np.pi)
    slope = 0.5 + 0.35 * (np.cos(angle) * ticks[None, :] + np.sin(angle) * ticks[:, None])
    first, last = _muted(rng), _muted(rng)
    canvas = first + slope[..., None] * (last - first)

    cells = int(rng.integers(4, 13))
    cloud = 0.7 * rng.uniform(-1, 1, (cells, cells, 1)) + 0.3 * rng.uniform(-1, 1, (cells, cells, 3))
    cloud_picture = Image.fromarray(np.rint(127.5 + 127.5 * cloud).astype(np.uint8))
    cloud_picture = cloud_picture.resize((size, size), Image.Resampling.BICUBIC)
    canvas += (np.asarray(cloud_picture, dtype=np.float32) - 127.5) * rng.uniform(0.1, 0.3)

    picture = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    _draw_clutter(picture, rng)
    picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.6, 1.2) * size / 128))
    return np.asarray(picture, dtype=np.float32).copy()


def _draw_clutter(picture: Image.Image, rng: np.random.Generator) -> None:
    """Draw a few translucent blobs, lines and arcs in muted tones, without the outline that objects have."""
    size = picture.width
    brush = ImageDraw.Draw(picture, "RGBA")
    for _ in range(int(rng.integers(4, 11))):
        tone = (*(int(channel) for channel in _muted(rng)), int(rng.integers(70, 170)))
        x, y = rng.uniform(-0.1, 1.1, 2) * size
        width, height = rng.uniform(0.04, 0.3, 2) * size
        box = (x - width, y - height, x + width, y + height)
        thickness = max(1, round(rng.uniform(0.008, 0.03) * size))
        kind = int(rng.integers(3))
        if kind == 0:
            brush.ellipse(box, fill=tone)
        elif kind == 1:
            end = rng.uniform(-0.1, 1.1, 2) * size
            brush.line((x, y, float(end[0]), float(end[1])), fill=tone, width=thickness)
        else:
            start = rng.uniform(0, 360)
            brush.arc(box, start, start + rng.uniform(40, 200), fill=tone, width=thickness)


def _rasterise(shape: str, placement: np.ndarray, centre: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which sub-pixels of a patch are inside the shape, and which of those on its dark border."""
    extent = side * SUPERSAMPLE
    inside, border = Image.new("L", (extent, extent)), Image.new("L", (extent, extent))
    for fill, outline in zip((255, 0), _outlines(shape), strict=False):  # the second outline is a hole
        points = [(float(x), float(y)) for x, y in (outline @ placement + centre) * SUPERSAMPLE - 0.5]
        ImageDraw.Draw(inside).polygon(points, fill=fill)
        # A line of 2 pixels about the edge: 1 pixel of it lies inside.
        ImageDraw.Draw(border).line([*points, *points[:2]], fill=255, width=2 * SUPERSAMPLE, joint="curve")
    covered = np.asarray(inside) > 0
    return covered, covered & (np.asarray(border) > 0)


def _outlines(shape: str) -> list[np.ndarray]:
    """Return the outer outline of ``shape`` and then its holes, [K, 2] each, within the unit circle."""
    match shape:
        case "disc":
            return [_arc(0, 360, 0.94)]
        case "square":
            return [_polygon([1.0] * 4, 45)]
        case "triangle":
            return [_polygon([1.0] * 3)]
        case "hexagon":
            return [_polygon([1.0] * 6)]
        case "star":
            return [_polygon([1.0, 0.47] * 5)]
        case "cross":
            arm, width = 0.93, 0.36
            corner = np.array([(width, -arm), (width, -width), (arm, -width)])
            quarter = np.array([[0.0, 1.0], [-1.0, 0.0]])
            return [np.concatenate([corner @ np.linalg.matrix_power(quarter, turn) for turn in range(4)])]
        case "ring":
            return [_arc(0, 360, 0.96), _arc(0, 360, 0.48)]
        case "horseshoe":  # a ring with a gap
            return [np.concatenate([_arc(40, 320, 0.96), _arc(320, 40, 0.48)])]
        case "crescent":  # a disc less a disc that reaches over its edge
            return [np.concatenate([_arc(60, 300, 0.98), _arc(265, 95, 0.8) + np.array([0.4, 0.0])])]
        case "trefoil" | "quatrefoil" | "sixfoil":
            petals = {"trefoil": 3, "quatrefoil": 4, "sixfoil": 6}[shape]
            turns = np.arange(96) * (2 * np.pi / 96)
            reach = 0.68 + 0.3 * np.cos(petals * turns)
            return [np.stack([reach * np.cos(turns), reach * np.sin(turns)], axis=1)]
    raise ValueError(f"unknown shape {shape!r}")


def _polygon(radii: list[float], start: float = 0) -> np.ndarray:
    turns = np.deg2rad(start) + np.arange(len(radii)) * (2 * np.pi / len(radii))
    return np.array(radii)[:, None] * np.stack([np.cos(turns), np.sin(turns)], axis=1)


def _arc(start: float, stop: float, radius: float) -> np.ndarray:
    turns = np.deg2rad(np.linspace(start, stop, 49))
    return radius * np.stack([np.cos(turns), np.sin(turns)], axis=1)


def _texture(name: str, u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return where the second colour shows, bool, at object coordinates ``u``, ``v`` (in radii)."""
    scale = rng.uniform(0.9, 1.1)
    phase = rng.uniform(0, 1, 2)
    match name:
        case "plain":
            return np.zeros(u.shape, dtype=bool)
        case "striped":
            return (u * (scale / 0.52) + phase[0]) % 1 < 0.46
        case "dotted":
            column, row = (u * (scale / 0.56) + phase[0]) % 1 - 0.5, (v * (scale / 0.56) + phase[1]) % 1 - 0.5
            return column**2 + row**2 < 0.33**2
        case "checkered":
            column, row = np.floor(u * (scale / 0.4) + phase[0]), np.floor(v * (scale / 0.4) + phase[1])
            return (column + row) % 2 < 1
        case "ringed":
            return np.abs(np.hypot(u, v) * scale - 0.42) < 0.13
    raise ValueError(f"unknown texture {name!r}")


def _tones(colour: str, rng: np.random.Generator) -> np.ndarray:
    """Return main, second and border colour, float32 [3, 3] in 0..255."""
    hue, light_second, saturation = COLOURS[colour]
    hue = (hue + rng.uniform(-9, 9)) % 360 / 360
    main = np.array(colorsys.hsv_to_rgb(hue, rng.uniform(*saturation), rng.uniform(0.75, 1.0)))
    second = 0.15 * main + 0.83 if light_second else 0.28 * main
    return (255 * np.stack([main, second, 0.4 * main])).astype(np.float32)


def _muted(rng: np.random.Generator) -> np.ndarray:
    """Return a greyish colour, [3] in 0..255."""
    return 255 * np.array(colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(0.03, 0.28), rng.uniform(0.3, 0.85)))


def _shrink(part: np.ndarray) -> np.ndarray:
    """Return the share of each pixel that ``part`` (bool, sub-pixels) covers, float32."""
    side = part.shape[0] // SUPERSAMPLE
    blocks = part.reshape(side, SUPERSAMPLE, side, SUPERSAMPLE)
    return blocks.sum(axis=(1, 3), dtype=np.float32) / np.float32(SUPERSAMPLE**2)
