"""YOLO's text labels, boxes and polygons (the layout of Darknet and Ultralytics; no torch here)."""

import math
from pathlib import Path

import yaml

from detloss.data.coco_file import CocoFile
from detloss.data.image_header import image_size
from detloss.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def read_yolo(root: Path, split: str | None = None) -> CocoFile:
    """Return ``images/`` with ``labels/``, or their subfolders ``SPLIT``.

    ``data.yaml`` or ``classes.txt`` names the classes. A line is a class and either the box's centre, width and
    height, or an outline x, y, x, y, ... of three points or more, all as shares of the image. An image without a
    text has no objects.
    """
    images, labels = (root / kind / split if split else root / kind for kind in ("images", "labels"))
    if not images.is_dir():
        raise UserError(f"{images}: no such folder of images; expected YOLO's layout, images/ and labels/")
    content = CocoFile(_names(root))
    for path in sorted(entry for entry in images.iterdir() if entry.suffix.lower() in SUFFIXES):
        width, height = image_size(path)
        image = content.add_image(path.name, width, height)
        text = labels / f"{path.stem}.txt"
        for number, line in enumerate(text.read_text("utf-8").splitlines() if text.is_file() else (), start=1):
            if line.strip():
                _add(content, image, line, (width, height), f"{text}, line {number}")
    if not content.images:
        raise UserError(f"{images}: holds no images")
    return content


def _add(content: CocoFile, image: int, line: str, size: tuple[int, int], place: str) -> None:
    words = line.split()
    try:
        class_index, values = int(words[0]), [float(word) for word in words[1:]]
    except ValueError:
        raise UserError(f"{place}: expected a class and numbers, got {line.strip()[:60]!r}") from None
    if not 0 <= class_index < len(content.class_names):
        raise UserError(f"{place}: class {class_index} of {len(content.class_names)}")
    if not all(math.isfinite(value) for value in values):
        raise UserError(f"{place}: expected finite numbers, got {line.strip()[:60]!r}")
    scaled = [value * size[position % 2] for position, value in enumerate(values)]
    if len(values) == 4:
        x, y, width, height = scaled
        content.add_box(image, class_index, (x - width / 2, y - height / 2, width, height))
    elif len(values) >= 6 and len(values) % 2 == 0:
        left, top = min(scaled[::2]), min(scaled[1::2])
        box = (left, top, max(scaled[::2]) - left, max(scaled[1::2]) - top)
        content.add_box(image, class_index, box, polygon=scaled)
    else:
        raise UserError(f"{place}: expected 4 numbers or an outline of three points or more, got {len(values)}")


def _names(root: Path) -> list[str]:
    described = root / "data.yaml"
    listed = root / "classes.txt"
    if described.is_file():
        try:
            content = yaml.safe_load(described.read_text("utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"{described}: {' '.join(str(error).split())}") from None
        names = content.get("names") if isinstance(content, dict) else None
        if isinstance(names, dict) and set(names) == set(range(len(names))):
            names = [names[index] for index in range(len(names))]
        if not isinstance(names, list) or not names:
            raise UserError(f"{described}: expected a list 'names' of the classes")
        return [str(name) for name in names]
    if listed.is_file():
        return [line.strip() for line in listed.read_text("utf-8").splitlines() if line.strip()]
    raise UserError(f"{root}: neither data.yaml nor classes.txt names the classes")
