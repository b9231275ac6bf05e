"""Which detection finds which object: the official tools' greedy rule for all images at once (no torch here)."""

import numpy as np

from detloss.evaluation.overlaps import Overlaps, spans

NOTHING = -1


def match(
    overlaps: Overlaps, pair: np.ndarray, crowd: np.ndarray, ignored: np.ndarray, thresholds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Let detections take objects, the best first, at every IoU threshold and for every area range.

    A detection takes, of the objects left that it overlaps enough, the one with the largest IoU, the last of
    equals; one to be ignored only where no other is left. A crowd is never used up.

    Args:
        overlaps: E overlaps of D detections, which are in the order of their scores within each pair.
        pair: [D], which image and category a detection is of.
        crowd: [G] bool.
        ignored: [A, G] bool, by area range.
        thresholds: [T].

    Returns:
        The M detections that overlap anything, ascending, and by area range and threshold which of the
        overlaps each has chosen, [A, T, M] int32, `NOTHING` where it found no object.
    """
    starts = np.flatnonzero(np.diff(overlaps.detection, prepend=-1))
    detections = overlaps.detection[starts]
    counts = np.diff(starts, append=len(overlaps.iou))
    preference = np.empty(len(overlaps.iou), dtype=np.int32)
    by_preference = np.lexsort((overlaps.object, overlaps.iou)).astype(np.int32)
    preference[by_preference] = np.arange(len(preference))

    taken = np.zeros((len(crowd), len(ignored), len(thresholds)), dtype=bool)
    chosen = np.full((len(detections), len(ignored), len(thresholds)), NOTHING, dtype=np.int32)
    for members in _rounds(pair[detections]):
        entries = spans(starts[members], counts[members])
        objects = overlaps.object[entries]
        fits = (overlaps.iou[entries, None] >= thresholds)[:, None, :] & (
            ~taken[objects] | crowd[objects, None, None]
        )
        # One number that is larger the more an overlap is wanted: first what counts, then the preference.
        wanted = preference[entries, None] + len(preference) * ~ignored.T[objects]
        wanted = np.where(fits, wanted[:, :, None], NOTHING)
        first = np.concatenate([[0], counts[members].cumsum()[:-1]])
        best = np.maximum.reduceat(wanted, first, axis=0)
        found = best != NOTHING
        choice = np.where(found, by_preference[best % len(preference)], NOTHING)
        chosen[members] = choice
        _, area, threshold = np.nonzero(found)
        taken[overlaps.object[choice[found]], area, threshold] = True
    return detections, np.ascontiguousarray(chosen.transpose(1, 2, 0))


def _rounds(pair: np.ndarray) -> list[np.ndarray]:
    """Return positions in ``pair`` [M]: the first of every pair, then the second of those that have one, ..."""
    if not len(pair):
        return []
    order = np.argsort(pair, kind="stable")
    first = np.flatnonzero(np.diff(pair[order], prepend=-1))
    turn = np.empty(len(pair), dtype=np.int64)
    turn[order] = np.arange(len(pair)) - np.repeat(first, np.diff(first, append=len(pair)))
    return np.split(np.argsort(turn, kind="stable"), np.bincount(turn).cumsum()[:-1])
