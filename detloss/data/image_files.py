"""Images to look at: files in a folder, or those of an annotation file with their ground truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision import tv_tensors

from detloss.data.coco import CocoDataset, Sample
from detloss.data.image_header import UNREADABLE
from detloss.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


@dataclass(frozen=True, eq=False)
class ImageFile:
    """An image as it was read.

    Attributes:
        name: path below the folder of images.
        image: uint8 [3, H, W].
        target: ground truth as from `CocoDataset`, or None without annotations.
    """

    name: str
    image: tv_tensors.Image
    target: dict[str, Tensor | int] | None = None


class ImageFiles(Sequence[ImageFile]):
    """An image, or the images of a folder in the order of their names; subfolders are not searched.

    Images are turned upright as their EXIF data says. Raises ``UserError`` where there is no image, and from
    ``files[i]`` for one that is damaged.
    """

    def __init__(self, images: Path, *, limit: int | None = None) -> None:
        self.folder, files = list_images(images)
        self._files = files[:limit]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> ImageFile:  # type: ignore[override]
        path = self._files[index]
        try:
            with Image.open(path) as file:
                pixels = np.array(ImageOps.exif_transpose(file).convert("RGB"))
        except UNREADABLE as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{path}: damaged or not an image: {reason}") from None
        tensor = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
        return ImageFile(path.name, tv_tensors.Image(tensor))


class AnnotatedFiles(Sequence[ImageFile]):
    """The images of an annotation file that ``images``, a folder or one file, holds, with ground truth.

    Pixels are as stored, which is what annotations mean. ``missing`` counts annotated images that are not
    there. Raises ``UserError`` where nothing matches, and from ``files[i]`` for an image that is damaged or of
    another size than annotated.
    """

    def __init__(self, annotations: Path, images: Path, *, masks: bool, limit: int | None = None) -> None:
        self.folder = images.parent if images.is_file() else images
        self.dataset = _dataset(annotations, self.folder, masks=masks)
        found = {index: path for index in range(len(self.dataset)) if (path := _existing(self.dataset, index))}
        if images.is_file():
            found = {index: path for index, path in found.items() if path.samefile(images)}
            if not found:
                raise UserError(f"{images}: {annotations} does not list this image")
        if not found:
            raise UserError(f"{annotations}: none of its {len(self.dataset)} images is in {images}")
        self.missing = len(self.dataset) - len(found)
        self._found = list(found.items())[:limit]

    def __len__(self) -> int:
        return len(self._found)

    def __getitem__(self, index: int) -> ImageFile:  # type: ignore[override]
        position, path = self._found[index]
        sample: Sample = self.dataset[position]
        return ImageFile(str(path.relative_to(self.folder)), *sample)


def list_images(images: Path) -> tuple[Path, list[Path]]:
    """Return the folder and the image files in it, or those of the one image that ``images`` is.

    Raises ``UserError`` where there are none.
    """
    if images.is_file():
        return images.parent, [images]
    if not images.is_dir():
        raise UserError(f"images={images}: no such file or folder")
    files = sorted(path for path in images.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise UserError(f"images={images}: no image in this folder; expected names in {', '.join(SUFFIXES)}")
    return images, files


def _dataset(annotations: Path, folder: Path, *, masks: bool) -> CocoDataset:
    """Read the file with its masks if it has them; one with boxes only is still worth looking at."""
    if not folder.is_dir():
        raise UserError(f"images={folder}: no such file or folder")
    try:
        return CocoDataset(annotations, folder, masks=masks)
    except UserError:
        return CocoDataset(annotations, folder)


def _existing(dataset: CocoDataset, index: int) -> Path | None:
    try:
        return dataset.image_path(index)
    except UserError:
        return None
