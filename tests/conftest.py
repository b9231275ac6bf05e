"""Small data that many tests share, written to disk as a user's would be."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image, ImageDraw

COLOURS = {2: "red", 3: "lime", 7: "blue", 8: "yellow", 20: "magenta"}  # category id: fill; 20 never occurs


class TinyCoco(NamedTuple):
    annotations: Path
    images: Path


@pytest.fixture
def tiny_coco(tmp_path: Path) -> Callable[..., TinyCoco]:
    """A function that writes what `write_tiny_coco` does in a folder of a name."""

    def make(count: int = 8, *, size: tuple[int, int] = (64, 64), seed: int = 0, folder: str = "tiny") -> TinyCoco:
        return write_tiny_coco(tmp_path / folder, count, size=size, seed=seed)

    return make


def write_tiny_coco(folder: Path, count: int = 8, *, size: tuple[int, int] = (64, 64), seed: int = 0) -> TinyCoco:
    """Write ``count`` PNG images of ``size`` (width, height) and their COCO file.

    Five categories with gaps in their ids, the last without instances; polygon masks (triangles and
    quadrilaterals, drawn in the colour of their class on noise); image 0 also has a crowd (RLE) and a
    degenerate box, the last image has nothing. Other images have 1 to 3 objects. Image ids are 10, 11, ...
    """
    images = folder / "images"
    images.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    rows = [
        {"id": 10 + index, "file_name": f"{index:04d}.png", "width": size[0], "height": size[1]}
        for index in range(count)
    ]
    annotations: list[dict[str, object]] = []
    for row in rows:
        noise = generator.integers(0, 96, (size[1], size[0], 3), dtype=np.uint8)
        picture = Image.fromarray(noise)
        objects = 0 if row is rows[-1] else int(generator.integers(1, 4))
        for _ in range(objects):
            annotations.append(_draw_object(picture, generator, size))
            annotations[-1]["image_id"] = row["id"]
        picture.save(images / str(row["file_name"]))
    annotations += _crowd_and_degenerate(10, size)
    for number, annotation in enumerate(annotations):
        annotation["id"] = 100 + number
    categories = [{"id": category, "name": f"class_{category}"} for category in COLOURS]
    path = folder / "instances.json"
    path.write_text(json.dumps({"images": rows, "annotations": annotations, "categories": categories}))
    return TinyCoco(path, images)


def _draw_object(picture: Image.Image, generator: np.random.Generator, size: tuple[int, int]) -> dict[str, object]:
    category = int(generator.choice([2, 3, 7, 8], p=[0.5, 0.25, 0.15, 0.1]))
    width, height = (int(generator.integers(side // 4, side // 2)) for side in size)
    x, y = int(generator.integers(0, size[0] - width)), int(generator.integers(0, size[1] - height))
    corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
    if category in (3, 8):
        corners = [(x + width // 2, y), (x + width, y + height), (x, y + height)]
    ImageDraw.Draw(picture).polygon(corners, fill=COLOURS[category])
    polygon = [float(value) for corner in corners for value in corner]
    area = width * height / (2 if len(corners) == 3 else 1)
    return {
        "category_id": category,
        "bbox": [x, y, width, height],
        "segmentation": [polygon],
        "area": area,
        "iscrowd": 0,
    }


def _crowd_and_degenerate(image_id: int, size: tuple[int, int]) -> list[dict[str, object]]:
    width, height = size
    runs = [0, 4 * height, (width - 4) * height]  # the four columns at the left
    crowd = {"bbox": [0, 0, 4, height], "area": 4 * height, "iscrowd": 1}
    flat = {"bbox": [8, 8, 0, 5], "area": 0, "iscrowd": 0}
    return [
        {
            "image_id": image_id,
            "category_id": 2,
            "segmentation": {"size": [height, width], "counts": runs},
            **crowd,
        },
        {"image_id": image_id, "category_id": 3, "segmentation": [[8, 8, 8, 13, 8, 10]], **flat},
    ]
