"""Intervals and p values from draws of images, and of seeds (Efron, Annals of Statistics 1979; no torch here)."""

from collections.abc import Iterator, Sequence

import numpy as np

TAIL = 0.025
"""What an interval of 95% leaves out at each end."""

FEWEST_SEEDS = 3
"""Of fewer seeds the standard deviation says next to nothing: Student's t of one degree of freedom has no mean."""


def image_draws(images: int, draws: int, *, seed: int, at_once: int) -> Iterator[np.ndarray]:
    """Yield how often each image is drawn, [B, I] int32 with B of at most ``at_once``, ``draws`` rows in all.

    A draw is as many images as there are, with replacement. The rows are the same whatever ``at_once`` is.
    """
    generator = np.random.default_rng(seed)
    for first in range(0, draws, at_once):
        number = min(at_once, draws - first)
        weights = np.zeros((number, images), dtype=np.int32)
        for row in weights:
            row += np.bincount(generator.integers(images, size=images), minlength=images).astype(np.int32)
        yield weights


def seed_noise(errors: np.ndarray, seeds: np.ndarray, draws: int, generator: np.random.Generator) -> np.ndarray:
    """Return what other choices of seeds would add to a sum or difference of M means, [B, K].

    Student's t times the standard error of all, with the degrees of freedom of Welch (Biometrika 1947) and
    Satterthwaite (Biometrics 1946); of one mean they are S - 1. Drawing the seeds themselves with replacement
    would make intervals of few seeds far too short. The variance over seeds is taken on the given images, and so
    it adds to that over images.

    Args:
        errors: [M, K], standard errors of the means over seeds.
        seeds: [M], their numbers.
    """
    total = (errors**2).sum(axis=0)
    parts = (errors**4 / (seeds[:, None] - 1)).sum(axis=0)
    freedom = np.where(parts > 0, total**2 / np.where(parts > 0, parts, 1), 1)
    noise: np.ndarray = generator.standard_t(freedom, size=(draws, len(freedom))) * np.sqrt(total)
    return noise


def percentiles(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the percentile interval of draws [B, ...], those without a value (NaN) left out."""
    undefined = np.isnan(draws).all(axis=0)
    ends = np.nanquantile(np.where(undefined, 0, draws), [TAIL, 1 - TAIL], axis=0, method="weibull")
    low, high = np.where(undefined, np.nan, ends)
    return low, high


def centred(estimate: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the percentile interval of draws [B, ...] moved so that their mean is the estimate [...], in 0..1.

    It is about other sets of this size. AP of few objects is too high, as precision is the best at any higher
    recall; in draws, whose objects repeat, it is higher still, which moving takes out again. A difference of two
    runs needs none of this: there the two cancel.
    """
    low, high = percentiles(draws)
    shift = estimate - np.nanmean(np.where(np.isnan(low), 0, draws), axis=0)
    return np.clip(low + shift, 0, 1), np.clip(high + shift, 0, 1)


def p_values(differences: np.ndarray) -> np.ndarray:
    """Return two-sided p values of draws [B, ...] of differences: what of them lies on the rarer side of 0.

    Counted with the set itself as one more draw (Davison and Hinkley, "Bootstrap Methods", 1997, 4.2), so that the
    least is 2 / (B + 1); below 0.05 just where 0 is outside the percentile interval.
    """
    counts = np.minimum((differences <= 0).sum(axis=0), (differences >= 0).sum(axis=0))
    defined = (~np.isnan(differences)).sum(axis=0)
    return np.minimum(1, 2 * (counts + 1) / (defined + 1))


def holm(values: Sequence[float]) -> list[float]:
    """Return p values corrected for their number, in their order (Holm, Scand. J. Statist. 1979)."""
    order = np.argsort(values)
    corrected = np.array(values)[order] * np.arange(len(order), 0, -1)
    result = np.empty(len(order))
    result[order] = np.minimum(1, np.maximum.accumulate(corrected))
    return result.tolist()


def draws_needed(comparisons: int) -> int:
    """Return of how many draws the least p value, corrected for so many comparisons, is below 0.05."""
    return 40 * comparisons
