"""Annotation files that were read once, as columns on disk that every process maps instead of loading them."""

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import numpy as np

from detloss.data.annotations import Annotations, read_annotations
from detloss.data.cache import cache_folder
from detloss.data.segmentations import Segmentations
from detloss.data.texts import Texts

FORMAT = 1
"""Grows whenever what is stored, or how a file is read, changes."""

WORTH_STORING = 1 << 24
"""Bytes of an annotation file from which on it is stored: smaller ones are read in no time."""


def open_annotations(path: Path, *, masks: bool = False) -> Annotations:
    """Return what `read_annotations` does, from the cache where it is.

    The first of several processes that ask at once reads the file while the others wait. Stored columns are
    mapped: they take no memory of a process's own, and pickling sends the name of their folder. A cache that is
    damaged, or of another state of its file, is made again, which a line on the standard error tells; so does one
    that cannot be written, without which every process reads the file.
    """
    try:
        size = path.stat().st_size
    except OSError:
        size = 0
    if size < WORTH_STORING:
        return read_annotations(path, masks=masks)
    folder, annotations = _folder(path, masks), None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            stored = _stored(folder, path)
            if isinstance(stored, Annotations):
                return stored
            if stored:
                print(f"{folder}: {stored}; reading {path} again", file=sys.stderr)
            annotations = read_annotations(path, masks=masks)
            _store(annotations, folder)
            return load(folder)
    except OSError as error:
        print(
            f"{folder}: cannot be written ({error.strerror}); set DETLOSS_CACHE to a folder that can",
            file=sys.stderr,
        )
        return annotations or read_annotations(path, masks=masks)


def load(folder: Path) -> Annotations:
    """Map the annotations stored in ``folder``; an error of some kind where they are damaged."""
    facts = json.loads((folder / "facts.json").read_text("utf-8"))

    def columns(kind: type, prefix: str = "") -> dict[str, np.ndarray]:
        names = {f"{prefix}{field.name}": field.name for field in fields(kind)}
        files = {name: folder / f"{stem}.npy" for stem, name in names.items()}
        return {name: np.load(file, mmap_mode="r") for name, file in files.items() if file.exists()}

    arrays = columns(Annotations)
    names = columns(Texts, "file_names.")
    segmentations = Segmentations(**columns(Segmentations, "segmentations.")) if facts["masks"] else None
    return Annotations(
        path=Path(facts["path"]),
        file_names=Texts(**names),
        category_ids=tuple(facts["category_ids"]),
        category_names=tuple(facts["category_names"]),
        frequencies=None if facts["frequencies"] is None else tuple(facts["frequencies"]),
        declared_instances=facts["declared_instances"],
        dropped=facts["dropped"],
        segmentations=segmentations,
        stored=folder,
        **arrays,
    )


def _folder(path: Path, masks: bool) -> Path:
    key = hashlib.sha256(f"{path.resolve()} {masks}".encode()).hexdigest()[:16]
    return cache_folder() / "annotations" / f"{path.stem}-{key}"


def _stored(folder: Path, path: Path) -> Annotations | str:
    """Return what is stored, or why it cannot be used; nothing where nothing is stored."""
    if not folder.exists():
        return ""
    try:
        annotations = load(folder)
        facts = json.loads((folder / "facts.json").read_text("utf-8"))
        if facts["of"] != _of(path):
            return "is of another state of the file"
        return annotations
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return "is damaged"


def _of(path: Path) -> list[int]:
    state = path.stat()
    return [FORMAT, state.st_size, state.st_mtime_ns]


def _store(annotations: Annotations, folder: Path) -> None:
    """Write all columns beside ``folder`` and put them in its place by one rename."""
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        facts: dict[str, object] = {
            "of": _of(annotations.path),
            "path": str(annotations.path),
            "masks": annotations.segmentations is not None,
        }
        for field in fields(annotations):
            value = getattr(annotations, field.name)
            if isinstance(value, np.ndarray):
                np.save(partial / f"{field.name}.npy", value)
            elif isinstance(value, Texts | Segmentations):
                for part in fields(value):
                    np.save(partial / f"{field.name}.{part.name}.npy", getattr(value, part.name))
            elif field.name not in ("path", "segmentations", "stored"):
                facts[field.name] = value
        (partial / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        os.rename(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process on this machine is inside for the same folder."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with open(folder.with_name(f".{folder.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
