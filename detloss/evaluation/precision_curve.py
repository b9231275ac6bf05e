"""AP as VOC defines it, of every class at one IoU threshold (Everingham et al., IJCV 2010; no torch here)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

ELEVEN = 0.1 * np.arange(11)
"""As the tools have them, not rounded: three are a little more than 0.3, 0.6 and 0.7, which recall 3/10 is not."""

Summary = Callable[[np.ndarray, np.ndarray], float]
"""From precision and recall after each detection, [K] each, to AP."""


@dataclass(frozen=True, eq=False)
class Judged:
    """K detections that count, by category, the best first.

    Attributes:
        category: [K], ascending.
        credit: [K], of a hit its weight, mostly 1, and 0 of a mistake.
        objects: [C], the weight of all that there is to find.
    """

    category: np.ndarray
    credit: np.ndarray
    objects: np.ndarray

    def values(self, summary: Summary) -> dict[str, list[float | None]]:
        """Return AP and recall of every class, None where there is nothing to find."""
        bounds = np.searchsorted(self.category, np.arange(len(self.objects) + 1))
        values: dict[str, list[float | None]] = {"AP": [], "AR": []}
        for index, objects in enumerate(self.objects.tolist()):
            credit = self.credit[bounds[index] : bounds[index + 1]]
            true, false = credit.cumsum(), (credit == 0).cumsum()
            recall = true / objects if objects else true
            values["AP"].append(summary(true / (true + false), recall) if objects else None)
            values["AR"].append(float(recall[-1] if len(recall) else 0) if objects else None)
        return values


def area_under_envelope(precision: np.ndarray, recall: np.ndarray) -> float:
    """Return the area under the best precision at each recall or any higher one (VOCap.m since VOC 2010)."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((envelope * np.diff(recall, prepend=0)).sum())


def mean_at_eleven_recalls(precision: np.ndarray, recall: np.ndarray) -> float:
    """Return the mean over recalls 0, 0.1, ..., 1 of the best precision there or at any higher (VOC 2007)."""
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0)
    return float(envelope[np.searchsorted(recall, ELEVEN)].mean())
