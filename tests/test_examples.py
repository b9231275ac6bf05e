"""Which images are shown as examples, and what stands on them."""

import json
from collections.abc import Callable

import numpy as np
import pytest

from detloss.data.coco import CocoDataset
from detloss.evaluation.detections import read_detections
from detloss.evaluation.ground_truth import read_ground_truth
from detloss.examples import example, found_on, telling_images

FREQUENCY = np.array([500, 40, 7, 2, 0])  # the last class has no object


@pytest.fixture
def dataset(tiny_coco: Callable) -> CocoDataset:
    files = tiny_coco(20)
    return CocoDataset(files.annotations, files.images, masks=True)


def test_the_rarest_class_comes_first_the_most_frequent_last_and_no_image_twice(dataset: CocoDataset) -> None:
    labels = [set(dataset[index][1]["labels"].tolist()) for index in range(len(dataset))]
    chosen = telling_images(dataset, FREQUENCY, 4)
    assert len(set(chosen)) == 4
    taken: list[int] = []
    for label in (4, 3, 2, 1):  # by their counts above
        taken.append(next(i for i, own in enumerate(labels) if label in own and i not in taken))
    assert chosen == taken


def test_with_few_images_the_ends_of_the_frequencies_are_shown(dataset: CocoDataset) -> None:
    first, last = telling_images(dataset, FREQUENCY, 2)
    assert 4 in dataset[first][1]["labels"]
    assert 1 in dataset[last][1]["labels"]
    assert len(telling_images(dataset, FREQUENCY, 100)) == 4  # a class, an image


def test_an_image_has_its_objects_and_what_was_found_from_a_score_on(dataset: CocoDataset) -> None:
    index = telling_images(dataset, FREQUENCY, 1)[0]
    shown = example(dataset, index)
    assert shown.pixels.shape == (64, 64, 3)
    assert shown.truth.masks is not None
    ground_truth = read_ground_truth(dataset.annotations_path, masks=True)
    position = ground_truth.image_ids.tolist().index(shown.image_id)
    rows = json.loads(dataset.annotations_path.read_text())["annotations"]
    own = [row for row in rows if row["image_id"] == shown.image_id and not row["iscrowd"] and row["area"]]
    results = [
        {"image_id": row["image_id"], "category_id": row["category_id"], "bbox": row["bbox"], "score": score}
        for row, score in zip(own * 2, [0.9] * len(own) + [0.1] * len(own), strict=True)
    ]
    path = dataset.annotations_path.with_name("results.json")
    path.write_text(json.dumps(results))
    found = found_on(read_detections(ground_truth, path, masks=False), position, score=0.3)
    np.testing.assert_allclose(found.boxes, shown.truth.boxes)
    np.testing.assert_array_equal(found.classes, shown.truth.classes)
    assert found.scores is not None
    assert found.scores.tolist() == [0.9] * len(own)
