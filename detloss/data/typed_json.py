"""Read a large annotation file in chunks, typed, so that little more than columns of numbers is ever held.

A file of a gigabyte is mostly polygons, which are skipped unless somebody asks for them. Its list of annotations
is cut where one record seems to end and the next to begin, and a cut is proved by parsing what lies before it.
Whatever surprises, be it legal JSON written in another way or a wrong value, makes `read_typed` give up: who asked
then reads the file as a whole, slowly, and says what is wrong with it (no torch here).
"""

import os
import pickle
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import msgspec
import numpy as np

from detloss.data.polygons import Polygons

CHUNK = 1 << 21
"""Bytes parsed at once; a record longer than this is a surprise."""

WORTH_A_PROCESS = 1 << 26
"""Bytes of file from which on a second process reads half of it."""

START = re.compile(rb'"annotations"\s*:\s*\[')
BETWEEN = re.compile(rb"\}\s*,\s*\{")
END = re.compile(rb"\}\s*\]")

Row = dict[str, object]


class _Annotation(msgspec.Struct, gc=False):
    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    iscrowd: int = 0


class _RunLengths(msgspec.Struct, gc=False):
    size: list[int]
    counts: str | list[int]


class _WithSegmentation(_Annotation, gc=False):
    segmentation: list[list[float]] | _RunLengths | None = None


class _Image(msgspec.Struct, gc=False):
    """Image and category records become plain dicts, since there are few and their readers say what is missing."""

    id: int
    height: int
    width: int
    file_name: str | None = None
    coco_url: str | None = None


class _Category(msgspec.Struct, gc=False):
    id: int
    name: str
    frequency: str | None = None
    instance_count: int | None = None


class _Rest(msgspec.Struct):
    images: list[_Image]
    categories: list[_Category]
    annotations: list[msgspec.Raw]


class _Surprise(Exception):
    """The file is not laid out as expected, which does not make it wrong."""


@dataclass(frozen=True, eq=False)
class Columns:
    """The annotations of a file in its order: ids and iscrowd [A] int64, boxes [A, 4] float64 as they stand.

    Where segmentations are asked for, ``polygons`` holds those of every record, none for one with run lengths;
    these are in ``run_lengths`` by record, as the file has them.
    """

    id: np.ndarray
    image_id: np.ndarray
    category_id: np.ndarray
    iscrowd: np.ndarray
    bbox: np.ndarray
    polygons: Polygons | None = None
    run_lengths: dict[int, Row] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Sequence[_Annotation]) -> "Columns":
        def integers(values: list[int]) -> np.ndarray:
            return np.fromiter(values, dtype=np.int64, count=len(rows))

        bbox = np.fromiter(chain.from_iterable([row.bbox for row in rows]), dtype=np.float64, count=4 * len(rows))
        return cls(
            integers([row.id for row in rows]),
            integers([row.image_id for row in rows]),
            integers([row.category_id for row in rows]),
            integers([row.iscrowd for row in rows]),
            bbox.reshape(-1, 4),
        )

    @classmethod
    def with_segmentations(cls, rows: Sequence[_WithSegmentation]) -> "Columns":
        segmentations = [row.segmentation for row in rows]
        polygons = Polygons.of([each if isinstance(each, list) else [] for each in segmentations])
        if (polygons.lengths < 6).any() or (polygons.lengths % 2).any():
            raise _Surprise
        run_lengths: dict[int, Row] = {
            record: {"size": each.size, "counts": each.counts}
            for record, each in enumerate(segmentations)
            if isinstance(each, _RunLengths)
        }
        return replace(cls.of(rows), polygons=polygons, run_lengths=run_lengths)

    @classmethod
    def joined(cls, parts: Sequence["Columns"]) -> "Columns":
        def column(name: str) -> np.ndarray:
            return np.concatenate([getattr(part, name) for part in parts])

        polygons = [part.polygons for part in parts if part.polygons is not None]
        run_lengths: dict[int, Row] = {}
        start = 0
        for part in parts:
            run_lengths.update({start + record: row for record, row in part.run_lengths.items()})
            start += len(part.id)
        return cls(
            column("id"),
            column("image_id"),
            column("category_id"),
            column("iscrowd"),
            column("bbox"),
            Polygons.joined(polygons) if polygons else None,
            run_lengths,
        )


@dataclass(frozen=True, eq=False)
class TypedFile:
    """The records of a file; images and categories as dicts of what detloss reads of them."""

    images: list[Row]
    categories: list[Row]
    annotations: Columns


def read_typed(path: Path, *, masks: bool = False) -> TypedFile | None:
    """Return what a COCO- or LVIS-format file holds, segmentations if asked, or None for one to be read whole."""
    try:
        with open(path, "rb", buffering=0) as file:
            return _read(path, file.fileno(), os.fstat(file.fileno()).st_size, masks)
    except (OSError, _Surprise, msgspec.MsgspecError, OverflowError, ValueError):
        return None


