import math
from collections import Counter

import numpy as np
import pytest

from detloss.data.image_labels import ImageLabels
from detloss.data.samplers import (
    ClassAware,
    InstanceAwareRepeatFactor,
    RepeatFactor,
    Uniform,
    instance_aware_factors_by_class,
    repeat_factors_by_class,
)
from detloss.errors import UserError
from detloss.stats import ClassStats

# Ten images; class 0 in all but the last two, class 1 in three, class 2 in one; the last image is empty.
IMAGE_LABELS = ImageLabels.of(
    [np.array(labels, dtype=np.int64) for labels in ([0], [0], [0, 1], [0], [0, 1], [0], [0], [0, 2], [1], [])]
)
NOTHING = ImageLabels.of([np.zeros(0, dtype=np.int64)] * 4)
THRESHOLD = 0.9
BY_CLASS = [math.sqrt(0.9 / 0.8), math.sqrt(0.9 / 0.3), math.sqrt(0.9 / 0.1)]  # 1.06, 1.73, 3


def test_uniform_shows_every_image_once():
    order = Uniform(IMAGE_LABELS).epoch(0, 0)
    assert sorted(order.tolist()) == list(range(10)) and order.dtype == np.int64


@pytest.mark.parametrize("make", [Uniform, ClassAware, RepeatFactor, InstanceAwareRepeatFactor])
def test_the_order_is_a_function_of_seed_and_epoch(make):
    images = ImageLabels.of([np.array([0])] * 50)
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
    sampler = RepeatFactor(NOTHING)
    assert sorted(sampler.epoch(0, 0).tolist()) == [0, 1, 2, 3]


def test_wrong_options_are_user_errors():
    for make in (RepeatFactor, InstanceAwareRepeatFactor):
        with pytest.raises(UserError, match="'ceil' or 'stochastic', got 'floor'"):
            make(IMAGE_LABELS, rounding="floor")
        with pytest.raises(UserError, match="threshold must not be negative"):
            make(IMAGE_LABELS, threshold=-1)
    with pytest.raises(UserError, match="none has one; try sampler=uniform"):
        ClassAware(NOTHING)


# Classes 0, 2 and 5 occur (1, 3 and 4 do not), one label per instance; the fourth image is empty.
CROWDED = ImageLabels.of(
    [np.array(labels, dtype=np.int64) for labels in ([0, 0, 0], [0, 2], [0], [], [5, 0, 5], [0, 0], [2])]
)


def literal_instance_aware_factors(threshold: float) -> list[float]:
    """IRFS by its definition, a class and an image at a time."""
    total = sum(len(labels) for labels in CROWDED)
    factors = {}
    for index in (0, 2, 5):
        of_images = sum(index in labels.tolist() for labels in CROWDED) / len(CROWDED)
        of_instances = sum(labels.tolist().count(index) for labels in CROWDED) / total
        factors[index] = max(1.0, math.sqrt(threshold / math.sqrt(of_images * of_instances)))
    return [max([1.0, *(factors[index] for index in labels.tolist())]) for labels in CROWDED]


def test_instance_aware_factors_follow_the_formula():
    for threshold in (0.001, 0.3, 0.9, 4.0):
        sampler = InstanceAwareRepeatFactor(CROWDED, threshold=threshold)
        assert np.allclose(sampler.repeat_factors, literal_instance_aware_factors(threshold), rtol=1e-12)
    # Class 5: 1 of 7 images, 2 of 12 instances.
    assert sampler.repeat_factors[4] == pytest.approx(math.sqrt(4 / math.sqrt(1 / 7 * 2 / 12)))


def test_a_class_of_many_instances_in_few_images_is_repeated_less_than_by_images_alone():
    """100 of 100,000 images hold half of a million instances: f = sqrt(0.001 * 0.5) = 0.0224."""
    images, instances = np.array([100, 100, 0]), np.array([500_000, 100, 0])
    factors = instance_aware_factors_by_class(images, instances, 100_000, 0.001)
    share = 100 / 500_100
    assert np.allclose(factors[:2], [1, math.sqrt(0.001 / math.sqrt(0.001 * share))], rtol=1e-12)
    assert np.isfinite(factors[2])


