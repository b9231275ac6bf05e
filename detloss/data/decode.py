"""From an image file to pixels."""

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from detloss.data.image_header import UNREADABLE
from detloss.errors import UserError


def decode(path: Path, size: tuple[int, int], *, source: Path) -> Tensor:
    """Return the RGB pixels of a file that must be of ``size`` (height, width): uint8 [3, H, W].

    Channels lie next to each other in memory, which is how they were decoded and how resizing is quickest. EXIF
    orientation is ignored, as annotations mean pixels as stored. The size is compared with the file's header
    before anything is decoded, so that a small file cannot ask for much memory. Raises ``UserError`` that names
    the file; ``source`` is who says its size.
    """
    try:
        with warnings.catch_warnings():
            # Of odd metadata, and of large images, which are as large as annotated; enormous ones are refused.
            warnings.simplefilter("ignore")
            with Image.open(path) as file:
                if (file.height, file.width) != size:
                    raise UserError(
                        f"{path}: the image is {file.width}x{file.height}, but {source} says {size[1]}x{size[0]}"
                    )
                pixels = np.array(file if file.mode == "RGB" else file.convert("RGB"))
    except UNREADABLE as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: damaged or not an image: {reason}") from None
    return torch.from_numpy(pixels).permute(2, 0, 1)
