"""Intervals over images and seeds, in worlds whose images and seeds are normal noise of known size."""

import numpy as np
import pytest

from detloss.comparison.sample import Sample
from detloss.evaluation.bootstrap import percentiles

WORLDS, DRAWS, TRUTH, IMAGE_NOISE, SEED_NOISE = 2000, 999, 0.5, 0.01, 0.02


def sample(random: np.random.Generator, seeds: int, images: np.ndarray, moves: np.ndarray) -> Sample:
    """Return a method in each world, [K]: its seeds are its own, images and their draws are given."""
    values = TRUTH + images + random.normal(0, SEED_NOISE, (seeds, WORLDS))
    return Sample.of(values, values[:, None] + moves)


@pytest.mark.parametrize(("seeds", "least", "most"), [(3, 0.94, 0.98), (5, 0.94, 0.98), (2, 0, 0.8)])
def test_seeds_are_covered_from_three_on(seeds: int, least: float, most: float) -> None:
    random = np.random.default_rng(seeds)
    images = random.normal(0, IMAGE_NOISE, WORLDS)
    moves = random.normal(0, IMAGE_NOISE, (DRAWS, WORLDS))
    ours = sample(random, seeds, images, moves)
    low, high = ours.interval(random)
    assert least <= ((low <= TRUTH) & (high >= TRUTH)).mean() <= most

    other = images + random.normal(0, IMAGE_NOISE, WORLDS)  # of another method, in part the same
    theirs = sample(random, seeds, other, moves + random.normal(0, IMAGE_NOISE, (DRAWS, WORLDS)))
    low, high = percentiles(theirs.less(ours, random)[1])
    assert least <= ((low <= 0) & (high >= 0)).mean() <= most
