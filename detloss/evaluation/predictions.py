"""COCO's results format: written while the model runs, a shard per rank; joined and read (no torch here)."""

import json
import os
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import TypedDict

import numpy as np
from pycocotools import mask as coco_mask

from detloss.data.records import Records, load_json_object
from detloss.errors import UserError
from detloss.evaluation.ground_truth import is_finite

Row = dict[str, object]
FILE_NAME = "predictions.json"


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

    A context manager. The shard is a line of JSON per detection and a last line that counts them, which a
    writer that died has not written: `merge_shards` tells whole shards from broken ones by it.
    """

    def __init__(self, folder: Path, *, rank: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = _shard(folder, rank).open("w", encoding="utf-8")
        self._rows = 0

    def __enter__(self) -> "PredictionWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._file.write(json.dumps({"rows": self._rows}) + "\n")
        self._file.close()

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
            masks: D run lengths of the original image's size, or None.

        Raises ``UserError`` for a box or score that is not finite.
        """
        boxes, scores = boxes.astype(np.float64).reshape(-1, 4), scores.astype(np.float64)
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise UserError(f"image {image_id}: a predicted box or score is not finite; has training diverged?")
        corners = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
        encoded = [None] * len(boxes) if masks is None else masks
        columns = zip(category_ids.tolist(), corners.tolist(), scores.tolist(), encoded, strict=True)
        for category_id, box, score, mask in columns:
            row: Row = {"image_id": int(image_id), "category_id": category_id, "bbox": box, "score": score}
            if mask is not None:
                row["segmentation"] = mask
            self._file.write(json.dumps(row) + "\n")
        self._rows += len(boxes)


def merge_shards(folder: Path, world_size: int) -> Path:
    """Join the shards of ``world_size`` ranks to ``predictions.json`` in ``folder`` and delete them.

    The file appears by one rename. Raises ``UserError`` for a shard that is missing or was not finished.
    """
    shards = [_shard(folder, rank) for rank in range(world_size)]
    if missing := [shard.name for shard in shards if not shard.is_file()]:
        raise UserError(f"{folder}: predictions are missing: {', '.join(missing)} of {world_size} shards")
    path = folder / FILE_NAME
    partial = path.with_name(f"{path.name}.part")
    try:
        with partial.open("w", encoding="utf-8") as file:
            separator = "[\n"
            for row in chain.from_iterable(map(_rows, shards)):
                file.write(separator + row)
                separator = ",\n"
            file.write("[]\n" if separator == "[\n" else "\n]\n")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    for shard in shards:
        shard.unlink()
    return path


def read_predictions(path: Path) -> list[Row]:
    """Read a results file and return its rows, with no other keys than COCO's.

    A row has ``image_id``, ``category_id``, ``score`` and ``bbox`` (x, y, width, height), ``segmentation``, or
    both. Raises ``UserError``, one line that names the row, for anything else and for scores like NaN.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        load_json_object(path)  # says in one line what is wrong with the file
        raise
    if not isinstance(content, list):
        raise UserError(f"{path}: expected a list of detections at the top, as in COCO's results format")
    records = Records.of(path, {"predictions": content}, "predictions")
    columns: dict[str, list[object]] = {
        "image_id": records.integers("image_id").tolist(),
        "category_id": records.integers("category_id").tolist(),
        "score": _scores(records),
    }
    for key in ("bbox", "segmentation"):
        if _has_all(records, key):
            columns[key] = [row[key] for row in records.rows]
    if "bbox" in columns:
        boxes = records.numbers("bbox", 4)
        if (bad := np.flatnonzero((boxes[:, 2:] < 0).any(axis=1))).size:
            raise records.error(int(bad[0]), "'bbox' must be x, y, width, height; a side is negative")
    elif content and "segmentation" not in columns:
        raise records.error(0, "has neither 'bbox' nor 'segmentation'")
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _shard(folder: Path, rank: int) -> Path:
    return folder / f"predictions.rank{rank}.jsonl"


def _rows(shard: Path) -> Iterator[str]:
    """Yield the lines of a shard without its last, which must count them."""
    count, line = -1, ""
    with shard.open(encoding="utf-8") as file:
        for following in file:
            if count >= 0:
                yield line.rstrip("\n")
            count, line = count + 1, following
    if re.fullmatch(rf'{{"rows": {count}}}\n', line) is None:
        raise UserError(f"{shard}: the shard is not complete; its rank did not finish predicting")


def _has_all(records: Records, key: str) -> bool:
    """Whether the rows have ``key``; some with and some without it is an error."""
    present = [key in row for row in records.rows]
    if any(present) and not all(present):
        raise records.error(present.index(False), f"has no '{key}', though other rows have one")
    return any(present)


def _scores(records: Records) -> list[object]:
    values = [row.get("score") for row in records.rows]
    for record, value in enumerate(values):
        if not is_finite(value):
            problem = f"'score' must be a finite number, got {value!r}" if value is not None else "no 'score'"
            raise records.error(record, problem)
    return values
