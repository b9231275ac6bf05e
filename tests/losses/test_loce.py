"""The equilibrium loss of LOCE against a literal transcription, and the mean scores it carries along."""

import copy

import pytest
import torch
from torch import Tensor

from detloss.losses import L1, LOCE, CrossEntropy
from detloss.losses.coder import Softmax
from detloss.stats import ClassStats
from tests.losses.conftest import COUNTS, stats_of
from tests.losses.softmax_batches import BATCHES, assert_same, batch_of, samples_with_objects
from tests.reference import softmax_losses

CLASSES = len(COUNTS)


def objects_of(labels: Tensor, kind: str) -> Tensor:
    """Split the rows of each class among up to two objects, whose numbers are in no order."""
    generator = torch.Generator().manual_seed(100 + BATCHES.index(kind))
    second = torch.randint(2, (len(labels),), generator=generator)
    return (7 * labels + 3 * second) % 10_007


def both(loss: LOCE, literal: softmax_losses.LOCE, kind: str, num_classes: int, rows: int) -> tuple[Tensor, ...]:
    """Return the value, the transcription's and the logits of a batch."""
    logits, labels, weights = batch_of(kind, num_classes + 1, num_classes, rows=rows)
    samples = samples_with_objects(logits, labels, weights, objects_of(labels, kind))
    expected = literal(logits, labels, weights, samples.foreground, samples.object_index)
    return loss(samples)["loss_classifier"], expected, logits


@pytest.mark.parametrize(
    "settings", [{}, {"decay": 0.5, "initial_score": 0.2, "background_score": 0.05}, {"decay": 0.0}]
)
@pytest.mark.parametrize("kind", BATCHES)
def test_the_first_batch_equals_the_transcription(kind: str, settings: dict[str, float]) -> None:
    loss, literal = LOCE(stats_of(COUNTS), **settings), softmax_losses.LOCE(CLASSES, **settings)
    assert_same(*both(loss, literal, kind, CLASSES, 40))


@pytest.mark.parametrize("order", [BATCHES, BATCHES[::-1]])
def test_batch_after_batch_equals_the_transcription(order: list[str]) -> None:
    loss, literal = LOCE(stats_of(COUNTS)), softmax_losses.LOCE(CLASSES)
    for kind in order:
        assert_same(*both(loss, literal, kind, CLASSES, 40))
        assert loss.mean_score.tolist() == pytest.approx(literal.mean_score, rel=1e-12)


def test_batches_of_lvis_v1_equal_the_transcription() -> None:
    stats = ClassStats.lvis_v1()
    loss, literal = LOCE(stats), softmax_losses.LOCE(stats.num_classes)
    for kind in BATCHES[:3]:
        assert_same(*both(loss, literal, kind, stats.num_classes, 24))


def test_every_object_counts_once_however_many_rows_show_it() -> None:
    """Scores by hand: log-odds make the softmax of three columns 1/2, 1/4 or 1/8 at class 0."""
    logits = torch.tensor([[2.0, 1, 1], [1, 1, 2], [1, 1, 6], [1, 2, 1], [1, 1, 2]], dtype=torch.float64).log()
    labels = torch.tensor([0, 0, 0, 1, 2])
    samples = samples_with_objects(logits, labels, torch.ones(5), torch.tensor([5, 5, 2, 9, -1]))
    loss = LOCE(stats_of([3, 1]))
    loss(samples)
    # Class 0: objects (1/2 + 1/4) / 2 and 1/8, two of them; class 1: one object, 1/2.
    first = 0.81 * 0.01 + 0.19 * (0.375 + 0.125) / 2
    second = 0.9 * 0.01 + 0.1 * 0.5
    assert loss.mean_score.tolist() == pytest.approx([first, second, 0.01], rel=1e-12)


@pytest.mark.parametrize("kind", BATCHES)
def test_equal_mean_scores_make_it_cross_entropy(kind: str) -> None:
    logits, labels, weights = batch_of(kind, CLASSES + 1, CLASSES)
    loss = LOCE(stats_of(COUNTS)).eval()
    value = loss(samples_with_objects(logits, labels, weights, labels))["loss_classifier"]
    assert_same(value, CrossEntropy(stats_of(COUNTS))(logits, labels, weights), logits)


