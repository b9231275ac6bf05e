"""Which files a data set's config means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from detloss.data.split import split_annotations
from detloss.errors import UserError, nearest

if TYPE_CHECKING:
    from detloss.data.shapes import ShapesPaths


@dataclass(frozen=True)
class DatasetFiles:
    """Annotation files and image folders of a data set."""

    train_annotations: Path
    train_images: Path
    val_annotations: Path
    val_images: Path


def dataset_files(dataset: DictConfig) -> DatasetFiles:
    """Return where the data set keeps its files; generated data is made when it is not there yet.

    Raises:
        UserError: a file or folder is neither given nor found under ``dataset.root``.
    """
    if dataset.format == "shapes":
        paths = _generated(dataset.generator)
        return DatasetFiles(paths.train_annotations, paths.train_images, paths.val_annotations, paths.val_images)
    part_files = _reader(dataset)
    train = part_files(dataset, "train")
    if dataset.split is not None:
        train_json, val_json = split_annotations(train[0], float(dataset.split), seed=0)
        return DatasetFiles(train_json, train[1], val_json, train[1])
    return DatasetFiles(*train, *part_files(dataset, "val"))


def training_files(dataset: DictConfig) -> tuple[Path, Path]:
    """Return the annotation file and the image folder to train on, without asking for those to validate with."""
    if dataset.format == "shapes" or dataset.split is not None:
        files = dataset_files(dataset)
        return files.train_annotations, files.train_images
    return _reader(dataset)(dataset, "train")


def _reader(dataset: DictConfig) -> Callable[[DictConfig, str], tuple[Path, Path]]:
    """Return what finds a part's annotations and images; those of other layouts are converted."""
    if dataset.format not in ("voc", "yolo", "openimages"):
        return _split_files
    from detloss.data import converted

    readers = {"voc": converted.voc_files, "yolo": converted.yolo_files, "openimages": converted.open_images_files}
    return readers[dataset.format]


def _generated(generator: DictConfig) -> ShapesPaths:
    from detloss.data.shapes import shapes_dataset  # here, as drawing brings Pillow along

    known = set(signature(shapes_dataset).parameters) - {"root", "progress"}
    options = {str(key): value for key, value in generator.items()}
    for key, value in options.items():
        if key not in known:
            raise UserError(f"dataset.generator has no option '{key}'{nearest(key, known)}")
        if not isinstance(value, int) or isinstance(value, bool):
            raise UserError(f"dataset.generator.{key}={value}: expected a whole number")
    return shapes_dataset(**options)


def _split_files(dataset: DictConfig, part: str) -> tuple[Path, Path]:
    """Return annotations and images of a part, given or found under the root."""
    chosen = dataset[part]
    annotations = _path(chosen.annotations) if chosen.annotations else None
    images = _path(chosen.images) if chosen.images else None
    if (annotations is None or images is None) and dataset.root is None:
        raise UserError(
            f"dataset={dataset.name} needs its files: give dataset.root=FOLDER, or "
            f"dataset.{part}.annotations=JSON and dataset.{part}.images=FOLDER"
        )
    annotations = annotations or _first_file(_path(dataset.root), _annotation_names(dataset.name, part))
    images = images or _image_folder(dataset, part)
    if not annotations.is_file():
        raise UserError(f"dataset.{part}.annotations={annotations}: no such file")
    if not images.is_dir():
        raise UserError(f"dataset.{part}.images={images}: no such folder")
    return annotations, images


def _annotation_names(name: str, part: str) -> list[str]:
    official = {
        "lvis_v1": f"lvis_v1_{part}.json",
        "lvis_v05": f"lvis_v0.5_{part}.json",
    }.get(name)
    if official:
        return [f"annotations/{official}", official]
    return [f"annotations/instances_{part}2017.json", f"annotations/instances_{part}.json"]


def _first_file(root: Path, names: list[str]) -> Path:
    for name in names:
        if (root / name).is_file():
            return root / name
    raise UserError(f"dataset.root={root}: found none of {', '.join(names)}")


def _image_folder(dataset: DictConfig, part: str) -> Path:
    root = _path(dataset.root)
    if dataset.format == "lvis":  # its file names hold the folder: train2017/000000391895.jpg
        return root
    return next((root / name for name in (f"{part}2017", part) if (root / name).is_dir()), root / part)


def _path(words: str) -> Path:
    return Path(words).expanduser()
