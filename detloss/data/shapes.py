"""The embedded data set: generated long-tailed pictures of shapes, so that a first run needs no download."""

import contextlib
import json
import shutil
import sys
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as run_length
from rich.console import Console
from rich.progress import Progress

from detloss.data.cache import cache_folder
from detloss.data.scenes import MEAN_OBJECTS, compose, deal_classes
from detloss.data.shape_classes import CLASSES
from detloss.errors import UserError

GENERATOR_VERSION = 1  # part of the cache's key: raise it whenever the same parameters give other files
RARE, COMMON = 10, 100  # at most so many training images: LVIS's limits of the groups r and c


@dataclass(frozen=True)
class ShapesPaths:
    """Where the two annotation files and the two image folders lie."""

    train_annotations: Path
    train_images: Path
    val_annotations: Path
    val_images: Path


@dataclass(frozen=True)
class _Split:
    images: list[dict[str, object]]
    annotations: list[dict[str, object]]


def shapes_dataset(
    root: Path | None = None,
    *,
    seed: int = 0,
    train_images: int = 1000,
    val_images: int = 240,
    size: int = 128,
    progress: Callable[[int, int], None] | None = None,
) -> ShapesPaths:
    """Return the paths of the generated data set, writing it first if it is not there yet.

    It lies in a folder named after all parameters, under ``root`` (default: ``$DETLOSS_CACHE``, else the
    user's cache directory), as LVIS JSON and PNG files of ``size`` x ``size`` pixels. The training set is
    long-tailed, the validation set has about equally many objects of each class. The files are a function of
    the parameters and appear by one rename of the folder, so several processes may ask for it at once.
    ``progress`` is called with (pictures done, pictures in all); without it, a terminal shows a bar. Raises
    UserError if a number is too small or the folder cannot be written.
    """
    if size < 48:
        raise UserError(
            f"shapes: pictures of {size} pixels are too small to tell the classes apart; use 48 or more"
        )
    if seed < 0:
        raise UserError(f"shapes: seed={seed} is negative; use 0 or more")
    for name, images in (("train_images", train_images), ("val_images", val_images)):
        if images < 16:
            raise UserError(f"shapes: {name}={images} has no room for {len(CLASSES)} classes; use 16 or more")
    parent = root if root is not None else cache_folder()
    folder = parent / f"shapes-v{GENERATOR_VERSION}-seed{seed}-train{train_images}-val{val_images}-size{size}"
    paths = _paths(folder)
    if not _complete(paths, train_images, val_images):
        temporary = parent / f".{folder.name}.{uuid.uuid4().hex}"
        try:
            _generate(_paths(temporary), seed, train_images, val_images, size, progress)
            _publish(temporary, folder, lambda: _complete(paths, train_images, val_images))
        except OSError as error:
            raise UserError(
                f"shapes: cannot write {folder}: {error.strerror}; set DETLOSS_CACHE to a folder with room"
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return paths


def _generate(
    paths: ShapesPaths,
    seed: int,
    train_images: int,
    val_images: int,
    size: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Write both splits."""
    total = train_images + val_images
    with Progress(console=Console(stderr=True), disable=progress is not None or not sys.stderr.isatty()) as bar:
        task = bar.add_task("generating the shapes data set", total=total)

        def report(done: int) -> None:
            bar.update(task, completed=done)
            if progress is not None:
                progress(done, total)

        train = _write_split(
            paths.train_images, _training_counts(train_images), train_images, size, [seed, 0], report
        )
        balanced = np.full(len(CLASSES), round(MEAN_OBJECTS * val_images / len(CLASSES)))
        val = _write_split(
            paths.val_images, balanced, val_images, size, [seed, 1], lambda done: report(train_images + done)
        )
    categories = _categories(train)
    paths.train_annotations.parent.mkdir(parents=True)
    _write_json(paths.train_annotations, train, categories, seed, "train")
    _write_json(paths.val_annotations, val, categories, seed, "val")


def _training_counts(train_images: int) -> np.ndarray:
    """Return in how many training images each class shall occur, [C].

    In proportion to the size of the set, but more images take no class out of its group r or c.
    """
    counts = np.array([row.images for row in CLASSES])
    scaled = np.maximum(np.rint(counts * (train_images / 1000)).astype(np.int64), 1)
    most = np.where(counts <= RARE, RARE, np.where(counts <= COMMON, COMMON, train_images))
    return np.minimum(scaled, most)


def _write_split(
    folder: Path,
    image_counts: np.ndarray,
    num_images: int,
    size: int,
    entropy: list[int],
    report: Callable[[int], None],
) -> _Split:
    """Draw and save the pictures of one split and return their records."""
    folder.mkdir(parents=True)
    split = _Split([], [])
    dealt = deal_classes(image_counts, num_images, np.random.default_rng(entropy))
    for index, labels in enumerate(dealt):
        # A generator for each picture: a picture does not depend on what the ones before it drew.
        rng = np.random.default_rng([*entropy, index + 1])
        scene = compose([CLASSES[label] for label in labels], size, rng)
        name = f"{index + 1:06d}.png"
        Image.fromarray(scene.picture).save(folder / name, compress_level=1)
        split.images.append(
            {
                "id": index + 1,
                "file_name": name,
                "width": size,
                "height": size,
                # All objects are annotated, so every class without one is verified to be absent.
                "neg_category_ids": [label + 1 for label in range(len(CLASSES)) if label not in labels],
                "not_exhaustive_category_ids": [],
            }
        )
        for label, mask in zip(labels, scene.masks, strict=True):
            split.annotations.append(_annotation(len(split.annotations) + 1, index + 1, label + 1, mask))
        report(index + 1)
    return split


def _annotation(identity: int, image_id: int, category_id: int, mask: np.ndarray) -> dict[str, object]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    encoded = run_length.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {
        "id": identity,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
        "area": int(mask.sum()),
        "segmentation": {"size": list(mask.shape), "counts": encoded["counts"].decode("ascii")},
        "iscrowd": 0,
    }


def _categories(train: _Split) -> list[dict[str, object]]:
    """Return the category records; counts and frequency groups are those of the training split."""
    pairs = {(row["image_id"], row["category_id"]) for row in train.annotations}
    images = Counter(category_id for _, category_id in pairs)
    instances = Counter(row["category_id"] for row in train.annotations)
    return [
        {
            "id": identity,
            "name": row.name,
            "supercategory": row.family,
            "frequency": "r" if images[identity] <= RARE else "c" if images[identity] <= COMMON else "f",
            "image_count": images[identity],
            "instance_count": instances[identity],
        }
        for identity, row in enumerate(CLASSES, start=1)
    ]


def _write_json(path: Path, split: _Split, categories: list[dict[str, object]], seed: int, name: str) -> None:
    info = {"description": f"detloss shapes, {name} split, seed {seed}", "version": str(GENERATOR_VERSION)}
    content = {
        "info": info,
        "licenses": [],
        "images": split.images,
        "annotations": split.annotations,
        "categories": categories,
    }
    path.write_text(json.dumps(content, separators=(",", ":")), encoding="utf-8")


def _paths(folder: Path) -> ShapesPaths:
    annotations = folder / "annotations"
    return ShapesPaths(
        annotations / "instances_train.json",
        folder / "train",
        annotations / "instances_val.json",
        folder / "val",
    )


def _complete(paths: ShapesPaths, train_images: int, val_images: int) -> bool:
    """Return whether nobody has deleted files from the folder (it appears whole)."""
    expected = (
        (paths.train_annotations, paths.train_images, train_images),
        (paths.val_annotations, paths.val_images, val_images),
    )
    return all(
        annotations.is_file() and len(list(images.glob("*.png"))) == count
        for annotations, images, count in expected
    )


def _publish(temporary: Path, folder: Path, complete: Callable[[], bool]) -> None:
    """Rename ``temporary`` to ``folder``, unless another process was faster; a damaged folder makes way."""
    for last_try in (False, True):
        try:
            temporary.rename(folder)  # fails if the folder exists and has files in it
            return
        except OSError:
            if complete():
                return
            if last_try or not folder.exists():
                raise
        damaged = folder.with_name(f"{temporary.name}.damaged")
        with contextlib.suppress(FileNotFoundError):  # another process has moved it away
            folder.rename(damaged)
        shutil.rmtree(damaged, ignore_errors=True)