def test_rows_of_weight_zero_batches_without_foreground_and_evaluation_leave_the_mean_scores_alone() -> None:
    loss, literal = LOCE(stats_of(COUNTS)), softmax_losses.LOCE(CLASSES)
    both(loss, literal, "seed 0", CLASSES, 12)
    before = copy.deepcopy(loss.state_dict())
    logits, labels, weights = batch_of("seed 1", CLASSES + 1, CLASSES)
    loss(samples_with_objects(logits, labels, torch.zeros_like(weights), labels))
    loss(samples_with_objects(logits, torch.full_like(labels, CLASSES), weights, labels))
    loss.eval()
    value = loss(samples_with_objects(logits, labels, weights, labels))["loss_classifier"]
    assert_same(value, literal.loss(logits, labels, weights), logits)
    assert before.keys() == loss.state_dict().keys()
    assert all(torch.equal(value, before[key]) for key, value in loss.state_dict().items())


def test_a_restored_loss_goes_on_as_if_never_interrupted() -> None:
    whole, second = LOCE(stats_of(COUNTS)), LOCE(stats_of(COUNTS))
    logits, labels, weights = batch_of("seed 0", CLASSES + 1, CLASSES)
    whole(samples_with_objects(logits, labels, weights, labels))
    second.load_state_dict(whole.state_dict())
    samples = samples_with_objects(*batch_of("seed 1", CLASSES + 1, CLASSES), torch.arange(12))
    fresh = LOCE(stats_of(COUNTS))(samples)["loss_classifier"].item()
    value = whole(samples)["loss_classifier"].item()
    assert second(samples)["loss_classifier"].item() == value != fresh


def test_two_forwards_may_precede_their_backward() -> None:
    loss, literal = LOCE(stats_of(COUNTS)), softmax_losses.LOCE(CLASSES)
    logits, labels, weights = batch_of("seed 0", CLASSES + 1, CLASSES)
    total, expected = [], []
    for these in (labels, labels.flip(0)):
        samples = samples_with_objects(logits, these, weights, these)
        total.append(loss(samples)["loss_classifier"])
        expected.append(literal(logits, these, weights, samples.foreground, samples.object_index))
    assert_same(total[0] + total[1], expected[0] + expected[1], logits)


def test_half_precision_keeps_the_mean_scores_in_float64() -> None:
    loss, literal = LOCE(stats_of(COUNTS)), softmax_losses.LOCE(CLASSES)
    logits, labels, weights = batch_of("seed 0", CLASSES + 1, CLASSES)
    half = logits.detach().to(torch.bfloat16)
    samples = samples_with_objects(half, labels, weights.float(), labels)
    value = loss(samples)["loss_classifier"]
    expected = literal(half.double(), labels, weights, samples.foreground, samples.object_index)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    assert loss.mean_score.dtype == torch.float64
    assert loss.mean_score.tolist() == pytest.approx(literal.mean_score, rel=1e-6)


@pytest.mark.parametrize("size", [1e4, -1e4, 45.0])
def test_extreme_logits_give_finite_values_and_gradients_batch_after_batch(size: float) -> None:
    loss = LOCE(stats_of(COUNTS))
    labels = torch.arange(CLASSES + 1)
    for _ in range(300):  # scores of 0 wear the mean score away
        logits = torch.full((CLASSES + 1, CLASSES + 1), size)
        logits[:, ::2] *= -1
        logits.requires_grad_()
        value = loss(samples_with_objects(logits, labels, torch.ones(CLASSES + 1), labels))["loss_classifier"]
        (gradient,) = torch.autograd.grad(value, logits)
        assert torch.isfinite(value)
        assert torch.isfinite(gradient).all()


def test_box_terms_and_auxiliary_ones_stand_beside_it() -> None:
    logits, labels, weights = batch_of("seed 0", CLASSES + 1, CLASSES)
    samples = samples_with_objects(logits, labels, weights, labels)
    samples.auxiliary["loss_mask"] = torch.tensor(7.0)
    terms = LOCE(stats_of(COUNTS), box_loss=L1())(samples)
    assert set(terms) == {"loss_classifier", "loss_box_reg", "loss_mask"}
    # Four deltas of each foreground row are off by 2.
    assert terms["loss_box_reg"].item() == pytest.approx(8 * weights[labels < CLASSES].sum().item(), rel=1e-6)
    assert terms["loss_mask"] == 7


def test_scores_are_the_plain_softmax() -> None:
    assert type(LOCE(stats_of(COUNTS)).coder) is Softmax
