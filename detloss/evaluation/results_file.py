"""COCO's results format, a JSON list of detections: read as columns, and written (no torch here)."""

import json
import os
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from detloss.data.records import Records, load_json_object
from detloss.errors import UserError
from detloss.evaluation.ground_truth import GroundTruth, is_finite, known_positions, packed_segmentations
from detloss.evaluation.packed_masks import PackedMasks, Packing
from detloss.evaluation.prediction_columns import PredictionColumns, Row

CHUNK = 1 << 22
"""Bytes of a results file that are parsed at once, so that little more than the columns is ever held."""

CUT = re.compile(rb".*\}\s*(,)\s*\{", re.DOTALL)
"""The last place in a text where one row seems to end and the next to begin, which parsing then proves."""


class _Surprise(Exception):
    """The file is not laid out as expected, which does not make it wrong."""


class _Row(msgspec.Struct, gc=False):
    image_id: int
    category_id: int
    score: float
    bbox: tuple[float, float, float, float] | UnsetType = UNSET


class _RunLengths(msgspec.Struct, gc=False):
    size: tuple[int, int]
    counts: str


class _MaskRow(_Row, gc=False, kw_only=True):
    segmentation: _RunLengths


def read_results(path: Path, *, masks: bool, ground_truth: GroundTruth | None = None) -> PredictionColumns:
    """Read a results file.

    Args:
        masks: whether masks are read and must be there; without boxes they always are.
        ground_truth: where the images and their sizes are, without which polygons cannot be read.

    Raises ``UserError``, one line that names the row, for malformed files and scores like NaN.
    """
    return _typed(path, masks) or _of_rows(path, read_rows(path), masks, ground_truth)


def read_all_results(path: Path) -> PredictionColumns:
    """Read a results file with all that its rows have; see `read_results`."""
    columns = _typed(path, True) or _typed(path, False)
    if columns is not None and (columns.masks is not None or not _mentions_masks(path)):
        return columns
    rows = read_rows(path)  # with masks that are not compressed run lengths
    return _of_rows(path, rows, bool(rows) and "segmentation" in rows[0], None)


def write_results(columns: PredictionColumns, path: Path) -> None:
    """Write a results file, a row a line, by one rename."""
    partial = path.with_name(f".{path.name}.part")
    try:
        with partial.open("wb") as file:
            separator = b"[\n"
            for row in columns.rows():
                file.write(separator + msgspec.json.encode(row))
                separator = b",\n"
            file.write(b"\n]\n" if len(columns) else b"[]\n")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_rows(path: Path) -> list[Row]:
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


def _typed(path: Path, masks: bool) -> PredictionColumns | None:
    """Read a file of plain rows fast, in flat memory, and give up on any other."""
    try:
        parts, packed = _parts(path, masks)
    except (OSError, ValueError, OverflowError, msgspec.MsgspecError, _Surprise):
        return None
    boxes = [part.boxes for part in parts if part.boxes is not None]
    return PredictionColumns(
        np.concatenate([part.image_id for part in parts]),
        np.concatenate([part.category_id for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate(boxes) if boxes else None,
        packed,
    )


def _parts(path: Path, masks: bool) -> tuple[list[PredictionColumns], PackedMasks | None]:
    """Return the columns of a file's pieces, and the masks of all if asked or if there are no boxes."""
    plain, full = msgspec.json.Decoder(list[_Row]), msgspec.json.Decoder(list[_MaskRow])
    parts: list[PredictionColumns] = []
    packing = Packing()
    for text in _pieces(path):
        if masks:
            masked = full.decode(text)
            runs = [row.segmentation for row in masked]
            sizes = np.fromiter(chain.from_iterable([each.size for each in runs]), np.int32, 2 * len(runs))
            packing.add([each.counts.encode("ascii") for each in runs], sizes.reshape(-1, 2))
            part = _columns(masked)
        else:
            part = _columns(plain.decode(text))
            if part.boxes is None:
                return _parts(path, True)
        if parts and (part.boxes is None) != (parts[0].boxes is None):
            raise _Surprise
        parts.append(part)
    return parts, packing.packed() if masks else None


def _pieces(path: Path) -> Iterator[bytes]:
    """Yield the list that a file holds as several shorter lists."""
    with open(path, "rb") as file:
        text = b""
        while block := file.read(CHUNK):
            text += block
            if cut := CUT.match(text):
                yield text[: cut.start(1)] + b"]"
                text = b"[" + text[cut.end(1) :]
        yield text


def _columns(rows: Sequence[_Row]) -> PredictionColumns:
    boxes = [row.bbox for row in rows if row.bbox is not UNSET]
    if boxes and len(boxes) < len(rows):
        raise _Surprise
    corners = np.fromiter(chain.from_iterable(boxes), np.float64, 4 * len(boxes)).reshape(-1, 4)
    return PredictionColumns(
        np.array([row.image_id for row in rows], dtype=np.int64),
        np.array([row.category_id for row in rows], dtype=np.int64),
        np.array([row.score for row in rows], dtype=np.float64),
        corners if len(boxes) == len(rows) else None,
    )


def _of_rows(path: Path, rows: list[Row], masks: bool, ground_truth: GroundTruth | None) -> PredictionColumns:
    """Return the columns of any rows, slowly, and say what is wrong with them."""
    records = Records(path, "predictions", rows)
    image_ids = records.integers("image_id")
    has_boxes = not rows or "bbox" in rows[0]
    if ground_truth is not None:
        image = known_positions(records, "image_id", image_ids, ground_truth.image_ids)
        sizes = ground_truth.sizes[image]
    elif masks or not has_boxes:
        sizes = _own_sizes(records)
    packed = None
    if masks or not has_boxes:
        packed = packed_segmentations(records, [row.get("segmentation") for row in rows], sizes)
    return PredictionColumns(
        image_ids,
        records.integers("category_id"),
        np.array([row["score"] for row in rows], dtype=np.float64),
        records.numbers("bbox", 4) if has_boxes else None,
        packed,
    )


def _own_sizes(records: Records) -> np.ndarray:
    """Return the sizes [D, 2] that run lengths name; polygons name none."""
    sizes = []
    for record, row in enumerate(records.rows):
        segmentation = row.get("segmentation")
        if isinstance(segmentation, list):
            raise records.error(record, "has polygons, whose image's size the file does not tell; use run lengths")
        size = segmentation.get("size") if isinstance(segmentation, dict) else None
        if not (isinstance(size, list) and len(size) == 2 and all(type(side) is int for side in size)):
            raise records.error(record, "has no 'segmentation' with a 'size' [height, width]")
        sizes.append(size)
    return np.array(sizes, dtype=np.int64).reshape(-1, 2)


def _mentions_masks(path: Path) -> bool:
    """Whether rows that were read without them may have masks; all have them or none."""
    with open(path, "rb") as file:
        return b'"segmentation"' in file.read(CHUNK)


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
