"""A detection data set from any COCO-format file: COCO, LVIS v1 and v0.5, or the user's own."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from detloss.data.annotations import Annotations
from detloss.data.file_names import image_path
from detloss.data.image_labels import ImageLabels
from detloss.data.store import open_annotations
from detloss.errors import UserError
from detloss.stats import ClassStats

Sample = tuple[tv_tensors.Image, dict[str, Tensor | int]]


class CocoDataset(Dataset[Sample]):
    """Images with boxes, labels 1..C and, with ``masks``, masks.

    A sample is (image uint8 [3, H, W], target): ``boxes`` [G, 4] float32 xyxy in pixels, ``labels`` [G]
    int64, ``masks`` [G, H, W] uint8 and ``image_id``. Crowds never appear in targets, images without boxes
    give G = 0. ``limit`` keeps the first images only, and ``stats`` then counts those; ``drop_empty`` leaves
    out images without boxes, which ``stats.num_images`` still counts. Raises ``UserError`` for a file that does
    not fit, and from ``dataset[i]`` for an image that is missing or damaged.
    """

    def __init__(
        self,
        annotations: Path | str,
        images: Path | str,
        *,
        masks: bool = False,
        drop_empty: bool = False,
        limit: int | None = None,
    ) -> None:
        self.annotations_path, self.images_path = Path(annotations), Path(images)
        if not self.images_path.is_dir():
            raise UserError(f"{self.images_path}: no such folder of images")
        self._annotations = open_annotations(self.annotations_path, masks=masks)
        if masks:
            _require_segmentations(self._annotations)
        self.names = self._annotations.category_names
        self.category_ids = self._annotations.category_ids
        self.frequencies = self._annotations.frequencies
        self.dropped_boxes = self._annotations.dropped

        self._images = np.arange(len(self._annotations.image_ids))[:limit]
        self.stats = ClassStats.from_annotations(self._annotations, self._images)
        if drop_empty:
            self._images = self._images[self.image_labels.has_objects]
        if not self._images.size:
            raise UserError(f"{annotations}: holds no image{' with a box' if drop_empty else ''}")
        self.image_ids: list[int] = self._annotations.image_ids[self._images].tolist()
        self.sizes = np.stack([self._annotations.heights, self._annotations.widths], axis=1)[self._images]

    @property
    def image_labels(self) -> ImageLabels:
        """The class indices 0..C-1 of each image, one per box, for samplers: made anew, workers need none."""
        return ImageLabels.from_annotations(self._annotations, self._images)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Sample:
        position = int(self._images[index])
        height, width = self.sizes[index].tolist()
        rows = self._rows(position)
        boxes = torch.from_numpy(self._annotations.boxes[rows])
        target: dict[str, Tensor | int] = {
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(height, width)),
            "labels": torch.from_numpy(self._annotations.class_index[rows] + 1),
            "image_id": self.image_ids[index],
        }
        segmentations = self._annotations.segmentations
        if segmentations is not None:
            masks = np.zeros((len(rows), height, width), dtype=np.uint8)
            for mask, row in zip(masks, rows.tolist(), strict=True):
                mask[:] = segmentations.mask(row, height, width)
            target["masks"] = tv_tensors.Mask(torch.from_numpy(masks))
        return self.image(index), target

    def image(self, index: int) -> tv_tensors.Image:
        """Return the image of ``dataset[index]`` alone, uint8 [3, H, W]."""
        position = int(self._images[index])
        path, (height, width) = self._path(position), self.sizes[index].tolist()
        try:
            with Image.open(path) as file:
                pixels = np.array(file.convert("RGB"))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{path}: damaged or not an image: {reason}") from None
        if pixels.shape[:2] != (height, width):
            found = f"{pixels.shape[1]}x{pixels.shape[0]}"
            raise UserError(f"{path}: the image is {found}, but {self.annotations_path} says {width}x{height}")
        return tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1).contiguous())

    def image_path(self, index: int) -> Path:
        """Return where the image of ``dataset[index]`` lies."""
        return self._path(int(self._images[index]))

    def _rows(self, position: int) -> np.ndarray:
        start, stop = self._annotations.offsets[position : position + 2]
        return start + np.flatnonzero(~self._annotations.iscrowd[start:stop])

    def _path(self, position: int) -> Path:
        name = self._annotations.file_names[position]
        path = image_path(self.images_path, name)
        if path is None:
            image_id = self._annotations.image_ids[position]
            raise UserError(
                f"{self.images_path / name}: no such image (image_id {image_id} of {self.annotations_path})"
            )
        return path


def _require_segmentations(annotations: Annotations) -> None:
    if annotations.segmentations is None:
        return
    missing = np.flatnonzero(annotations.segmentations.missing() & ~annotations.iscrowd)
    if missing.size:
        record = annotations.records[missing[0]]
        raise UserError(
            f"{annotations.path}: annotations[{record}] has no segmentation, and a mask model needs one for "
            "every object; try model=fasterrcnn"
        )
