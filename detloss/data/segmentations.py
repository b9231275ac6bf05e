"""Segmentations of many annotations in a few flat arrays, which worker processes share instead of copying."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from pycocotools import mask as coco_mask

from detloss.data.polygons import LARGEST_COORDINATE, STEPS_PER_PIXEL, Polygons, ends
from detloss.data.records import ColumnRecords, Records
from detloss.data.run_lengths import total_run_lengths
from detloss.data.typed_records import Columns


@dataclass(frozen=True, eq=False)
class Segmentations:
    """Polygons or run lengths of A annotations; an annotation may also have none.

    Annotation a is the record ``r = rows[a]``. It owns the polygons ``polygons_of[r]:polygons_of[r + 1]``,
    polygon p the values ``coordinates_of[p]:coordinates_of[p + 1]`` of ``coordinates`` (x, y alternating), and
    record r the bytes ``runs_of[r]:runs_of[r + 1]`` of ``runs`` (COCO's compressed run lengths).
    """

    rows: np.ndarray
    coordinates: np.ndarray
    coordinates_of: np.ndarray
    polygons_of: np.ndarray
    runs: np.ndarray
    runs_of: np.ndarray

    def missing(self) -> np.ndarray:
        """Return [A] bool: which annotations have no segmentation."""
        return ((np.diff(self.polygons_of) == 0) & (np.diff(self.runs_of) == 0))[self.rows]

    def polygons(self, annotation: int) -> list[np.ndarray]:
        """Return the polygons, x and y alternating in pixels; none of an annotation with run lengths."""
        record = int(self.rows[annotation])
        first, last = self.polygons_of[record : record + 2]
        corners = self.coordinates_of[first : last + 1].tolist()
        return [self.coordinates[start:stop] / STEPS_PER_PIXEL for start, stop in pairwise(corners)]

    def mask(self, annotation: int, height: int, width: int) -> np.ndarray:
        """Return the [H, W] uint8 mask, drawn by pycocotools."""
        polygons = self.polygons(annotation)
        if polygons:
            encoded = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
        else:
            record = int(self.rows[annotation])
            start, stop = self.runs_of[record : record + 2]
            encoded = {"size": [height, width], "counts": self.runs[start:stop].tobytes()}
        return coco_mask.decode(encoded)


def pack_segmentations(
    records: Records, rows: np.ndarray, heights: np.ndarray, widths: np.ndarray
) -> Segmentations:
    """Pack the "segmentation" of the records ``rows`` [A], on images of ``heights`` and ``widths`` [A].

    Raises ``UserError`` that names the record for anything but polygons of three points or more, or run
    lengths that fill the image exactly.
    """
    polygons: list[list[list[float]]] = []
    runs: list[bytes] = []
    for record, height, width in zip(rows.tolist(), heights.tolist(), widths.tolist(), strict=True):
        segmentation = records.rows[record].get("segmentation")
        encoded = _encoded(segmentation, height, width)
        if isinstance(encoded, str):
            raise records.error(record, encoded)
        polygons.append(segmentation if isinstance(segmentation, list) else [])
        runs.append(encoded)
    return _packed(np.arange(len(rows)), Polygons.of(polygons), runs)


def pack_columns(
    records: ColumnRecords, rows: np.ndarray, heights: np.ndarray, widths: np.ndarray
) -> Segmentations:
    """Do the same with segmentations that were read as columns, of which those of other records stay unused."""
    columns = records.columns
    assert isinstance(columns, Columns) and columns.polygons is not None
    polygons, run_lengths = columns.polygons, columns.run_lengths
    runs, place = [b""] * len(polygons.counts), np.full(len(polygons.counts), -1)
    place[rows] = np.arange(len(rows))
    for record, segmentation in run_lengths.items():
        if (row := place[record]) < 0:
            continue
        encoded = _run_lengths(segmentation, int(heights[row]), int(widths[row]))
        if isinstance(encoded, str):
            raise records.error(record, encoded)
        runs[record] = encoded
    return _packed(rows, polygons, runs)


def segmentation_problem(segmentation: object, height: int, width: int) -> str | None:
    """Return what is wrong with a segmentation on an image of that size, None where nothing is."""
    encoded = _encoded(segmentation, height, width)
    return encoded if isinstance(encoded, str) else None


def _encoded(segmentation: object, height: int, width: int) -> bytes | str:
    """Return compressed run lengths, nothing for polygons and for None, or what is wrong."""
    if isinstance(segmentation, dict):
        return _run_lengths(segmentation, height, width)
    if isinstance(segmentation, list):
        return _polygon_problem(segmentation) or b""
    if segmentation is not None:
        return f"segmentation must be polygons or run lengths, got {type(segmentation).__name__}"
    return b""


def _packed(rows: np.ndarray, polygons: Polygons, runs: list[bytes]) -> Segmentations:
    return Segmentations(
        rows=rows,
        coordinates=polygons.coordinates,
        coordinates_of=ends(polygons.lengths),
        polygons_of=ends(polygons.counts),
        runs=np.frombuffer(b"".join(runs), dtype=np.uint8),
        runs_of=ends(np.fromiter(map(len, runs), dtype=np.int64, count=len(runs))),
    )


def _polygon_problem(polygons: list[object]) -> str | None:
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            return "a polygon must be a list x1, y1, x2, y2, x3, y3, ... of three points or more"
        try:
            # A NaN escapes max and min, but not the sum, which then differs from itself.
            inside = max(polygon) <= LARGEST_COORDINATE and min(polygon) >= -LARGEST_COORDINATE
            inside = inside and sum(polygon) == sum(polygon)
        except TypeError:
            return "a polygon must hold numbers only"
        if not inside:
            return f"a polygon's coordinates must be finite and within {LARGEST_COORDINATE:.0f} pixels"
    return None


def _run_lengths(segmentation: dict[str, object], height: int, width: int) -> bytes | str:
    """Return COCO's compressed run lengths, or what is wrong with them."""
    counts, size = segmentation.get("counts"), segmentation.get("size")
    if size != [height, width]:
        return f"run lengths are of size {size}, the image is [{height}, {width}] (height, width)"
    if isinstance(counts, list):
        if not all(type(count) is int and count >= 0 for count in counts) or sum(counts) != height * width:
            return f"run lengths must be integers >= 0 that sum up to {height} x {width} pixels"
        return bytes(coco_mask.frPyObjects({"counts": counts, "size": size}, height, width)["counts"])
    if not isinstance(counts, str) or not counts.isascii():
        return "run lengths need 'counts', a list of integers or a compressed text"
    # pycocotools leaves pixels beyond the last run uninitialised, hence the check of the total.
    text = np.frombuffer(counts.encode(), dtype=np.uint8)
    if total_run_lengths(text, np.array([0, len(text)])) != height * width:
        return f"compressed run lengths are damaged: they do not fill {height} x {width} pixels"
    return counts.encode()
