"""Figures become files."""

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from matplotlib.figure import Figure

from detloss.errors import UserError

GROUP_COLOURS = {"r": "#D55E00", "c": "#009E73", "f": "#0072B2"}
"""Okabe and Ito's palette, which the colour-blind can tell apart."""

GROUP_NAMES = {"r": "rare", "c": "common", "f": "frequent"}


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
        raise UserError(f"figures={folder}: cannot be written ({error.strerror})") from error
    return written
