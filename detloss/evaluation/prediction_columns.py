"""Predictions as columns, in memory and in one file that is mapped, not loaded (no torch here).

The file is numpy's ``.npz``, a zip archive of uncompressed arrays: ``numpy.load`` opens it anywhere, it comes and
goes by one rename, and as its list of contents stands at the end, one that was cut off does not open.
"""

import os
import shutil
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from detloss.data.polygons import ends
from detloss.data.records import Records
from detloss.errors import UserError
from detloss.evaluation.packed_masks import PackedMasks

Row = dict[str, object]

ALWAYS: dict[str, tuple[str, int | None]] = {
    "image_id": ("<i8", None),
    "category_id": ("<i8", None),
    "score": ("<f8", None),
}
BOXES: dict[str, tuple[str, int | None]] = {"bbox": ("<f8", 4)}
MASKS: dict[str, tuple[str, int | None]] = {"size": ("<i4", 2), "length": ("<i4", None), "counts": ("|u1", None)}
"""Types and widths of the columns, by COCO's names; a mask is the next ``length`` bytes of ``counts``. Numbers are
as wide as those of a JSON file, so that they are the same by either way."""

LAYOUT = {**ALWAYS, **BOXES, **MASKS}

UNREADABLE = (
    OSError, EOFError, ValueError, KeyError, RuntimeError, MemoryError,
    struct.error, zipfile.BadZipFile, zlib.error, tokenize.TokenError,
)  # fmt: skip
"""What damage of an archive makes zipfile and numpy raise."""

BLOCK = 10_000
"""Rows that are Python objects at once."""


@dataclass(frozen=True, eq=False)
class PredictionColumns:
    """D detections by the data set's own ids.

    Attributes:
        image_id, category_id: [D] int64.
        scores: [D] float64.
        boxes: [D, 4] x, y, width, height, float64, or None.
        masks: D masks, or None.
    """

    image_id: np.ndarray
    category_id: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray | None
    masks: PackedMasks | None = None

    def __len__(self) -> int:
        return len(self.image_id)

    def rows(self) -> Iterator[Row]:
        """Yield the detections as COCO's results format has them."""
        for start in range(0, len(self), BLOCK):
            some = slice(start, start + BLOCK)
            columns: dict[str, list[object]] = {
                "image_id": self.image_id[some].tolist(),
                "category_id": self.category_id[some].tolist(),
            }
            if self.boxes is not None:
                columns["bbox"] = self.boxes[some].tolist()
            columns["score"] = self.scores[some].tolist()
            if self.masks is not None:
                columns["segmentation"] = [self._mask(row) for row in range(len(self))[some]]
            for values in zip(*columns.values(), strict=True):
                yield dict(zip(columns, values, strict=True))

    def _mask(self, row: int) -> Row:
        assert self.masks is not None
        rle = self.masks.rle(row)
        return {"size": rle["size"], "counts": rle["counts"].decode("ascii")}  # type: ignore[attr-defined]


def holds_columns(path: Path) -> bool:
    """Whether a file begins as an archive does, whatever its name; a missing file does not."""
    try:
        with open(path, "rb") as file:
            return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")  # the second is an empty archive
    except OSError:
        return False


