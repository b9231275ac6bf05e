"""Data sets of other layouts, as COCO-format files that are made once and kept in the cache."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from detloss.data.cache import cache_folder
from detloss.data.coco_file import CocoFile
from detloss.data.open_images import read_open_images
from detloss.data.voc import read_voc
from detloss.data.yolo import SUFFIXES, read_yolo
from detloss.errors import UserError


def voc_files(dataset: DictConfig, part: str) -> tuple[Path, Path]:
    """Return annotations, converted, and images of a part of a data set in VOC's layout."""
    root, split = _root(dataset), str(dataset[part].split)
    sources = [*root.glob("Annotations/*.xml"), root / "ImageSets" / "Main" / f"{split}.txt"]
    return _made_once(lambda: read_voc(root, split), sources, f"voc_{split}"), root / "JPEGImages"


def yolo_files(dataset: DictConfig, part: str) -> tuple[Path, Path]:
    """Return annotations, converted, and images of a part of a data set in YOLO's layout."""
    root, split = _root(dataset), str(dataset[part].split)
    images = root / "images" / split
    sources = [path for path in images.glob("*") if path.suffix.lower() in SUFFIXES]
    sources += [*(root / "labels" / split).glob("*.txt"), root / "data.yaml", root / "classes.txt"]
    return _made_once(lambda: read_yolo(root, split), sources, f"yolo_{split}"), images


def open_images_files(dataset: DictConfig, part: str) -> tuple[Path, Path]:
    """Return annotations, converted, and images of a part of Open Images, by the names of its official files."""
    boxes, images = _found(dataset, f"{part}.annotations"), _found(dataset, f"{part}.images")
    labels = _found(dataset, f"{part}.labels") if dataset[part].labels else None
    classes, hierarchy = _found(dataset, "classes"), _found(dataset, "hierarchy") if dataset.hierarchy else None

    def read() -> CocoFile:
        return read_open_images(boxes, classes, images, hierarchy=hierarchy, labels=labels)

    sources = [source for source in (boxes, labels, classes, hierarchy) if source is not None]
    return _made_once(read, sources, f"openimages_{part}"), images


def _root(dataset: DictConfig) -> Path:
    if dataset.root is None:
        raise UserError(f"dataset={dataset.name} needs its files: give dataset.root=FOLDER")
    root = Path(dataset.root).expanduser()
    if not root.is_dir():
        raise UserError(f"dataset.root={root}: no such folder")
    return root


def _found(dataset: DictConfig, key: str) -> Path:
    """Return a file or folder that is given by a path of its own, or relative to the root."""
    name = str(OmegaConf.select(dataset, key))
    path = Path(name).expanduser()
    if not path.is_absolute() and dataset.root is not None:
        path = _root(dataset) / path
    if not path.exists():
        raise UserError(f"dataset.{key}={name}: {path} does not exist; give dataset.root=FOLDER or another path")
    return path


def _made_once(read: Callable[[], CocoFile], sources: Iterable[Path], name: str) -> Path:
    """Return the file that ``read`` makes, which is made again when one of its sources changes."""
    states = []
    for source in sorted(sources):
        if source.exists():
            state = source.stat()
            states.append(f"{source.resolve()} {state.st_size} {state.st_mtime_ns}")
    key = hashlib.sha256("\n".join(states).encode()).hexdigest()[:16]
    path = cache_folder() / "converted" / f"{name}-{key}.json"
    if not path.exists():
        read().write(path)
    return path
