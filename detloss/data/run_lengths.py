"""COCO's compressed run lengths: how many pixels they cover, of many masks at once (no torch here)."""

import numpy as np

LONGEST = 7
"""Characters of a run: 7 x 5 bits hold any count of 32 bits."""

SINGLE = np.array([bits & 31 if bits & 32 or not bits & 16 else (bits & 31) - 32 for bits in range(64)])
"""What each character stands for in its place: the last of a run has a sign, one before it has none."""


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
