"""Seesaw loss against a literal transcription of the paper, and the counts it carries from batch to batch."""

import copy

import pytest
import torch
from torch.nn import functional as F

from detloss.losses import Seesaw
from detloss.stats import ClassStats
from tests.losses.conftest import stats_of
from tests.losses.softmax_batches import BATCHES, assert_same, batch_of
from tests.reference import softmax_losses

CLASSES = 4
STATS = stats_of([1000, 40, 7, 0])
SETTINGS = [(0.8, 2.0, 0.01), (0.0, 2.0, 0.01), (0.8, 0.0, 0.01), (1.7, 0.6, 0.3)]


@pytest.mark.parametrize(("p", "q", "eps"), SETTINGS)
@pytest.mark.parametrize("kind", BATCHES)
def test_the_first_batch_equals_the_transcription(kind: str, p: float, q: float, eps: float) -> None:
    logits, labels, weights = batch_of(kind, CLASSES + 2, CLASSES)
    value = Seesaw(STATS, p=p, q=q, eps=eps)(logits, labels, weights)
    assert_same(value, softmax_losses.Seesaw(CLASSES, p, q, eps)(logits, labels, weights), logits)


@pytest.mark.parametrize("order", [BATCHES, BATCHES[::-1]])
def test_batch_after_batch_equals_the_transcription(order: list[str]) -> None:
    loss, literal = Seesaw(STATS), softmax_losses.Seesaw(CLASSES)
    for kind in order:
        logits, labels, weights = batch_of(kind, CLASSES + 2, CLASSES)
        assert_same(loss(logits, labels, weights), literal(logits, labels, weights), logits)
        assert loss.counts.tolist() == literal.counts


def test_batches_of_lvis_v1_equal_the_transcription() -> None:
    stats = ClassStats.lvis_v1()
    loss, literal = Seesaw(stats), softmax_losses.Seesaw(stats.num_classes)
    for kind in BATCHES[:3]:
        logits, labels, weights = batch_of(kind, stats.num_classes + 2, stats.num_classes, rows=24)
        labels[::2] %= 3  # so that some classes are seen more often than others
        assert_same(loss(logits, labels, weights), literal(logits, labels, weights), logits)


def test_a_small_score_of_the_label_is_raised_to_eps_before_others_are_divided_by_it() -> None:
    logits = torch.tensor([[0.0, 12.0, 1.0, 1.0, 0.3, -0.2]], dtype=torch.float64, requires_grad=True)
    labels, weights = torch.tensor([0]), torch.ones(1, dtype=torch.float64)
    scores = logits[0, :4].softmax(dim=0)
    assert scores[0] < 0.01 and scores[2] < 0.01 < scores[1]  # the third is above the label's, yet not above eps
    # S_ij is 1 but for the second class; no class was seen more often than another would have to be to matter.
    denominator = logits[0, :4].exp()[[0, 2, 3]].sum() + (scores[1].item() / 0.01) ** 2 * logits[0, 1].exp()
    expected = denominator.log() - logits[0, 0] + F.cross_entropy(logits[:, 4:], torch.tensor([0]))
    assert_same(Seesaw(STATS)(logits, labels, weights), expected, logits)


@pytest.mark.parametrize("kind", BATCHES)
def test_without_both_factors_it_is_cross_entropy_of_classes_and_of_objectness(kind: str) -> None:
    logits, labels, weights = batch_of(kind, CLASSES + 2, CLASSES)
    foreground = labels < CLASSES
    classes = F.cross_entropy(logits[foreground, :CLASSES], labels[foreground], reduction="none")
    objectness = F.cross_entropy(logits[:, CLASSES:], (~foreground).long(), reduction="none")
    expected = (classes * weights[foreground]).sum() + (objectness * weights).sum()
    assert_same(Seesaw(STATS, p=0.0, q=0.0)(logits, labels, weights), expected, logits)


def test_a_class_is_counted_once_for_every_row_before_the_loss() -> None:
    loss = Seesaw(STATS)
    logits = torch.zeros(7, CLASSES + 2, dtype=torch.float64)
    labels = torch.tensor([0, 0, 0, 0, 1, 1, CLASSES])
    weights = torch.tensor([1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    value = loss(logits, labels, weights)
    assert loss.counts.tolist() == [3, 1, 0, 0]
    # Equal scores leave mitigation alone: an unseen class counts as 1.
    punished = 1 + 3 * (1 / 3) ** 0.8  # for a label seen three times, of which each other class once or never
    expected = 3 * torch.tensor(punished).log() + torch.tensor(4.0).log() + 5 * torch.tensor(2.0).log()
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)


def test_rows_of_weight_zero_and_evaluation_leave_the_counts_alone() -> None:
    loss, literal = Seesaw(STATS), softmax_losses.Seesaw(CLASSES)
    logits, labels, weights = batch_of("seed 0", CLASSES + 2, CLASSES)
    loss(logits, labels, weights)
    literal(logits, labels, weights)
    before = copy.deepcopy(loss.state_dict())
    loss(logits, labels, torch.zeros_like(weights))
    loss.eval()
    logits, labels, weights = batch_of("seed 1", CLASSES + 2, CLASSES)
    assert_same(loss(logits, labels, weights), literal.loss(logits, labels, weights), logits)
    assert before.keys() == loss.state_dict().keys()
    assert all(torch.equal(value, before[key]) for key, value in loss.state_dict().items())


def test_a_restored_loss_goes_on_as_if_never_interrupted() -> None:
    whole, second = Seesaw(STATS), Seesaw(STATS)
    whole(*batch_of("seed 0", CLASSES + 2, CLASSES))
    second.load_state_dict(whole.state_dict())
    batch = batch_of("seed 1", CLASSES + 2, CLASSES)
    assert second(*batch).item() == whole(*batch).item()
    assert Seesaw(STATS)(*batch).item() != whole(*batch).item()


def test_two_forwards_may_precede_their_backward() -> None:
    loss, literal = Seesaw(STATS), softmax_losses.Seesaw(CLASSES)
    logits, labels, weights = batch_of("seed 0", CLASSES + 2, CLASSES)
    other = labels.flip(0)
    total = loss(logits, labels, weights) + loss(logits, other, weights)
    assert_same(total, literal(logits, labels, weights) + literal(logits, other, weights), logits)


def test_the_counts_are_float64_and_without_a_graph() -> None:
    loss = Seesaw(STATS)
    loss(*batch_of("seed 0", CLASSES + 2, CLASSES)).backward()
    assert loss.counts.dtype == torch.float64
    assert not any(buffer.requires_grad for buffer in loss.buffers())
