"""Flat columns of image labels against a look at one image after the other."""

from collections.abc import Callable

import numpy as np
import pytest

from detloss.data.annotations import Annotations, read_annotations
from detloss.data.image_labels import ImageLabels

ROWS = ([2, 2, 0], [], [1], [5, 5, 5, 0], [])


@pytest.fixture
def labels() -> ImageLabels:
    return ImageLabels.of([np.array(row, dtype=np.int64) for row in ROWS], num_classes=7)


@pytest.fixture
def annotations(tiny_coco: Callable) -> Annotations:
    """Eight images, the first with a crowd, the last empty."""
    return read_annotations(tiny_coco(8).annotations)


def test_an_image_gives_its_classes_as_they_were(labels: ImageLabels) -> None:
    assert [row.tolist() for row in labels] == list(ROWS) and len(labels) == 5
    assert labels[3].tolist() == [5, 5, 5, 0]


def test_pairs_name_every_class_of_an_image_once(labels: ImageLabels) -> None:
    images, classes = labels.pairs
    expected = [(image, index) for image, row in enumerate(ROWS) for index in sorted(set(row))]
    assert list(zip(images.tolist(), classes.tolist(), strict=True)) == expected


def test_counts_are_those_of_a_look_at_each_image(labels: ImageLabels) -> None:
    assert labels.instances.tolist() == [sum(row.count(index) for row in ROWS) for index in range(7)]
    assert labels.images.tolist() == [sum(index in row for row in ROWS) for index in range(7)]


def test_images_without_objects_can_be_left_out(labels: ImageLabels) -> None:
    assert labels.has_objects.tolist() == [True, False, True, True, False]
    assert [row.tolist() for row in labels.without_empty()] == [row for row in ROWS if row]


def test_nothing_at_all_has_no_pairs() -> None:
    nothing = ImageLabels.of([], num_classes=3)
    assert nothing.images.tolist() == [0, 0, 0] and nothing.pairs[0].size == 0


def test_annotations_give_their_classes_without_crowds(annotations: Annotations) -> None:
    labels = ImageLabels.from_annotations(annotations)
    assert annotations.iscrowd.any() and len(labels) == 8 and labels.num_classes == 5
    for image, row in enumerate(labels):
        own = (annotations.image_index == image) & ~annotations.iscrowd
        assert row.tolist() == annotations.class_index[own].tolist()


def test_chosen_images_are_counted_from_zero(annotations: Annotations) -> None:
    whole = ImageLabels.from_annotations(annotations)
    chosen = ImageLabels.from_annotations(annotations, np.array([1, 4, 7]))
    assert [row.tolist() for row in chosen] == [whole[image].tolist() for image in (1, 4, 7)]
