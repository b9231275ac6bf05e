"""A detection data set from any COCO-format file: COCO, LVIS v1 and v0.5, or the user's own."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from detloss.data.annotations import Annotations
from detloss.data.decode import decode
from detloss.data.file_names import image_path
from detloss.data.image_cache import ImageCache
from detloss.data.image_labels import ImageLabels
from detloss.data.masks import draw_masks
from detloss.data.store import open_annotations
from detloss.data.views import Size, View
from detloss.errors import UserError
from detloss.stats import ClassStats

Sample = tuple[tv_tensors.Image, dict[str, Tensor | int]]
Target = dict[str, Tensor]


class UnreadableImage(UserError):
    """An image that is missing, damaged or of another size than annotated."""

    def __init__(self, message: str, image_id: int) -> None:
        super().__init__(message, image_id)  # both, so that it can be pickled
        self.image_id = image_id

    def __str__(self) -> str:
        return str(self.args[0])


class CocoDataset(Dataset[Sample]):
    """Images with boxes, labels 1..C and, with ``masks``, masks.

    A sample is (image uint8 [3, H, W], target): ``boxes`` [G, 4] float32 xyxy in pixels, ``labels`` [G]
    int64, ``masks`` [G, H, W] uint8 and ``image_id``. Crowds never appear in targets, images without boxes
    give G = 0. ``limit`` keeps the first images only, and ``stats`` then counts those; ``drop_empty`` leaves
    out images without boxes, which ``stats.num_images`` still counts. Where ``cache`` is set it keeps decoded
    images. Raises ``UserError`` for a file that does not fit, and from ``dataset[i]`` for an image that is missing
    or damaged.
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
        self.cache: ImageCache | None = None

    @property
    def image_labels(self) -> ImageLabels:
        """The class indices 0..C-1 of each image, one per box, for samplers: made anew, workers need none."""
        return ImageLabels.from_annotations(self._annotations, self._images)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Sample:
        size, rows = self.size(index), self._objects(index)
        boxes = torch.from_numpy(self._annotations.boxes[rows])
        target: dict[str, Tensor | int] = {
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size),
            "labels": torch.from_numpy(self._annotations.class_index[rows] + 1),
            "image_id": self.image_ids[index],
        }
        segmentations = self._annotations.segmentations
        if segmentations is not None:
            target["masks"] = tv_tensors.Mask(draw_masks(segmentations, rows, View.whole(size)))
        return self.image(index), target

    def seen(self, index: int, view: View, *, masks: bool) -> tuple[Tensor, Target]:
        """Return uint8 [3, H, W] and the target of an image of which ``view`` is seen, plain tensors.

        Boxes end at the window. Objects of which nothing is left are not in the target: those whose box has no
        area, and where the window cuts the image also those without a pixel of their mask.
        """
        rows = self._objects(index)
        boxes = view.boxes(self._annotations.boxes[rows])
        kept = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        rows, boxes = rows[kept], boxes[kept]
        target = {
            "boxes": torch.from_numpy(boxes),
            "labels": torch.from_numpy(self._annotations.class_index[rows] + 1),
            "image_id": torch.tensor(self.image_ids[index]),
        }
        if masks:
            assert self._annotations.segmentations is not None
            target["masks"] = draw_masks(self._annotations.segmentations, rows, view)
            if view.is_cut:
                target = with_objects(target, target["masks"].flatten(1).any(dim=1).bool())
        return view.pixels(self.pixels(index)), target

    def image(self, index: int) -> tv_tensors.Image:
        """Return the image of ``dataset[index]`` alone, uint8 [3, H, W]."""
        return tv_tensors.Image(self.pixels(index).contiguous())

    def pixels(self, index: int) -> Tensor:
        """Return the same as it was decoded: a plain tensor whose channels lie next to each other."""
        path = self.image_path(index)
        if self.cache is not None and (kept := self.cache.read(index, path)) is not None:
            return kept
        try:
            pixels = decode(path, self.size(index), source=self.annotations_path)
        except UserError as error:
            raise UnreadableImage(str(error), self.image_ids[index]) from None
        if self.cache is not None:
            self.cache.keep(index, path, pixels)
        return pixels

    def image_path(self, index: int) -> Path:
        """Return where the image of ``dataset[index]`` lies."""
        name = self._annotations.file_names[int(self._images[index])]
        path = image_path(self.images_path, name)
        if path is None:
            image_id = self.image_ids[index]
            raise UnreadableImage(
                f"{self.images_path / name}: no such image (image_id {image_id} of {self.annotations_path})",
                image_id,
            )
        return path

    def size(self, index: int) -> Size:
        """Return height and width of the image of ``dataset[index]``."""
        height, width = self.sizes[index].tolist()
        return height, width

    def _objects(self, index: int) -> np.ndarray:
        return self._rows(int(self._images[index]))

    def _rows(self, position: int) -> np.ndarray:
        start, stop = self._annotations.offsets[position : position + 2]
        return start + np.flatnonzero(~self._annotations.iscrowd[start:stop])


def with_objects(target: Target, kept: Tensor) -> Target:
    """Return the target with some of its objects, those that ``kept`` [G] bool says."""
    return {key: value if key == "image_id" else value[kept] for key, value in target.items()}


def _require_segmentations(annotations: Annotations) -> None:
    if annotations.segmentations is None:
        return
    missing = np.flatnonzero(annotations.segmentations.missing() & ~annotations.iscrowd)
    if missing.size:
        record = annotations.records[missing[0]]
        raise UserError(
            f"{annotations.path}: annotations[{record}] has no segmentation, and mask models and "
            "dataset.copy_paste need one for every object; try model=fasterrcnn dataset.copy_paste=0"
        )
