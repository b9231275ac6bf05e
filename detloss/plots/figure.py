"""What all figures share: colours that colour-blind people can tell apart, and how they become files."""

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from matplotlib.figure import Figure

from detloss.errors import UserError

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
"""Okabe and Ito's, the pale yellow left out."""

GROUP_NAMES = {"r": "rare", "c": "common", "f": "frequent"}
GROUP_COLORS = {"r": "#d55e00", "c": "#009e73", "f": "#0072b2"}


STROKES = ("solid", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)))
"""What tells lines apart when the colours are used up: solid, dashed, dotted, both."""

Stroke = str | tuple[float, tuple[float, ...]]


def line_styles(number: int) -> list[tuple[str, Stroke]]:
    """Return as many pairs of a colour and a stroke, all different up to 32."""
    return [
        (PALETTE[index % len(PALETTE)], STROKES[index // len(PALETTE) % len(STROKES)]) for index in range(number)
    ]


def plain(name: str) -> str:
    """Return a name as matplotlib writes it letter by letter: a pair of dollars would be mathematics."""
    return name.replace("$", r"\$")


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, in inches, that lays itself out."""
    return Figure(figsize=(width, height), layout="constrained")


def write_figures(figures: Mapping[str, Figure], folder: Path) -> list[Path]:
    """Write every figure as PNG and SVG, beside its place first so that none is half-written, and return them."""
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder, prefix=".figures-") as scratch:
            for name, figure in figures.items():
                for ending in ("png", "svg"):
                    file = f"{name}.{ending}"
                    figure.savefig(Path(scratch) / file, dpi=150)
                    os.replace(Path(scratch) / file, folder / file)
                    written.append(folder / file)
    except OSError as error:
        raise UserError(f"{folder}: figures cannot be written there ({error.strerror})") from error
    return written
