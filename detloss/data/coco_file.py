"""A COCO-format file in the making: ids are given in the order in which things are added (no torch here)."""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from detloss.errors import UserError

Row = dict[str, object]


class CocoFile:
    """Images, categories and annotations, to be written as JSON.

    Boxes are x, y, width, height in pixels from the upper left corner of the image. What a data set asks to be
    ignored becomes a crowd: training leaves it out, and evaluation counts nothing that lies in it.
    """

    def __init__(self, class_names: Iterable[str]) -> None:
        self.images: list[Row] = []
        self.annotations: list[Row] = []
        self.class_names = list(class_names)

    def add_image(self, file_name: str, width: int, height: int, **more: object) -> int:
        """Return the id of a new image."""
        self.images.append(
            {"id": len(self.images) + 1, "file_name": file_name, "width": width, "height": height} | more
        )
        return len(self.images)

    def add_box(
        self,
        image_id: int,
        class_index: int,
        box: Sequence[float],
        *,
        ignored: bool = False,
        polygon: Sequence[float] | None = None,
    ) -> None:
        """Add an object of class ``class_index`` 0..C-1, its outline x, y, x, y, ... where it is known."""
        x, y, width, height = (round(float(value), 2) for value in box)
        row: Row = {
            "id": len(self.annotations) + 1,
            "image_id": image_id,
            "category_id": class_index + 1,
            "bbox": [x, y, width, height],
            "area": round(width * height, 2),
            "iscrowd": int(ignored),
        }
        if polygon is not None:
            row["segmentation"] = [[round(float(value), 2) for value in polygon]]
            row["area"] = round(_area(polygon), 2)
        self.annotations.append(row)

    def write(self, path: Path) -> None:
        """Write the file by one rename; ``UserError`` where it cannot be written."""
        categories = [{"id": index, "name": name} for index, name in enumerate(self.class_names, start=1)]
        content = {"images": self.images, "categories": categories, "annotations": self.annotations}
        partial = path.with_name(f".{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(content), encoding="utf-8")
            os.replace(partial, path)
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}") from error


def _area(polygon: Sequence[float]) -> float:
    """Return the area inside, by the shoelace formula."""
    x, y = polygon[::2], polygon[1::2]
    return abs(sum(x[i - 1] * y[i] - x[i] * y[i - 1] for i in range(len(x)))) / 2
