"""Which images an epoch shows, and in which order: pure functions of (seed, epoch)."""

from abc import ABC, abstractmethod
from typing import Literal

import numpy as np

from detloss.data.image_labels import ImageLabels
from detloss.errors import UserError

Rounding = Literal["ceil", "stochastic"]


class EpochSampler(ABC):
    """Draws the images of an epoch, repeats included never fewer than the data set has."""

    @abstractmethod
    def epoch(self, seed: int, epoch: int) -> np.ndarray:
        """Return the indices into the data set, int64, in the order in which they are shown."""

    @abstractmethod
    def expected_counts(self) -> np.ndarray:
        """Return how often each image occurs in an epoch, on average over all seeds, [I] float64."""


class Uniform(EpochSampler):
    """Every image once, shuffled."""

    def __init__(self, labels: ImageLabels) -> None:
        self.num_images = len(labels)

    def epoch(self, seed: int, epoch: int) -> np.ndarray:
        return np.random.default_rng([seed, epoch]).permutation(self.num_images)

    def expected_counts(self) -> np.ndarray:
        return np.ones(self.num_images)


class ClassAware(EpochSampler):
    """Every class the same number of times: a class, then one of its images, as often as there are images.

    Source: class-aware sampling, Shen et al., "Relay Backpropagation", ECCV 2016. Classes come in
    shuffled rounds, each once a round, and the images of a class in shuffled rounds of their own; rounds start
    anew with the epoch. Images without a label are never shown.
    """

    def __init__(self, labels: ImageLabels) -> None:
        self.num_images = len(labels)
        images, classes = labels.pairs
        if not classes.size:
            raise UserError(
                "class-aware sampling needs images with objects, and none has one; try sampler=uniform"
            )
        counts = np.bincount(classes)
        by_class = np.split(images[np.argsort(classes, kind="stable")], np.cumsum(counts)[:-1])
        self.images_of_class = [members for members in by_class if members.size]

    def epoch(self, seed: int, epoch: int) -> np.ndarray:
        generator = np.random.default_rng([seed, epoch])
        num_classes = len(self.images_of_class)
        classes = _rounds(np.arange(num_classes), self.num_images, generator)
        ends = np.cumsum(np.bincount(classes, minlength=num_classes))
        positions = np.split(np.argsort(classes, kind="stable"), ends[:-1])
        order = np.empty(self.num_images, dtype=np.int64)
        for members, places in zip(self.images_of_class, positions, strict=True):
            order[places] = _rounds(members, len(places), generator)
        return order

    def expected_counts(self) -> np.ndarray:
        """Return I / K for each of the K classes that occur, spread evenly over its images."""
        sizes = np.array([len(members) for members in self.images_of_class])
        shares = np.repeat(self.num_images / len(sizes) / sizes, sizes)
        return np.bincount(np.concatenate(self.images_of_class), shares, minlength=self.num_images)


class RepeatFactor(EpochSampler):
    """Repeat images of rare classes: r_image = max over its classes of max(1, sqrt(threshold / f_c)).

    Source: repeat factor sampling, LVIS (CVPR 2019, appendix B.2). ``rounding="ceil"`` repeats ceil(r) times, as
    ECM's official recipe does; ``"stochastic"`` repeats floor(r) times and once more with the probability of the
    fraction, drawn anew each epoch. ``repeat_factors`` is [I] float64.
    """

    def __init__(
        self,
        labels: ImageLabels,
        *,
        threshold: float = 0.001,
        rounding: Rounding = "ceil",
    ) -> None:
        self.rounding = _known(rounding)
        self.repeat_factors = _by_image(repeat_factors_by_class(labels.images, len(labels), threshold), labels)

    def epoch(self, seed: int, epoch: int) -> np.ndarray:
        return _repeated(self.repeat_factors, self.rounding, np.random.default_rng([seed, epoch]))

    def expected_counts(self) -> np.ndarray:
        return np.ceil(self.repeat_factors) if self.rounding == "ceil" else self.repeat_factors


class InstanceAwareRepeatFactor(EpochSampler):
    """Repeat images of rare classes by images and instances: r_c = max(1, sqrt(threshold / f_c)).

    Source: IRFS, Yaman et al., "Instance-Aware Repeat Factor Sampling for Long-Tailed Object Detection",
    arXiv 2305.08069: f_c = sqrt(f_image,c f_instance,c), the geometric mean of the share of the images that
    show c and of the share of all instances that are of c. The rest is as in `RepeatFactor`.
    """

    def __init__(
        self,
        labels: ImageLabels,
        *,
        threshold: float = 0.001,
        rounding: Rounding = "ceil",
    ) -> None:
        self.rounding = _known(rounding)
        by_class = instance_aware_factors_by_class(labels.images, labels.instances, len(labels), threshold)
        self.repeat_factors = _by_image(by_class, labels)

    def epoch(self, seed: int, epoch: int) -> np.ndarray:
        return _repeated(self.repeat_factors, self.rounding, np.random.default_rng([seed, epoch]))

    def expected_counts(self) -> np.ndarray:
        return np.ceil(self.repeat_factors) if self.rounding == "ceil" else self.repeat_factors


def repeat_factors_by_class(image_counts: np.ndarray, num_images: int, threshold: float) -> np.ndarray:
    """Return max(1, sqrt(threshold / f_c)) [C], f_c = image_counts / num_images; a count of 0 counts as 1."""
    return _factors(np.maximum(image_counts, 1) / max(num_images, 1), threshold)


def instance_aware_factors_by_class(
    image_counts: np.ndarray, instance_counts: np.ndarray, num_images: int, threshold: float
) -> np.ndarray:
    """Return max(1, sqrt(threshold / sqrt(f_image,c f_instance,c))) [C]; a count of 0 counts as 1."""
    of_images = np.maximum(image_counts, 1) / max(num_images, 1)
    of_instances = np.maximum(instance_counts, 1) / max(int(instance_counts.sum()), 1)
    return _factors(np.sqrt(of_images * of_instances), threshold)


def _factors(frequencies: np.ndarray, threshold: float) -> np.ndarray:
    if threshold < 0:
        raise UserError(f"sampler threshold must not be negative, got {threshold}")
    return np.maximum(1.0, np.sqrt(threshold / frequencies))


def _by_image(by_class: np.ndarray, labels: ImageLabels) -> np.ndarray:
    """Return each image's largest factor, [I]; 1 for an image without labels."""
    factors = np.ones(len(labels))
    images, classes = labels.pairs
    np.maximum.at(factors, images, by_class[classes])
    return factors


def _known(rounding: Rounding) -> Rounding:
    if rounding not in ("ceil", "stochastic"):
        raise UserError(f"sampler rounding must be 'ceil' or 'stochastic', got {rounding!r}")
    return rounding


def _repeated(repeat_factors: np.ndarray, rounding: Rounding, generator: np.random.Generator) -> np.ndarray:
    """Return an epoch: every image's index as often as its factor, rounded, says, shuffled."""
    if rounding == "ceil":
        repeats = np.ceil(repeat_factors)
    else:
        whole = np.floor(repeat_factors)
        repeats = whole + (generator.random(len(whole)) < repeat_factors - whole)
    return generator.permutation(np.repeat(np.arange(len(repeats)), repeats.astype(np.int64)))


def _rounds(values: np.ndarray, length: int, generator: np.random.Generator) -> np.ndarray:
    """Return ``length`` of the values: all of them in random order, then all again in another, and so on."""
    rounds = -(-length // len(values))
    return generator.permuted(np.tile(values, (rounds, 1)), axis=1).reshape(-1)[:length]
