"""What an image file says of itself before it is decoded (no torch here)."""

from pathlib import Path

from PIL import Image

from detloss.errors import UserError

UNREADABLE = (OSError, SyntaxError, ValueError, RuntimeError, Image.DecompressionBombError)
"""What Pillow raises for files that are damaged, no images, or far too large; AVIF raises a RuntimeError."""


def image_size(path: Path) -> tuple[int, int]:
    """Return width and height as the file's header has them."""
    try:
        with Image.open(path) as file:
            return file.size
    except UNREADABLE as error:
        raise UserError(f"{path}: damaged or not an image: {' '.join(str(error).split())}") from None
