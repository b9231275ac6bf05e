"""COCO's compressed run lengths, one text at a time."""

import numpy as np


def total_run_length(counts: bytes) -> int:
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
