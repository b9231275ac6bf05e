import math
from collections import Counter

import numpy as np
import pytest

from detloss.data.samplers import RepeatFactor, Uniform, repeat_factors_by_class
from detloss.errors import UserError

# Ten images; class 0 in all but the last two, class 1 in three, class 2 in one; the last image is empty.
IMAGE_LABELS = [np.array(labels) for labels in ([0], [0], [0, 1], [0], [0, 1], [0], [0], [0, 2], [1])]
IMAGE_LABELS.append(np.zeros(0, dtype=np.int64))
THRESHOLD = 0.9
BY_CLASS = [math.sqrt(0.9 / 0.8), math.sqrt(0.9 / 0.3), math.sqrt(0.9 / 0.1)]  # 1.06, 1.73, 3


def test_uniform_shows_every_image_once():
    order = Uniform(IMAGE_LABELS).epoch(0, 0)
    assert sorted(order.tolist()) == list(range(10)) and order.dtype == np.int64


@pytest.mark.parametrize("make", [Uniform, RepeatFactor])
def test_the_order_is_a_function_of_seed_and_epoch(make):
    images = [np.array([0])] * 50
    sampler = make(images)
    first = sampler.epoch(3, 4).tolist()
    assert first == make(images).epoch(3, 4).tolist()
    assert first != sampler.epoch(3, 5).tolist() and first != sampler.epoch(4, 4).tolist()


def test_repeat_factors_follow_the_formula():
    counts = np.array([8, 3, 1])
    assert np.allclose(repeat_factors_by_class(counts, 10, THRESHOLD), BY_CLASS, rtol=1e-12)
    of_images = [BY_CLASS[max(labels)] if labels.size else 1.0 for labels in IMAGE_LABELS]
    assert np.allclose(RepeatFactor(IMAGE_LABELS, threshold=THRESHOLD).repeat_factors, of_images, rtol=1e-12)


def test_lvis_repeat_factors_at_the_papers_threshold():
    """A class in 1 of 100,000 images is repeated 10 times, one in 100 or more not at all."""
    factors = repeat_factors_by_class(np.array([1, 25, 100, 50_000]), 100_000, 0.001)
    assert np.allclose(factors, [10, 2, 1, 1], rtol=1e-12)


def test_a_class_that_never_occurs_counts_as_one_image():
    factors = repeat_factors_by_class(np.array([0, 1]), 1000, 0.1)
    assert np.isfinite(factors).all() and factors[0] == factors[1]


def test_ceil_repeats_each_image_the_factor_rounded_up():
    order = RepeatFactor(IMAGE_LABELS, threshold=THRESHOLD).epoch(0, 0)
    assert Counter(order.tolist()) == dict(enumerate([2, 2, 2, 2, 2, 2, 2, 3, 2, 1]))


def test_stochastic_repeats_the_factor_on_average_and_never_drops_an_image():
    sampler = RepeatFactor(IMAGE_LABELS, threshold=THRESHOLD, rounding="stochastic")
    epochs = 2000
    counts = np.stack([np.bincount(sampler.epoch(0, epoch), minlength=10) for epoch in range(epochs)])
    assert counts.min() == 1
    # A Bernoulli draw has a standard deviation of at most 0.5: five of them over the mean of the epochs.
    assert np.abs(counts.mean(axis=0) - sampler.repeat_factors).max() < 5 * 0.5 / math.sqrt(epochs)
    assert set(counts[:, 2]) == {1, 2}


def test_images_without_labels_only_are_a_uniform_epoch():
    sampler = RepeatFactor([np.zeros(0, dtype=np.int64)] * 4)
    assert sorted(sampler.epoch(0, 0).tolist()) == [0, 1, 2, 3]


def test_wrong_options_are_user_errors():
    with pytest.raises(UserError, match="'ceil' or 'stochastic', got 'floor'"):
        RepeatFactor(IMAGE_LABELS, rounding="floor")
    with pytest.raises(UserError, match="threshold must not be negative"):
        RepeatFactor(IMAGE_LABELS, threshold=-1)
