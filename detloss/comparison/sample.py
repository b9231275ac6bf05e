"""A method's numbers and how they vary over draws of images and over seeds (no torch here)."""

from dataclasses import dataclass

import numpy as np

from detloss.evaluation import bootstrap


@dataclass(frozen=True, eq=False)
class Sample:
    """K numbers of a method, the means over its seeds; NaN where there is nothing to measure.

    Attributes:
        values: [K], on the set; ``draws`` [B, K], in draws of its images.
        deviation: [K], the standard deviation over seeds, None of one seed.
        seeds: how many there are.
    """

    values: np.ndarray
    draws: np.ndarray
    deviation: np.ndarray | None
    seeds: int

    @classmethod
    def of(cls, values: np.ndarray, draws: np.ndarray) -> "Sample":
        """Average runs of S seeds, [S, K] and [S, B, K]."""
        deviation = values.std(axis=0, ddof=1) if len(values) > 1 else None
        return cls(values.mean(axis=0), draws.mean(axis=0), deviation, len(values))

    def interval(self, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return the ends of 95% intervals, [K] each, over images and, with enough of them, over seeds."""
        return bootstrap.centred(self.values, self.draws + _noise([self], generator))

    def less(self, other: "Sample", generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return how much larger its numbers are, [K] and [B, K], in the same draws of images.

        Other seeds are drawn when there are enough of both; those of two methods have nothing in common.
        """
        draws = self.draws - other.draws + _noise([self, other], generator)
        return self.values - other.values, draws


def _noise(samples: list[Sample], generator: np.random.Generator) -> np.ndarray | float:
    """Return what other seeds would add to a difference, 0 where there are too few of them to tell."""
    errors = [each.deviation / np.sqrt(each.seeds) for each in samples if each.deviation is not None]
    if min(each.seeds for each in samples) < bootstrap.FEWEST_SEEDS:
        return 0.0
    seeds = np.array([each.seeds for each in samples])
    return bootstrap.seed_noise(np.stack(errors), seeds, len(samples[0].draws), generator)