def _read(path: Path, file: int, size: int, masks: bool) -> TypedFile:
    start = _array_start(file)
    middle = _record_near(file, start + (size - start) // 2) if size >= WORTH_A_PROCESS else None
    if middle is None:
        first, end = _columns(file, start, masks)
        parts = [first]
    else:
        with _other_process(path, middle, masks) as process:
            try:
                first, _ = _columns(file, start, masks, middle)
                output, _ = process.communicate()
            finally:
                process.kill()
        if process.returncode:
            raise _Surprise
        second, end = pickle.loads(output)
        del output
        parts = [first, _unpacked(second)]
    images, categories = _around(file, start, end, size)
    annotations = Columns.joined(parts)
    if not np.isfinite(annotations.bbox).all():
        raise _Surprise
    return TypedFile(images, categories, annotations)


def _around(file: int, start: int, end: int, size: int) -> tuple[list[Row], list[Row]]:
    """Return images and categories, from the file without what stands in its list of annotations."""
    rest = bytearray(start + 1 + size - end)
    view = memoryview(rest)
    os.preadv(file, [view[:start]], 0)
    rest[start] = ord("]")
    os.preadv(file, [view[start + 1 :]], end)
    if rest.count(b'"annotations"') != 1:
        raise _Surprise  # which of them counts?
    decoded = msgspec.json.decode(rest, type=_Rest)
    if decoded.annotations:
        raise _Surprise  # the list that was read belongs to something else
    return [_present(row) for row in decoded.images], [_present(row) for row in decoded.categories]


def _array_start(file: int) -> int:
    """Return where the list of annotations begins, behind its bracket."""
    position, overlap = 0, 64
    while block := os.pread(file, CHUNK, position):
        if found := START.search(block):
            return position + found.end()
        if len(block) <= overlap:
            break
        position += len(block) - overlap
    raise _Surprise


def _record_near(file: int, position: int) -> int | None:
    """Return where a record seems to begin, soon after ``position``."""
    found = BETWEEN.search(os.pread(file, CHUNK, position))
    return None if found is None else position + found.end() - 1


def _columns(file: int, position: int, masks: bool, stop: int | None = None) -> tuple[Columns, int]:
    """Return the records from ``position`` to the end of their list, or to ``stop``, and where that end is."""
    plain = msgspec.json.Decoder(list[_Annotation])
    full = msgspec.json.Decoder(list[_WithSegmentation])
    parts: list[Columns] = []

    def parse(text: bytes) -> None:
        whole = b"[" + text + b"]"
        parts.append(Columns.with_segmentations(full.decode(whole)) if masks else Columns.of(plain.decode(whole)))

    while position != stop:
        block = os.pread(file, CHUNK if stop is None else min(CHUNK, stop - position), position)
        if not parts and block.lstrip().startswith(b"]"):
            empty = Columns.with_segmentations([]) if masks else Columns.of([])
            return empty, position + block.index(b"]") + 1
        if stop is not None and position + len(block) == stop:
            parse(block.rstrip().removesuffix(b","))
            break
        cut = _last_cut(block)
        try:
            if cut is None:
                raise msgspec.DecodeError
            parse(block[: cut[0]])
            position += cut[1]
        except msgspec.DecodeError:
            # The list ends in this block, or it is none that is understood here.
            if (end := END.search(block)) is None or stop is not None:
                raise _Surprise from None
            parse(block[: end.start() + 1])
            return Columns.joined(parts), position + end.end()
    return Columns.joined(parts), position


def _last_cut(block: bytes) -> tuple[int, int] | None:
    """Return where the last record that seems complete ends and where the next one begins."""
    for between in (b"}, {", b"},{"):
        if (found := block.rfind(between)) >= 0:
            return found + 1, found + len(between) - 1
    last = None
    for match in BETWEEN.finditer(block):
        last = match.start() + 1, match.end() - 1
    return last


def _other_process(path: Path, position: int, masks: bool) -> "subprocess.Popen[bytes]":
    words = [sys.executable, "-m", __name__, str(path), str(position), str(int(masks))]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def _present(row: msgspec.Struct) -> Row:
    return {name: value for name, value in msgspec.structs.asdict(row).items() if value is not None}


Packed = tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...] | None, dict[int, Row]]
"""Columns as plain arrays, since this module has another name in the process that sends them."""


def _packed(columns: Columns) -> Packed:
    polygons = columns.polygons
    return (
        (columns.id, columns.image_id, columns.category_id, columns.iscrowd, columns.bbox),
        None if polygons is None else (polygons.coordinates, polygons.lengths, polygons.counts),
        columns.run_lengths,
    )


def _unpacked(packed: Packed) -> Columns:
    (ids, image_ids, category_ids, iscrowd, bbox), polygons, run_lengths = packed
    of_polygons = None if polygons is None else Polygons(*polygons)
    return Columns(ids, image_ids, category_ids, iscrowd, bbox, of_polygons, run_lengths)


def _main(path: str, position: str, masks: str) -> None:
    """Write the records from ``position`` on to the standard output, for the process that reads those before."""
    with open(path, "rb", buffering=0) as file:
        columns, end = _columns(file.fileno(), int(position), masks == "1")
    sys.stdout.buffer.write(pickle.dumps((_packed(columns), end), protocol=5))


if __name__ == "__main__":
    _main(*sys.argv[1:])
