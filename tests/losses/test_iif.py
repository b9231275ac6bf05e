"""Inverse image frequency against the formulas of its authors' script and the numbers in their tables."""

import numpy as np
import pytest
import torch

from detloss.losses import IIF
from detloss.stats import ClassStats
from tests.losses.softmax_batches import BATCHES, assert_same, batch_of
from tests.reference import softmax_losses

IMAGES, INSTANCES, NUM_IMAGES = [600, 30, 30, 1, 0], [1000, 40, 30, 7, 0], 1000
CLASSES = len(IMAGES)
VARIANTS = ["raw", "smooth", "rel", "normit", "gombit", "base2", "base10"]
STATS = ClassStats(
    names=tuple("abcde"),
    category_ids=(1, 2, 3, 4, 5),
    num_images=NUM_IMAGES,
    instances=np.array(INSTANCES),
    images=np.array(IMAGES),
    num_annotated_images=800,  # the authors divide by all images of the file
)

# The rows of airplane (1,911 images, 3,720 instances) and aerosol_can (64, 109) in the authors' table
# instance_segmentation/lvis_files/idf_1204.csv, github.com/kostas1515/iif; "rel" is called "prob" there.
LVIS_V1 = {
    "airplane": {
        "images": [3.959242077, 4.958728911, 3.939980184, 2.073184243, 3.949626590, 5.711978911, 1.719476987],
        "instances": [5.833159529, 6.832891535, 5.830226423, 2.755647015, 5.831693334, 8.415470325, 2.533308995],
    },
    "aerosol_can": {
        "images": [7.355740938, 8.340246735, 7.355101820, 3.220913365, 7.355421396, 10.612090974, 3.194557700],
        "instances": [9.363290594, 10.354158897, 9.363204773, 3.757477946, 9.363247684, 13.508372906, 4.066425437],
    },
}


def literal_weights(stats: ClassStats, variant: str, count: str) -> list[float]:
    if count == "images":
        return softmax_losses.iif_weights(variant, stats.images.tolist(), stats.num_images)
    return softmax_losses.iif_weights(variant, stats.instances.tolist(), int(stats.instances.sum()))


@pytest.mark.parametrize("count", ["images", "instances"])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", BATCHES)
def test_value_and_gradient_equal_the_transcription(kind: str, variant: str, count: str) -> None:
    logits, labels, weights = batch_of(kind, CLASSES + 1, CLASSES)
    value = IIF(STATS, variant=variant, count=count)(logits, labels, weights)
    scaled = logits * torch.tensor(literal_weights(STATS, variant, count), dtype=torch.float64)
    assert_same(value, softmax_losses.scaled_cross_entropy(scaled, labels, weights), logits)


@pytest.mark.parametrize("count", ["images", "instances"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_lvis_v1_equals_the_transcription(variant: str, count: str) -> None:
    stats = ClassStats.lvis_v1()
    logits, labels, weights = batch_of("seed 0", stats.num_classes + 1, stats.num_classes, rows=24)
    value = IIF(stats, variant=variant, count=count)(logits, labels, weights)
    scaled = logits * torch.tensor(literal_weights(stats, variant, count), dtype=torch.float64)
    assert_same(value, softmax_losses.scaled_cross_entropy(scaled, labels, weights), logits)


@pytest.mark.parametrize("count", ["images", "instances"])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", LVIS_V1)
def test_weights_of_lvis_v1_are_those_of_the_authors_table(name: str, variant: str, count: str) -> None:
    """A logit of 1 at the class and 0 elsewhere has the odds e^w : C of its score."""
    stats = ClassStats.lvis_v1()
    column = stats.names.index(name)
    logits = torch.zeros(1, stats.num_classes + 1, dtype=torch.float64)
    logits[0, column] = 1.0
    score = IIF(stats, variant=variant, count=count).coder.decode(logits)[0, column]
    weight = (score / (1 - score) * stats.num_classes).log().item()
    assert weight == pytest.approx(LVIS_V1[name][count][VARIANTS.index(variant)], rel=1e-8)


def test_the_defaults_are_raw_and_images() -> None:
    batch = batch_of("seed 0", CLASSES + 1, CLASSES)
    assert IIF(STATS)(*batch).item() == IIF(STATS, variant="raw", count="images")(*batch).item()


@pytest.mark.parametrize("count", ["images", "instances"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_scores_are_the_softmax_of_the_weighted_logits(variant: str, count: str) -> None:
    logits, _, _ = batch_of("seed 0", CLASSES + 1, CLASSES)
    scores = IIF(STATS, variant=variant, count=count).coder.decode(logits)
    assert scores.shape == (len(logits), CLASSES)
    weights = torch.tensor(literal_weights(STATS, variant, count), dtype=torch.float64)
    for row, got in zip(logits.detach(), scores.tolist(), strict=True):
        assert got == pytest.approx(softmax_losses.softmax(row * weights)[:CLASSES], rel=1e-9)


@pytest.mark.parametrize("count", ["images", "instances"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_class_in_every_image_or_alone_has_a_finite_weight(variant: str, count: str) -> None:
    alone = ClassStats(("a",), (1,), 10, np.array([25]), np.array([10]))
    logits, labels, weights = batch_of("seed 0", 2, 1)
    value = IIF(alone, variant=variant, count=count)(logits, labels, weights)
    (gradient,) = torch.autograd.grad(value, logits)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize(("words", "named"), [({"variant": "cooked"}, "cooked"), ({"count": "boxes"}, "boxes")])
def test_unknown_words_are_refused(words: dict[str, str], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        IIF(STATS, **words)
