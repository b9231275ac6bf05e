"""Masks of many objects or detections as COCO's compressed run lengths in one array (no torch here)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco_mask

from detloss.data.polygons import ends

BLOCK = 1 << 18
"""Characters that are taken apart at once, few enough for a processor's cache."""

LONGEST = 7
"""Characters of a run: 7 x 5 bits hold any count of 32 bits."""


@dataclass(frozen=True, eq=False)
class PackedMasks:
    """N masks, n the bytes ``ends[n]:ends[n + 1]`` of ``text``, on images of ``sizes[n]`` (height, width)."""

    text: np.ndarray
    ends: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, counts: Sequence[bytes], sizes: np.ndarray) -> "PackedMasks":
        lengths = np.fromiter(map(len, counts), dtype=np.int64, count=len(counts))
        return cls(np.frombuffer(b"".join(counts), dtype=np.uint8), ends(lengths), sizes)

    def __len__(self) -> int:
        return len(self.sizes)

    def rle(self, number: int) -> dict[str, object]:
        """Return one mask as `pycocotools.mask` wants it."""
        start, stop = self.ends[number : number + 2]
        return {"size": self.sizes[number].tolist(), "counts": self.text[start:stop].tobytes()}

    def damaged(self) -> np.ndarray:
        """Return [N] bool: which masks' runs do not fill their image exactly.

        pycocotools does not check: pixels beyond the last run stay uninitialised, and some texts keep it busy
        for ever.
        """
        pixels = self.sizes.prod(axis=1, dtype=np.int64)
        bounds = np.searchsorted(self.ends, np.arange(0, self.ends[-1], BLOCK), side="right") - 1
        starts = np.unique(np.append(bounds, 0))
        damaged = np.zeros(len(self), dtype=bool)
        for start, stop in zip(starts, np.append(starts[1:], len(self)), strict=True):
            own = self.ends[start : stop + 1]
            text = self.text[own[0] : own[-1]]
            damaged[start:stop] = total_run_lengths(text, own - own[0]) != pixels[start:stop]
        return damaged


class Packing:
    """Collects masks bit by bit, at no more memory than they take in the end."""

    def __init__(self) -> None:
        self._text = bytearray()
        self._lengths: list[np.ndarray] = []
        self._sizes: list[np.ndarray] = []

    def add(self, counts: Sequence[bytes], sizes: np.ndarray) -> None:
        self._lengths.append(np.fromiter(map(len, counts), dtype=np.int64, count=len(counts)))
        self._sizes.append(sizes)
        self._text += b"".join(counts)

    def packed(self) -> PackedMasks:
        text = np.frombuffer(self._text, dtype=np.uint8)
        return PackedMasks(text, ends(np.concatenate(self._lengths)), np.concatenate(self._sizes))


def compressed(segmentation: object, height: int, width: int) -> bytes:
    """Return a well-formed COCO segmentation, polygons or run lengths, as compressed run lengths."""
    if isinstance(segmentation, dict) and isinstance(segmentation["counts"], str):
        return segmentation["counts"].encode("ascii")
    encoded = coco_mask.frPyObjects(segmentation, height, width)
    whole = coco_mask.merge(encoded) if isinstance(encoded, list) else encoded
    return bytes(whole["counts"])


def total_run_lengths(text: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return the pixels that each of N compressed run lengths covers, [N], -1 for a malformed one.

    Source: rleFrString in COCO's maskApi.c: 5 bits a character above 48, bit 6 = more follows, the sign in
    the last one's bit 5; from the fourth run on, each value is the difference to the run two before.
    """
    lengths = np.diff(ends)
    characters = text - np.uint8(48)  # those below 48 become large
    strange = np.searchsorted(ends, np.flatnonzero(characters > 63), side="right") - 1
    readable = lengths > 0
    readable[strange] = False
    readable[readable] = characters[ends[1:][readable] - 1] < 32  # the last run ends where the text does
    totals = np.full(len(lengths), -1)
    if readable.any():
        characters = characters[np.repeat(readable, lengths)]
        totals[readable] = _totals(*_differences(characters, lengths[readable].cumsum()))
    return totals


def _differences(characters: np.ndarray, stops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of N well-formed texts that end at ``stops``, and where each text's values begin, [N]."""
    last = np.flatnonzero(characters < 32)
    first = np.concatenate([[0], last[:-1] + 1])
    lengths = last - first + 1
    values = (characters[first] & 31).astype(np.int64)
    for place in range(1, LONGEST + 1):
        longer = np.flatnonzero(lengths > place)
        values[longer] |= (characters[first[longer] + place] & np.int64(31)) << 5 * place
    negative = np.flatnonzero(characters[last] & 16)
    values[negative] -= 1 << 5 * np.minimum(lengths[negative], LONGEST)
    values[lengths > LONGEST] = -1 << 5 * LONGEST  # negative even where it follows any other run
    return values, np.searchsorted(last, np.concatenate([[0], stops[:-1]]))


def _totals(values: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return the sums [N] of the runs whose values, from ``first`` [N] on, are given, -1 with a negative run."""
    counts = np.diff(first, append=len(values))
    # Every text begins in an even place, so that its odd and its even runs are a column each.
    padded = counts + counts % 2
    begin = padded.cumsum() - padded
    place = np.repeat(begin - first, counts) + np.arange(len(values))
    columns = np.zeros(padded.sum(), dtype=np.int64)
    columns[place] = values
    columns[begin] = 0  # the first run stands alone
    sums = columns.reshape(-1, 2).cumsum(axis=0)
    before = np.concatenate([np.zeros((1, 2), dtype=np.int64), sums])[begin // 2]
    runs = (sums - np.repeat(before, padded // 2, axis=0)).ravel()[place]
    runs[first] = values[first]
    return np.where(np.minimum.reduceat(runs, first) < 0, -1, np.add.reduceat(runs, first))
