"""What samplers make of a data set, as columns of the statistics table (no torch)."""

from dataclasses import dataclass

import numpy as np

from detloss.data.image_labels import ImageLabels
from detloss.data.samplers import EpochSampler, instance_aware_factors_by_class, repeat_factors_by_class
from detloss.stats import ClassStats
from detloss.stats_table import Column


@dataclass(frozen=True, eq=False)
class Epoch:
    """What an epoch shows on average: how many images, and of each class images and instances, [C] float64."""

    num_images: int  # that it is drawn from
    length: float
    images: np.ndarray
    instances: np.ndarray

    @classmethod
    def expected(cls, sampler: EpochSampler, labels: ImageLabels) -> "Epoch":
        """Weigh every image by how often it is expected; exact, no epoch is drawn."""
        times = sampler.expected_counts()
        images, classes = labels.pairs
        return cls(
            num_images=len(labels),
            length=float(times.sum()),
            images=np.bincount(classes, times[images], minlength=labels.num_classes),
            instances=np.bincount(labels.class_index, times[labels.image_index], minlength=labels.num_classes),
        )

    def columns(self, sampler: str) -> list[Column]:
        """Return images and instances of every class, named ``sampler.column``."""
        return [
            Column(f"{sampler}.images", "images/epoch", ",.1f", self.images),
            Column(f"{sampler}.instances", "instances/epoch", ",.1f", self.instances),
        ]


def repeat_columns(
    sampler: str, target: str, threshold: float, stats: ClassStats, num_images: int
) -> list[Column]:
    """Return the repeat factor of every class, which counts alone tell; none for samplers without.

    ``num_images`` are those that the sampler is given, of which empty ones may be left out.
    """
    kind = target.rpartition(".")[2]
    if kind == "RepeatFactor":
        factors = repeat_factors_by_class(stats.images, num_images, threshold)
    elif kind == "InstanceAwareRepeatFactor":
        factors = instance_aware_factors_by_class(stats.images, stats.instances, num_images, threshold)
    else:
        return []
    return [Column(f"{sampler}.repeat_factor", "repeats", ".2f", factors)]