def test_instance_aware_repeats_are_rounded_as_those_of_images():
    by_formula = literal_instance_aware_factors(4.0)
    order = InstanceAwareRepeatFactor(CROWDED, threshold=4.0).epoch(0, 0)
    assert np.bincount(order, minlength=7).tolist() == [math.ceil(factor) for factor in by_formula]
    sampler = InstanceAwareRepeatFactor(CROWDED, threshold=4.0, rounding="stochastic")
    counts = np.stack([np.bincount(sampler.epoch(0, epoch), minlength=7) for epoch in range(500)])
    assert (counts >= np.floor(by_formula)).all() and (counts <= np.ceil(by_formula)).all()
    assert np.abs(counts.mean(axis=0) - by_formula).max() < 5 * 0.5 / math.sqrt(500)


def test_counts_of_instances_do_not_change_repeat_factors_by_images():
    once = ImageLabels.of([np.unique(labels) for labels in CROWDED])
    factors = (RepeatFactor(labels, threshold=0.9).repeat_factors for labels in (CROWDED, once))
    assert np.array_equal(*factors)


def test_class_aware_draws_every_class_equally_often_and_then_one_of_its_images():
    # Images with one class each, so that an image tells which class was drawn: 90, 9 and 1 images.
    labels = ImageLabels.of([np.array([index]) for index in [1] * 90 + [4] * 9 + [6]])
    sampler = ClassAware(labels)
    for epoch in range(20):
        order = sampler.epoch(0, epoch)
        assert len(order) == 100 and order.dtype == np.int64
        drawn = Counter(int(labels[index][0]) for index in order.tolist())
        assert set(drawn) == {1, 4, 6} and set(drawn.values()) <= {33, 34}
        # A round holds each class once.
        rounds = [sorted(int(labels[index][0]) for index in order[start : start + 3]) for start in range(0, 99, 3)]
        assert rounds == [[1, 4, 6]] * 33


def test_class_aware_shows_all_images_of_a_class_before_one_again():
    labels = ImageLabels.of([np.array([index]) for index in [0] * 12 + [1] * 3])
    sampler = ClassAware(labels)
    orders = set()
    for epoch in range(50):
        shown = [index for index in sampler.epoch(0, epoch).tolist() if index >= 12]
        assert len(shown) in (7, 8)
        assert sorted(shown[:3]) == sorted(shown[3:6]) == [12, 13, 14]
        orders.add(tuple(shown[:3]))
    assert len(orders) == 6


def test_class_aware_frequencies_of_images_with_several_classes():
    """An image is shown through each of its classes: the expected shares, by hand."""
    labels = ImageLabels.of([np.array(row, dtype=np.int64) for row in ([0, 0, 1], [0], [1, 2], [0], [])])
    sampler, epochs = ClassAware(labels), 6000
    counts = sum(np.bincount(sampler.epoch(1, epoch), minlength=5) for epoch in range(epochs))
    # A third of the draws is of class 0 (images 0, 1, 3), of class 1 (images 0, 2) and of class 2 (image 2).
    expected = np.array([1 / 9 + 1 / 6, 1 / 9, 1 / 6 + 1 / 3, 1 / 9, 0])
    # A share is a mean over at least `epochs` draws that no two of one round repeat: five standard errors.
    assert np.abs(counts / counts.sum() - expected).max() < 5 * 0.5 / math.sqrt(epochs)
    assert counts.sum() == 5 * epochs


def test_class_aware_works_with_fewer_images_than_classes():
    sampler = ClassAware(ImageLabels.of([np.arange(10), np.array([3])]))
    assert all(len(sampler.epoch(0, epoch)) == 2 for epoch in range(10))


@pytest.fixture(scope="module")
def lvis_labels() -> ImageLabels:
    """As many images as LVIS v1's training set has annotated, each class in as many of them as there; objects
    beyond one an image lie in the first image of their class."""
    stats, generator = ClassStats.lvis_v1(), np.random.default_rng(0)
    num_images = stats.num_annotated_images
    images = [
        np.append(shown := generator.choice(num_images, count, replace=False), np.repeat(shown[0], extra))
        for count, extra in zip(stats.images, stats.instances - stats.images, strict=True)
    ]
    owners, classes = np.concatenate(images), np.repeat(np.arange(1203), stats.instances)
    order = np.argsort(owners, kind="stable")
    return ImageLabels(num_images, 1203, owners[order], classes[order])


