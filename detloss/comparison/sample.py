"""A method's numbers and how they vary over draws of images and over seeds (no torch here)."""

from dataclasses import dataclass

import numpy as np

from detloss.evaluation import bootstrap


@dataclass(frozen=True, eq=False)
class Sample:
    """Numbers of a method, [K], and in B draws of images, [B, K]; NaN where there is nothing to measure.

    Attributes:
        deviation: [K], the standard deviation over seeds, None of one seed.
        seeds: [B, K], what another choice of seeds would add in each draw, None of too few seeds to tell.
    """

    values: np.ndarray
    deviation: np.ndarray | None
    draws: np.ndarray
    seeds: np.ndarray | None

    @classmethod
    def of(cls, values: np.ndarray, draws: np.ndarray, generator: np.random.Generator) -> "Sample":
        """Average runs of S seeds, [S, K] and [S, B, K]; ``generator`` draws the noise of seeds."""
        number = len(values)
        deviation = values.std(axis=0, ddof=1) if number > 1 else None
        seeds = None
        if number >= bootstrap.FEWEST_SEEDS:
            noise = np.asarray(generator.standard_t(number - 1, size=draws.shape[1]))
            seeds = bootstrap.seed_noise(values, noise)
        return cls(values.mean(axis=0), deviation, draws.mean(axis=0), seeds)

    def interval(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the ends of 95% intervals, [K] each, over images and, with enough of them, over seeds."""
        return bootstrap.centred(self.values, self.draws if self.seeds is None else self.draws + self.seeds)

    def less(self, other: "Sample") -> tuple[np.ndarray, np.ndarray]:
        """Return how much larger its numbers are, [K] and [B, K], in the same draws of images.

        Seeds count when there are enough of both; their noise is independent.
        """
        draws = self.draws - other.draws
        if self.seeds is not None and other.seeds is not None:
            draws = draws + self.seeds - other.seeds
        return self.values - other.values, draws
