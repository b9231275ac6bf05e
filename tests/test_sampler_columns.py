"""What an epoch is said to show, against epochs that are drawn and counted."""

import math

import numpy as np
import pytest

from detloss.data.image_labels import ImageLabels
from detloss.data.samplers import (
    ClassAware,
    EpochSampler,
    InstanceAwareRepeatFactor,
    RepeatFactor,
    Uniform,
)
from detloss.sampler_columns import Epoch, repeat_columns
from detloss.stats import ClassStats

# Class 3 never occurs; image 4 is empty.
LABELS = ImageLabels.of(
    [np.array(row, dtype=np.int64) for row in ([0, 0, 1], [0], [1, 2, 2, 2], [0], [], [0, 4])], num_classes=5
)
STATS = ClassStats(("a", "b", "c", "d", "e"), (1, 2, 3, 4, 5), 6, LABELS.instances, LABELS.images)

SAMPLERS = [
    Uniform(LABELS),
    ClassAware(LABELS),
    RepeatFactor(LABELS, threshold=0.9),
    RepeatFactor(LABELS, threshold=0.9, rounding="stochastic"),
    InstanceAwareRepeatFactor(LABELS, threshold=2.0, rounding="stochastic"),
]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: type(sampler).__name__)
def test_an_epoch_shows_on_average_what_drawn_epochs_show(sampler: EpochSampler) -> None:
    drawn = []
    for epoch in range(2000):
        order = sampler.epoch(3, epoch).tolist()
        images = [sum(index in LABELS[image] for image in order) for index in range(5)]
        instances = [sum(LABELS[image].tolist().count(index) for image in order) for index in range(5)]
        drawn.append([len(order), *images, *instances])
    expected = Epoch.expected(sampler, LABELS)
    values = np.array([expected.length, *expected.images, *expected.instances])
    error = np.std(drawn, axis=0) / math.sqrt(2000)
    assert (np.abs(np.mean(drawn, axis=0) - values) <= 5 * error + 1e-12).all()


def test_repeat_columns_are_the_factors_that_the_samplers_use() -> None:
    """The image with the class and no rarer one is repeated as often as the class."""
    (column,) = repeat_columns("rfs", "detloss.data.samplers.RepeatFactor", 0.9, STATS, len(LABELS))
    factors = RepeatFactor(LABELS, threshold=0.9).repeat_factors
    assert column.name == "rfs.repeat_factor"
    for image, row in enumerate(LABELS):
        assert factors[image] == max(column.values[row], default=1.0)
    target = "detloss.data.samplers.InstanceAwareRepeatFactor"
    (column,) = repeat_columns("irfs", target, 2.0, STATS, len(LABELS))
    factors = InstanceAwareRepeatFactor(LABELS, threshold=2.0).repeat_factors
    for image, row in enumerate(LABELS):
        assert factors[image] == max(column.values[row], default=1.0)
    assert repeat_columns("uniform", "detloss.data.samplers.Uniform", 0.0, STATS, 6) == []