def literal_repeat_factors(labels: ImageLabels, frequency: list[float], threshold: float) -> list[float]:
    """Appendix B.2 of LVIS, a class and an image at a time."""
    of_class = [max(1.0, math.sqrt(threshold / share)) for share in frequency]
    return [max([1.0, *(of_class[index] for index in row.tolist())]) for row in labels]


def test_repeat_factors_on_the_counts_of_lvis_are_those_of_the_definition(lvis_labels):
    stats = ClassStats.lvis_v1()
    assert np.array_equal(lvis_labels.images, stats.images)
    assert np.array_equal(lvis_labels.instances, stats.instances)
    of_images = [count / 99_388 for count in stats.images.tolist()]
    factors = RepeatFactor(lvis_labels, threshold=0.001).repeat_factors
    assert np.allclose(factors, literal_repeat_factors(lvis_labels, of_images, 0.001), rtol=1e-12)
    # The rarest classes are in one image: sqrt(0.001 * 99,388) = 9.969.
    assert factors.max() == pytest.approx(9.9694, abs=1e-4)
    both = [
        math.sqrt(share * count / 1_270_141)
        for share, count in zip(of_images, stats.instances.tolist(), strict=True)
    ]
    factors = InstanceAwareRepeatFactor(lvis_labels, threshold=0.001).repeat_factors
    assert np.allclose(factors, literal_repeat_factors(lvis_labels, both, 0.001), rtol=1e-12)


@pytest.mark.parametrize("rounding", ["ceil", "stochastic"])
def test_no_epoch_of_lvis_is_shorter_than_the_data_set(lvis_labels, rounding):
    for sampler in (
        Uniform(lvis_labels),
        ClassAware(lvis_labels),
        RepeatFactor(lvis_labels, rounding=rounding),
        InstanceAwareRepeatFactor(lvis_labels, rounding=rounding),
    ):
        order = sampler.epoch(0, 0)
        assert len(order) >= 99_388
        if not isinstance(sampler, ClassAware):
            assert len(np.unique(order)) == 99_388


@pytest.mark.parametrize("seed", range(20))
def test_no_epoch_of_any_labels_is_shorter_than_the_data_set(seed):
    generator = np.random.default_rng(seed)
    labels = ImageLabels.of([generator.integers(0, 6, generator.integers(0, 4)) for _ in range(12)])
    for threshold in (0.0, 0.1, 3.0):
        for rounding in ("ceil", "stochastic"):
            for make in (RepeatFactor, InstanceAwareRepeatFactor):
                shown = make(labels, threshold=threshold, rounding=rounding).epoch(seed, 1)
                assert len(shown) >= 12 and set(shown.tolist()) == set(range(12))
    assert len(ClassAware(labels).epoch(seed, 1)) == 12


@pytest.mark.parametrize("labels", [IMAGE_LABELS, CROWDED, ImageLabels.of([np.arange(10), np.array([3])])])
@pytest.mark.parametrize(
    "make",
    [
        Uniform,
        ClassAware,
        lambda labels: RepeatFactor(labels, threshold=0.9),
        lambda labels: RepeatFactor(labels, threshold=0.9, rounding="stochastic"),
        lambda labels: InstanceAwareRepeatFactor(labels, threshold=4.0),
        lambda labels: InstanceAwareRepeatFactor(labels, threshold=4.0, rounding="stochastic"),
    ],
)
def test_expected_counts_are_the_mean_of_many_epochs(make, labels):
    sampler, epochs = make(labels), 3000
    counts = np.stack([np.bincount(sampler.epoch(7, epoch), minlength=len(labels)) for epoch in range(epochs)])
    error = counts.std(axis=0) / math.sqrt(epochs)
    expected = sampler.expected_counts()
    assert expected.dtype == np.float64 and (np.abs(counts.mean(axis=0) - expected) <= 5 * error + 1e-12).all()
