"""Polygons of many annotations in flat arrays of whole numbers (no torch here)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

STEPS_PER_PIXEL = 1000
"""Coordinates are kept as int32 in thousandths of a pixel: COCO and LVIS write two decimals, which k / 1000 gives
back as the very float64 that the JSON text stands for, at half the memory."""

LARGEST_COORDINATE = 2**31 / STEPS_PER_PIXEL - 1


@dataclass(frozen=True, eq=False)
class Polygons:
    """``counts`` [A] polygons of each annotation, ``lengths`` of their values, and the values x, y, x, y, ..."""

    coordinates: np.ndarray
    lengths: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, annotations: Sequence[Sequence[Sequence[float]]]) -> "Polygons":
        """Pack the polygons of each annotation, whose values must be finite and at most `LARGEST_COORDINATE`."""
        counts = np.fromiter(map(len, annotations), dtype=np.int64, count=len(annotations))
        polygons = list(chain.from_iterable(annotations))
        lengths = np.fromiter(map(len, polygons), dtype=np.int64, count=len(polygons))
        flat = np.fromiter(chain.from_iterable(polygons), dtype=np.float64, count=int(lengths.sum()))
        if not (np.abs(flat) <= LARGEST_COORDINATE).all():
            raise ValueError(f"coordinates must be finite and within {LARGEST_COORDINATE:.0f} pixels")
        np.rint(np.multiply(flat, STEPS_PER_PIXEL, out=flat), out=flat)
        return cls(flat.astype(np.int32), lengths, counts)

    @classmethod
    def joined(cls, parts: Sequence["Polygons"]) -> "Polygons":
        return cls(
            np.concatenate([part.coordinates for part in parts]),
            np.concatenate([part.lengths for part in parts]),
            np.concatenate([part.counts for part in parts]),
        )


def ends(counts: np.ndarray) -> np.ndarray:
    """Return where each of consecutive groups ends, with a 0 in front: [N + 1] int64."""
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])
