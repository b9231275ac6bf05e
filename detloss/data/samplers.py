"""Which images an epoch shows, and in which order: pure functions of (seed, epoch)."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import numpy as np

from detloss.errors import UserError


class EpochSampler(ABC):
    """Draws the images of an epoch; never fewer than the data set has."""

    @abstractmethod
    def epoch(self, seed: int, epoch: int) -> np.ndarray:
        """Return the indices into the data set, int64, in the order in which they are shown."""


class Uniform(EpochSampler):
    """Every image once, shuffled."""

    def __init__(self, image_labels: Sequence[np.ndarray]) -> None:
        self.num_images = len(image_labels)

    def epoch(self, seed: int, epoch: int) -> np.ndarray:
        return np.random.default_rng([seed, epoch]).permutation(self.num_images)


class RepeatFactor(EpochSampler):
    """Repeat images of rare classes: r_image = max over its classes of max(1, sqrt(threshold / f_c)).

    Source: repeat factor sampling, LVIS (CVPR 2019, appendix B.2). ``image_labels`` holds the class indices
    0..C-1 present in each image. ``rounding="ceil"`` repeats ceil(r) times, as ECM's official recipe does;
    ``"stochastic"`` repeats floor(r) times and once more with the probability of the fraction, drawn anew
    each epoch. ``repeat_factors`` is [I] float64.
    """

    def __init__(
        self,
        image_labels: Sequence[np.ndarray],
        *,
        threshold: float = 0.001,
        rounding: Literal["ceil", "stochastic"] = "ceil",
    ) -> None:
        if rounding not in ("ceil", "stochastic"):
            raise UserError(f"sampler rounding must be 'ceil' or 'stochastic', got {rounding!r}")
        self.rounding = rounding
        present = [np.unique(labels) for labels in image_labels]
        image_counts = np.bincount(np.concatenate([np.zeros(0, dtype=np.int64), *present]))
        by_class = repeat_factors_by_class(image_counts, len(present), threshold)
        self.repeat_factors = np.array([by_class[labels].max(initial=1.0) for labels in present])

    def epoch(self, seed: int, epoch: int) -> np.ndarray:
        generator = np.random.default_rng([seed, epoch])
        if self.rounding == "ceil":
            repeats = np.ceil(self.repeat_factors)
        else:
            whole = np.floor(self.repeat_factors)
            repeats = whole + (generator.random(len(whole)) < self.repeat_factors - whole)
        indices = np.repeat(np.arange(len(repeats)), repeats.astype(np.int64))
        return generator.permutation(indices)


def repeat_factors_by_class(image_counts: np.ndarray, num_images: int, threshold: float) -> np.ndarray:
    """Return max(1, sqrt(threshold / f_c)) [C], f_c = image_counts / num_images; a count of 0 counts as 1."""
    if threshold < 0:
        raise UserError(f"sampler threshold must not be negative, got {threshold}")
    fractions = np.maximum(image_counts, 1) / max(num_images, 1)
    return np.maximum(1.0, np.sqrt(threshold / fractions))
