"""Segmentations of many annotations in a few flat arrays, which worker processes share instead of copying."""

from array import array
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np
from pycocotools import mask as coco_mask

from detloss.data.records import Records

# Polygons are kept as int32 in thousandths of a pixel: COCO and LVIS write two decimals, which k / 1000
# gives back as the very float64 that the JSON text stands for, at half the memory.
STEPS_PER_PIXEL = 1000
LARGEST_COORDINATE = 2**31 / STEPS_PER_PIXEL - 1


@dataclass(frozen=True, eq=False)
class Segmentations:
    """Polygons or run lengths of A annotations; an annotation may also have none.

    Annotation a owns the polygons ``polygons_of[a]:polygons_of[a + 1]``, polygon p the values
    ``coordinates_of[p]:coordinates_of[p + 1]`` of ``coordinates`` (x, y alternating), and annotation a the
    bytes ``runs_of[a]:runs_of[a + 1]`` of ``runs`` (COCO's compressed run lengths).
    """

    coordinates: np.ndarray
    coordinates_of: np.ndarray
    polygons_of: np.ndarray
    runs: np.ndarray
    runs_of: np.ndarray

    def missing(self) -> np.ndarray:
        """Return [A] bool: which annotations have no segmentation."""
        return (np.diff(self.polygons_of) == 0) & (np.diff(self.runs_of) == 0)

    def mask(self, annotation: int, height: int, width: int) -> np.ndarray:
        """Return the [H, W] uint8 mask, drawn by pycocotools."""
        first, last = self.polygons_of[annotation : annotation + 2]
        if first < last:
            corners = self.coordinates_of[first : last + 1]
            polygons = [self.coordinates[start:stop] / STEPS_PER_PIXEL for start, stop in pairwise(corners)]
            encoded = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
        else:
            start, stop = self.runs_of[annotation : annotation + 2]
            encoded = {"size": [height, width], "counts": self.runs[start:stop].tobytes()}
        return coco_mask.decode(encoded)


def pack_segmentations(
    records: Records, rows: np.ndarray, heights: np.ndarray, widths: np.ndarray
) -> Segmentations:
    """Pack the "segmentation" of the records ``rows`` [A], on images of ``heights`` and ``widths`` [A].

    Raises ``UserError`` that names the record for anything but polygons of three points or more, or run
    lengths that fill the image exactly.
    """
    polygons: list[list[float]] = []
    polygons_of, runs_of = array("q", [0]), array("q", [0])
    runs = bytearray()
    for record, height, width in zip(rows.tolist(), heights.tolist(), widths.tolist(), strict=True):
        segmentation = records.rows[record].get("segmentation")
        problem = None
        if isinstance(segmentation, dict):
            encoded = _run_lengths(segmentation, height, width)
            if isinstance(encoded, bytes):
                runs += encoded
            else:
                problem = encoded
        elif isinstance(segmentation, list):
            problem = _polygon_problem(segmentation)
            polygons += segmentation
        elif segmentation is not None:
            problem = f"segmentation must be polygons or run lengths, got {type(segmentation).__name__}"
        if problem:
            raise records.error(record, problem)
        polygons_of.append(len(polygons))
        runs_of.append(len(runs))
    lengths = np.array([len(polygon) for polygon in polygons], dtype=np.int64)
    flat = np.fromiter(chain.from_iterable(polygons), dtype=np.float64, count=int(lengths.sum()))
    return Segmentations(
        coordinates=np.rint(flat * STEPS_PER_PIXEL).astype(np.int32),
        coordinates_of=np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)]),
        polygons_of=np.frombuffer(polygons_of, dtype=np.int64),
        runs=np.frombuffer(bytes(runs), dtype=np.uint8),
        runs_of=np.frombuffer(runs_of, dtype=np.int64),
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
    if _total_run_length(counts.encode()) != height * width:
        return f"compressed run lengths are damaged: they do not fill {height} x {width} pixels"
    return counts.encode()


def _total_run_length(counts: bytes) -> int:
    """Return the number of pixels that compressed run lengths cover, or -1 if they are malformed.

    Source: rleFrString in COCO's maskApi.c: 5 bits a character above 48, bit 6 = more follows, the sign in
    the last one's bit 5; from the fourth run on, each value is the difference to the run two before.
    """
    characters = np.frombuffer(counts, dtype=np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(characters & 0x20 == 0)
    if not ends.size or ends[-1] != len(characters) - 1 or characters.min() < 0 or characters.max() > 63:
        return -1
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 7:  # 7 x 5 bits hold any count of 32 bits
        return -1
    shifts = 5 * (np.arange(len(characters)) - np.repeat(starts, lengths))
    values = np.add.reduceat((characters & 0x1F) << shifts, starts)
    values -= np.where(characters[ends] & 0x10, 1 << (5 * lengths), 0)
    runs = np.concatenate([values[:1], np.cumsum(values[1::2]), np.cumsum(values[2::2])])
    return int(runs.sum()) if runs.min() >= 0 else -1