def open_columns(path: Path) -> PredictionColumns:
    """Open a file of columns; the text of the masks is mapped, so that it takes no memory of the process's own.

    Raises ``UserError``, one line, for a file that is damaged, cut off or of another kind, and for numbers that
    are not finite.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            names = set(file.files)
            columns = {name: file[name] for name in names & (LAYOUT.keys() - {"counts"})}
        if "counts" in names:
            columns["counts"] = _mapped(path, "counts.npy")
    except UNREADABLE as error:
        raise UserError(f"{path}: damaged or cut off: {' '.join(str(error).split())}") from None
    _require_layout(path, columns)
    masks = None
    if "counts" in columns:
        masks = PackedMasks(columns["counts"], ends(columns["length"]), columns["size"])
    found = PredictionColumns(
        columns["image_id"], columns["category_id"], columns["score"], columns.get("bbox"), masks
    )
    _require_finite(path, found)
    return found


def save_columns(columns: PredictionColumns, path: Path) -> None:
    """Write a file of columns by one rename."""
    arrays = {"image_id": columns.image_id, "category_id": columns.category_id, "score": columns.scores}
    if columns.boxes is not None:
        arrays["bbox"] = columns.boxes
    if columns.masks is not None:
        lengths = np.diff(columns.masks.ends)
        arrays |= {"size": columns.masks.sizes, "length": lengths, "counts": columns.masks.text}
    typed = {name: np.ascontiguousarray(array, LAYOUT[name][0]) for name, array in arrays.items()}
    partial = path.with_name(f"{path.name}.part")
    try:
        with partial.open("wb") as file:
            np.savez(file, **typed)  # type: ignore[arg-type]
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def join_columns(sources: Mapping[str, Sequence[Path]], path: Path) -> None:
    """Write a file of columns by one rename, each the bytes of its source files one after the other."""
    partial = path.with_name(f"{path.name}.part")
    try:
        with zipfile.ZipFile(partial, "w") as archive:
            for name, files in sources.items():
                kind, width = LAYOUT[name]
                total = sum(file.stat().st_size for file in files) // np.dtype(kind).itemsize
                shape = (total,) if width is None else (total // width, width)
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    header = {"descr": kind, "fortran_order": False, "shape": shape}
                    npy.write_array_header_1_0(member, header)  # type: ignore[arg-type]
                    for each in files:
                        with each.open("rb") as file:
                            shutil.copyfileobj(file, member)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _mapped(path: Path, name: str) -> np.ndarray:
    """Map an uncompressed array inside of an archive."""
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo(name)
    if entry.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed; expected what numpy.savez writes")
    with open(path, "rb") as file:
        file.seek(entry.header_offset + 26)  # of the lengths of two fields after the header's fixed 30 bytes
        file.seek(sum(struct.unpack("<HH", file.read(4))), os.SEEK_CUR)
        npy.read_magic(file)
        shape, _, kind = npy.read_array_header_1_0(file)
        if not np.prod(shape):
            return np.zeros(shape, kind)
        return np.asarray(np.memmap(file, kind, "r", file.tell(), shape))


def _require_layout(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Raise ``UserError`` unless the columns are those of `LAYOUT` and belong together."""
    expected = set(ALWAYS) | (BOXES.keys() & columns.keys())
    if MASKS.keys() & columns.keys() or not BOXES.keys() & columns.keys():
        expected |= set(MASKS)
    if missing := sorted(expected - columns.keys()):
        raise UserError(f"{path}: not a file of predictions, it has no column '{missing[0]}'")
    rows = len(columns["image_id"]) if columns["image_id"].ndim else 0
    for name in sorted(expected):
        kind, width = LAYOUT[name]
        own = columns["length"].sum() if name == "counts" else rows
        shape = (own,) if width is None else (own, width)
        found = columns[name]
        if found.dtype != np.dtype(kind) or found.shape != shape:
            raise UserError(f"{path}: column '{name}' is {found.dtype} {found.shape}, expected {kind} {shape}")
    if "length" in expected and (columns["length"] < 0).any():
        raise UserError(f"{path}: column 'length' holds a negative number")


def _require_finite(path: Path, columns: PredictionColumns) -> None:
    records = Records(path, "predictions", [])
    if (bad := np.flatnonzero(~np.isfinite(columns.scores))).size:
        raise records.error(int(bad[0]), f"'score' must be a finite number, got {columns.scores[bad[0]]}")
    if columns.boxes is not None and (bad := np.flatnonzero(~np.isfinite(columns.boxes).all(axis=1))).size:
        raise records.error(int(bad[0]), f"'bbox' must be 4 finite numbers, got {columns.boxes[bad[0]].tolist()}")
