"""Masks of many objects or detections as COCO's compressed run lengths in one array (no torch here)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco_mask

from detloss.data.polygons import ends
from detloss.data.run_lengths import total_run_lengths

BLOCK = 1 << 18
"""Characters that are taken apart at once, few enough for a processor's cache."""


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
