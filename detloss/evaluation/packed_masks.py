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

SINGLE = np.array([bits & 31 if bits & 32 or not bits & 16 else (bits & 31) - 32 for bits in range(64)])
"""What each character stands for in its place: the last of a run has a sign, one before it has none."""


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

    def rles(self, numbers: np.ndarray) -> list[dict[str, object]]:
        """Return some of the masks as `pycocotools.mask` wants them."""
        text = self.text.data
        columns = self.ends[numbers].tolist(), self.ends[numbers + 1].tolist(), self.sizes[numbers].tolist()
        return [
            {"size": size, "counts": bytes(text[start:stop])} for start, stop, size in zip(*columns, strict=True)
        ]

    def rle(self, number: int) -> dict[str, object]:
        """Return one mask as `pycocotools.mask` wants it."""
        return self.rles(np.array([number]))[0]

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
    if not readable.all():
        characters = characters[np.repeat(readable, lengths)]
    totals = np.full(len(lengths), -1)
    if len(characters):
        totals[readable] = _totals(*_differences(characters, lengths[readable].cumsum()))
    return totals


def _differences(characters: np.ndarray, stops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of N well-formed texts that end at ``stops``, and where each text's values begin, [N]."""
    first = np.concatenate([[0], np.flatnonzero(characters[:-1] < 32) + 1])
    leading = characters[first]
    values = SINGLE[leading]
    longer = np.flatnonzero(leading >= 32)
    for place in range(1, LONGEST):
        following = characters[first[longer] + place]
        values[longer] += SINGLE[following] << 5 * place
        longer = longer[following >= 32]
    values[longer] = -1 << 5 * LONGEST  # more characters than any run has: negative, whatever it follows
    return values, np.searchsorted(first, np.concatenate([[0], stops[:-1]]))


def _totals(values: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return the sums [N] of the runs whose values, from ``first`` [N] on, are given, -1 with a negative run."""
    stops = np.append(first[1:], len(values))
    sums = np.empty_like(values)  # of every second value up to each
    sums[::2], sums[1::2] = values[::2].cumsum(), values[1::2].cumsum()
    # The first run of a text stands alone. The third, fifth, ... are sums without it, and the second, fourth, ...
    # sums without what was before the text.
    alone, before = values[first], np.where(first > 0, sums[first - 1], 0)
    totals, least = alone.copy(), alone.copy()
    for parity in (0, 1):
        start, stop = (first + 1 - parity) // 2, (stops + 1 - parity) // 2
        held = stop > start
        excess = np.where(first % 2 == parity, sums[first], before)[held]
        runs = sums[parity::2]
        totals[held] += np.add.reduceat(runs, start[held]) - (stop - start)[held] * excess
        least[held] = np.minimum(least[held], np.minimum.reduceat(runs, start[held]) - excess)
    return np.where(least < 0, -1, totals)
