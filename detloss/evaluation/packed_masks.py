"""Masks of many objects or detections as COCO's compressed run lengths in one array (no torch here)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco_mask

from detloss.data.polygons import ends

BLOCK = 1 << 21
"""Characters that are taken apart at once."""


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

    @classmethod
    def joined(cls, parts: Sequence["PackedMasks"]) -> "PackedMasks":
        lengths = np.concatenate([np.diff(part.ends) for part in parts])
        text = np.concatenate([part.text for part in parts])
        return cls(text, ends(lengths), np.concatenate([part.sizes for part in parts]))

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
        pixels = self.sizes[:, 0] * self.sizes[:, 1]
        bounds = np.searchsorted(self.ends, np.arange(0, self.ends[-1], BLOCK), side="right") - 1
        starts = np.unique(np.append(bounds, 0))
        damaged = np.zeros(len(self), dtype=bool)
        for start, stop in zip(starts, np.append(starts[1:], len(self)), strict=True):
            own = self.ends[start : stop + 1]
            text = self.text[own[0] : own[-1]]
            damaged[start:stop] = total_run_lengths(text, own - own[0]) != pixels[start:stop]
        return damaged


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
    masks = len(ends) - 1
    owner = np.repeat(np.arange(masks), np.diff(ends))
    characters = text.astype(np.int64) - 48
    malformed = np.diff(ends) == 0
    malformed[owner[(characters < 0) | (characters > 63)]] = True
    last = characters & 0x20 == 0  # of its run
    filled = np.flatnonzero(~malformed)
    malformed[filled] |= ~last[ends[filled + 1] - 1]
    usable = ~malformed[owner]
    characters, owner, last = characters[usable], owner[usable], last[usable]

    stops = np.flatnonzero(last)
    starts = np.concatenate([np.zeros(min(1, len(stops)), dtype=np.int64), stops[:-1] + 1])
    lengths = stops - starts + 1
    owners = owner[stops]
    malformed[owners[lengths > 7]] = True  # 7 x 5 bits hold any count of 32 bits
    lengths = np.minimum(lengths, 7)
    shifts = 5 * np.minimum(np.arange(len(characters)) - np.repeat(starts, stops - starts + 1), 7)
    values = (characters & 0x1F) << shifts
    values = np.add.reduceat(values, starts) if len(starts) else values
    values -= np.where(characters[stops] & 0x10, 1 << (5 * lengths), 0)

    totals = np.zeros(masks, dtype=np.int64)
    place = _sums_within(np.ones_like(owners), owners) - 1
    for chosen in (place == 0, place % 2 == 1, (place % 2 == 0) & (place > 0)):
        differences, of = values[chosen], owners[chosen]
        # The first run stands alone; the others are sums of every second value before them.
        runs = _sums_within(differences, of)
        malformed[of[runs < 0]] = True
        np.add.at(totals, of, runs)
    return np.where(malformed, -1, totals)


def _sums_within(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return running sums that start anew with each of the ascending ``groups``."""
    sums = values.cumsum()
    first = np.flatnonzero(np.diff(groups, prepend=-1))
    before = sums[first] - values[first]
    return sums - np.repeat(before, np.diff(first, append=len(groups)))
