"""Losses that weigh a row by its class, against their weights written out."""

import pytest
import torch

from detloss.losses import ClassBalanced, ClassBalancedFocal, ClassLoss, CrossEntropy, Focal, GeneralizedReweight
from detloss.stats import ClassStats
from tests.losses.conftest import COUNTS, stats_of
from tests.losses.softmax_batches import BATCHES, assert_same, batch_of
from tests.reference import class_losses, softmax_losses

CLASSES = len(COUNTS)
LVIS = ClassStats.lvis_v1()
BETAS = [0.999, 0.9, 0.0, 0.999999]
EXPONENTS = [0.8, 1.2, 0.0]


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("kind", BATCHES)
def test_class_balanced_cross_entropy_equals_the_transcription(kind: str, beta: float) -> None:
    logits, labels, weights = batch_of(kind, CLASSES + 1, CLASSES)
    value = ClassBalanced(stats_of(COUNTS), beta=beta)(logits, labels, weights)
    class_weights = torch.tensor(softmax_losses.class_balanced_weights(COUNTS, beta), dtype=torch.float64)
    expected = softmax_losses.scaled_cross_entropy(logits, labels, weights * class_weights[labels])
    assert_same(value, expected, logits)


@pytest.mark.parametrize("exponent", EXPONENTS)
@pytest.mark.parametrize("kind", BATCHES)
def test_generalized_reweight_equals_the_transcription(kind: str, exponent: float) -> None:
    logits, labels, weights = batch_of(kind, CLASSES + 1, CLASSES)
    value = GeneralizedReweight(stats_of(COUNTS), exponent=exponent)(logits, labels, weights)
    class_weights = torch.tensor(softmax_losses.generalized_reweight(COUNTS, exponent), dtype=torch.float64)
    heavy = weights * class_weights[labels]
    total = softmax_losses.scaled_cross_entropy(logits, labels, heavy)
    assert_same(value, total * weights.sum() / heavy.sum() if heavy.any() else total, logits)


def test_generalized_reweight_in_a_roi_head_is_torchs_weighted_mean() -> None:
    logits, labels, _ = batch_of("seed 1", CLASSES + 1, CLASSES)
    value = GeneralizedReweight(stats_of(COUNTS))(logits, labels, torch.full((len(labels),), 1 / len(labels)))
    class_weights = torch.tensor(softmax_losses.generalized_reweight(COUNTS, 0.8), dtype=torch.float64)
    expected = torch.nn.functional.cross_entropy(logits, labels, weight=class_weights)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("beta", "gamma", "alpha"), [(0.999, 2.0, 0.25), (0.9, 0.5, 0.6)])
@pytest.mark.parametrize("kind", BATCHES)
def test_class_balanced_focal_equals_the_transcription(kind: str, beta: float, gamma: float, alpha: float) -> None:
    logits, labels, weights = batch_of(kind, CLASSES, CLASSES)
    value = ClassBalancedFocal(stats_of(COUNTS), beta=beta, gamma=gamma, alpha=alpha)(logits, labels, weights)
    class_weights = softmax_losses.class_balanced_weights(COUNTS, beta)
    expected = torch.zeros((), dtype=torch.float64)
    for row, (label, weight) in enumerate(zip(labels.tolist(), weights.tolist(), strict=True)):
        focal = class_losses.focal(logits[row : row + 1], labels[row : row + 1], gamma, alpha)
        expected = expected + weight * class_weights[label] * focal
    assert_same(value, expected, logits)


@pytest.mark.parametrize("loss_type", [ClassBalanced, GeneralizedReweight])
def test_lvis_v1_equals_the_transcription(loss_type: type[ClassBalanced] | type[GeneralizedReweight]) -> None:
    logits, labels, weights = batch_of("seed 0", LVIS.num_classes + 1, LVIS.num_classes, rows=24)
    labels[0], labels[2] = int(LVIS.instances.argmin()), int(LVIS.instances.argmax())
    value = loss_type(LVIS)(logits, labels, weights)
    counts = LVIS.instances.tolist()
    if loss_type is ClassBalanced:
        class_weights = softmax_losses.class_balanced_weights(counts, 0.999)
    else:
        class_weights = softmax_losses.generalized_reweight(counts, 0.8)
    row_weights = weights * torch.tensor(class_weights, dtype=torch.float64)[labels]
    expected = softmax_losses.scaled_cross_entropy(logits, labels, row_weights)
    if loss_type is GeneralizedReweight:
        expected = expected * weights.sum() / row_weights.sum()
    assert_same(value, expected, logits)


@pytest.mark.parametrize(
    ("neutral", "plain", "columns"),
    [
        (ClassBalanced(stats_of(COUNTS), beta=0.0), CrossEntropy(stats_of(COUNTS)), CLASSES + 1),
        (GeneralizedReweight(stats_of(COUNTS), exponent=0.0), CrossEntropy(stats_of(COUNTS)), CLASSES + 1),
        (ClassBalancedFocal(stats_of(COUNTS), beta=0.0), Focal(stats_of(COUNTS)), CLASSES),
    ],
)
@pytest.mark.parametrize("kind", BATCHES)
def test_neutral_settings_weigh_nothing(kind: str, neutral: ClassLoss, plain: ClassLoss, columns: int) -> None:
    logits, labels, weights = batch_of(kind, columns, CLASSES)
    assert_same(neutral(logits, labels, weights), plain(logits, labels, weights), logits)


@pytest.mark.parametrize("counts", [COUNTS, [0], [3], [5, 5, 5], LVIS.instances.tolist()])
@pytest.mark.parametrize("loss_type", [ClassBalanced, GeneralizedReweight])
def test_the_weights_of_the_classes_add_up_to_their_number_and_background_weighs_one(
    loss_type: type[ClassBalanced] | type[GeneralizedReweight], counts: list[int]
) -> None:
    """Uniform logits cost log(C + 1) a row, so that a row of each class shows the sum of the weights."""
    loss, number = loss_type(stats_of(counts)), len(counts)
    logits = torch.zeros(number, number + 1, dtype=torch.float64)
    row = torch.tensor(number + 1.0, dtype=torch.float64).log().item()
    assert loss(logits, torch.arange(number)).item() == pytest.approx(number * row, rel=1e-9)
    assert loss(logits[:1], torch.tensor([number])).item() == pytest.approx(row, rel=1e-9)


def test_near_beta_one_the_weights_are_inverse_counts() -> None:
    logits = torch.zeros(2, 3, dtype=torch.float64)
    loss = ClassBalanced(stats_of([1, 4]), beta=1 - 1e-9)
    first, second = (loss(logits[:1], torch.tensor([label])).item() for label in (0, 1))
    assert first / second == pytest.approx(4, rel=1e-6)
