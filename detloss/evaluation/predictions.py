"""A run's predictions: written while the model runs, a shard per rank; joined and read (no torch here)."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, TypedDict

import numpy as np
from pycocotools import mask as coco_mask

from detloss.errors import UserError, nearest
from detloss.evaluation.prediction_columns import (
    ALWAYS,
    BOXES,
    LAYOUT,
    MASKS,
    PredictionColumns,
    Row,
    holds_columns,
    join_columns,
    open_columns,
    save_columns,
)
from detloss.evaluation.results_file import read_all_results, read_rows, write_results

FILE_NAME = "predictions.npz"
EARLIER_NAME = "predictions.json"
"""What runs of earlier versions hold."""

FACTS = "facts.json"


class RunLengths(TypedDict):
    """A mask as COCO's compressed run lengths; ``size`` is [height, width]."""

    size: list[int]
    counts: str


def encode_masks(masks: np.ndarray) -> list[RunLengths]:
    """Return the run lengths of masks [D, H, W], 0 or 1."""
    encoded = (coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)) for mask in masks)
    return [{"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")} for rle in encoded]


class PredictionWriter:
    """Writes the detections of one rank to its shard in ``folder``, an image at a time, in flat memory.

    A context manager. The shard is a folder with a file per column and, in the end, one that says how long they
    are, which a writer that died has not written: `merge_shards` tells whole shards from broken ones by it.
    """

    def __init__(self, folder: Path, *, rank: int = 0) -> None:
        self._shard = _shard(folder, rank)
        shutil.rmtree(self._shard, ignore_errors=True)
        self._shard.mkdir(parents=True)
        self._files: dict[str, BinaryIO] = {}
        self._rows = self._text = 0

    def __enter__(self) -> "PredictionWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()
        if kind is None:
            facts = {"rows": self._rows, "counts": self._text}
            (self._shard / FACTS).write_text(json.dumps(facts), encoding="utf-8")

    def add(
        self,
        image_id: int,
        boxes: np.ndarray,
        category_ids: np.ndarray,
        scores: np.ndarray,
        masks: Sequence[RunLengths] | None = None,
    ) -> None:
        """Write the D detections of an image.

        Args:
            boxes: [D, 4] xyxy in pixels of the original image.
            category_ids: [D], the data set's own ids.
            scores: [D].
            masks: D run lengths of the original image's size, or None, for all images alike.

        Raises ``UserError`` for a box or score that is not finite.
        """
        boxes, scores = boxes.astype(np.float64).reshape(-1, 4), scores.astype(np.float64)
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise UserError(f"image {image_id}: a predicted box or score is not finite; has training diverged?")
        corners = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
        self._write("image_id", np.full(len(boxes), image_id), len(boxes))
        self._write("category_id", category_ids, len(boxes))
        self._write("bbox", corners, len(boxes))
        self._write("score", scores, len(boxes))
        if masks is not None:
            counts = [mask["counts"].encode("ascii") for mask in masks]
            self._write("size", np.array([mask["size"] for mask in masks]).reshape(-1, 2), len(boxes))
            self._write("length", np.array([len(each) for each in counts]), len(boxes))
            self._text += self._open("counts").write(b"".join(counts))
        self._rows += len(boxes)

    def _write(self, column: str, values: np.ndarray, rows: int) -> None:
        if len(values) != rows:
            raise ValueError(f"{len(values)} values of {column} for {rows} boxes")
        self._open(column).write(values.astype(LAYOUT[column][0]).tobytes())

    def _open(self, column: str) -> BinaryIO:
        if column not in self._files:
            self._files[column] = (self._shard / column).open("wb")
        return self._files[column]


def merge_shards(folder: Path, world_size: int) -> Path:
    """Join the shards of ``world_size`` ranks to ``predictions.npz`` in ``folder`` and delete them.

    The file appears by one rename, and takes the place of one by an earlier version. Raises ``UserError`` for a
    shard that is missing or was not finished.
    """
    shards = [_shard(folder, rank) for rank in range(world_size)]
    if missing := [shard.name for shard in shards if not shard.is_dir()]:
        raise UserError(f"{folder}: predictions are missing: {', '.join(missing)} of {world_size} shards")
    masks = any((shard / "counts").exists() for shard in shards)
    for shard in shards:
        _require_complete(shard, masks)
    columns = [*ALWAYS, *BOXES, *(MASKS if masks else ())]
    sources = {name: [shard / name for shard in shards if (shard / name).exists()] for name in columns}
    path = folder / FILE_NAME
    join_columns(sources, path)
    (folder / EARLIER_NAME).unlink(missing_ok=True)
    for shard in folder.glob("predictions.rank*"):
        shutil.rmtree(shard, ignore_errors=True)
    return path


def read_predictions(path: Path) -> list[Row]:
    """Return the rows of a predictions file, columns or JSON, as COCO's results format has them.

    Raises ``UserError``, one line, for a file that is damaged or holds what such a file cannot.
    """
    return list(open_columns(path).rows()) if holds_columns(path) else read_rows(path)


def convert_predictions(source: Path, output: Path) -> PredictionColumns:
    """Write columns as a COCO results file, or such a file as columns, and return what it holds.

    Raises ``UserError``, one line, for a damaged source and for an output whose name does not fit.
    """
    if not source.is_file():
        siblings = [entry.name for entry in source.parent.iterdir()] if source.parent.is_dir() else []
        raise UserError(f"{source}: no such file{nearest(source.name, siblings)}")
    suffix = ".json" if holds_columns(source) else ".npz"
    if output.suffix != suffix:
        raise UserError(f"-o {output}: expected a name that ends in {suffix}, as {source} is the other form")
    columns = open_columns(source) if suffix == ".json" else read_all_results(source)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        (write_results if suffix == ".json" else save_columns)(columns, output)
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror}") from error
    return columns


def _shard(folder: Path, rank: int) -> Path:
    return folder / f"predictions.rank{rank}"


def _require_complete(shard: Path, masks: bool) -> None:
    """Raise ``UserError`` unless all columns are as long as the shard's last file says."""
    try:
        facts = json.loads((shard / FACTS).read_text("utf-8"))
        rows, text = int(facts["rows"]), int(facts["counts"])
        sizes = {file.name: file.stat().st_size for file in shard.iterdir()}
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{shard}: the shard is not complete; its rank did not finish predicting") from None
    for name in [*ALWAYS, *BOXES, *(MASKS if masks else ())]:
        kind, width = LAYOUT[name]
        expected = text if name == "counts" else rows * (width or 1) * np.dtype(kind).itemsize
        found = sizes.get(name, 0)
        if found != expected:
            raise UserError(f"{shard}: the shard is not complete; its {name} has {found} of {expected} bytes")
