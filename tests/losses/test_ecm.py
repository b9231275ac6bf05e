"""ECM against a literal float64 transcription of the paper, and the measured background ratio."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from detloss.losses import ECM, BinaryCrossEntropy, Focal, FocalECM
from detloss.stats import ClassStats
from tests.losses.conftest import COUNTS, stats_of
from tests.reference import class_losses


def batch(rows: int, columns: int, *, seed: int = 0, size: float = 2.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, columns, generator=generator, dtype=torch.float64) * size
    labels = torch.randint(len(COUNTS) + 1, (rows,), generator=generator)
    return logits.requires_grad_(), labels


def labels_of(foreground: int, background: int, num_classes: int = len(COUNTS)) -> Tensor:
    return torch.tensor([0] * foreground + [num_classes] * background)


@pytest.mark.parametrize("ratio", [0.01, 1.0, 6.3313, 300.0])
def test_ecm_and_its_gradient_equal_the_transcription(ratio: float) -> None:
    logits, labels = batch(12, 6)
    literal = class_losses.ecm(logits, labels, COUNTS, ratio)
    (literal_gradient,) = torch.autograd.grad(literal, logits)
    loss = ECM(stats_of(COUNTS), background_ratio=ratio)(logits, labels)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == pytest.approx(literal.item(), rel=1e-9)
    torch.testing.assert_close(gradient, literal_gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, 0.25), (1.5, 0.6), (0.0, 0.5)])
def test_focal_ecm_and_its_gradient_equal_the_transcription(gamma: float, alpha: float) -> None:
    logits, labels = batch(12, 5)
    literal = class_losses.focal_ecm(logits, labels, COUNTS, gamma, alpha)
    (literal_gradient,) = torch.autograd.grad(literal, logits)
    loss = FocalECM(stats_of(COUNTS), gamma=gamma, alpha=alpha)(logits, labels)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == pytest.approx(literal.item(), rel=1e-9)
    torch.testing.assert_close(gradient, literal_gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("counts", [[3], [0], [0, 0, 0]])
def test_one_class_and_classes_that_never_occur_equal_the_transcription(counts: list[int]) -> None:
    labels = torch.tensor([0, len(counts)])
    logits = torch.linspace(-2, 2, 2 * (len(counts) + 1), dtype=torch.float64).view(2, -1)
    two_stage = ECM(stats_of(counts), background_ratio=2.0)(logits, labels)
    assert two_stage.item() == pytest.approx(class_losses.ecm(logits, labels, counts, 2.0).item(), rel=1e-9)
    one_stage = FocalECM(stats_of(counts))(logits[:, :-1], labels)
    expected = class_losses.focal_ecm(logits[:, :-1], labels, counts)
    assert one_stage.item() == pytest.approx(expected.item(), rel=1e-9)


def test_the_decision_boundary_lies_at_the_margin() -> None:
    """Where the surrogate score is 1/2, the sigmoid of slope 2, e^f / (e^f + e^-f), is gamma+ (below eq. 11)."""
    loss = ECM(stats_of(COUNTS), background_ratio=6.3313)
    positive = np.array([1000, 40, 7, 1, 1, 6.3313 * 1049])
    negative = positive.sum() - positive
    boundary = -loss.shift / 2
    score = boundary.exp() / (boundary.exp() + (-boundary).exp())
    gamma_plus = negative**0.25 / (positive**0.25 + negative**0.25)
    np.testing.assert_allclose(score.numpy(), gamma_plus, rtol=1e-12)


def test_lvis_margins_and_weights_are_those_of_the_official_code() -> None:
    loss = ECM(ClassStats.lvis_v1(), background_ratio=6.3313)
    gamma_plus = 1 / (1 + loss.shift.exp())  # shift = log(gamma- / gamma+), and they add up to 1
    assert gamma_plus[:-1].min().item() == pytest.approx(0.7863, abs=5e-5)
    assert gamma_plus[:-1].max().item() == pytest.approx(0.9822, abs=5e-5)
    assert gamma_plus[-1].item() == pytest.approx(0.387, abs=5e-4)
    assert loss.class_weight[-1].item() == pytest.approx(0.3147, abs=5e-5)


def test_equal_counts_reduce_ecm_to_binary_cross_entropy_of_twice_the_logit() -> None:
    """One class as frequent as the background: no margin, and m = log 2."""
    logits = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 1, 1, 0, 1, 0])
    plain = BinaryCrossEntropy(stats_of([1, 1]))(2 * logits, labels)
    loss = ECM(stats_of([7]), background_ratio=1.0)(logits, labels)
    assert loss.item() == pytest.approx(math.log(2) * plain.item(), rel=1e-12)


def test_equal_counts_reduce_focal_ecm_to_focal_of_twice_the_logit() -> None:
    logits = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 1, 2, 2, 1, 0])
    plain = Focal(stats_of([5, 5]))(2 * logits, labels)
    loss = FocalECM(stats_of([5, 5]))(logits, labels)
    assert loss.item() == pytest.approx(math.log(2) * plain.item(), rel=1e-12)


def test_the_running_ratio_includes_the_current_batch() -> None:
    stats, (logits, _) = stats_of(COUNTS), batch(8, 6)
    loss = ECM(stats)
    loss(logits, labels_of(2, 6))
    assert loss.background_ratio == 3.0
    measured = loss(logits, labels_of(4, 4))
    assert loss.background_ratio == 10 / 6
    literal = class_losses.ecm(logits, labels_of(4, 4), COUNTS, 10 / 6)
    assert measured.item() == pytest.approx(literal.item(), rel=1e-9)
    assert loss.state_scalars() == {"background_ratio": 10 / 6}


def test_the_ratio_freezes_after_the_forwards_of_the_measured_steps() -> None:
    logits, _ = batch(4, 6)
    loss = ECM(stats_of(COUNTS), measure_steps=2, accumulate=3)
    for _ in range(5):
        loss(logits, labels_of(2, 2))
    loss(logits, labels_of(1, 3))  # the sixth and last that counts
    assert loss.background_ratio == 13 / 11
    before = copy.deepcopy(loss.state_dict())
    loss(logits, labels_of(0, 4))
    assert loss.background_ratio == 13 / 11
    assert all(torch.equal(value, before[key]) for key, value in loss.state_dict().items())


def test_a_given_ratio_is_never_measured() -> None:
    logits, _ = batch(4, 6)
    loss = ECM(stats_of(COUNTS), background_ratio=6.3313)
    loss(logits, labels_of(1, 3))
    assert loss.background_ratio == 6.3313


def test_a_restored_loss_goes_on_as_if_never_interrupted() -> None:
    stats, (logits, _) = stats_of(COUNTS), batch(8, 6)
    stream = [labels_of(2, 6), labels_of(5, 3), labels_of(1, 7), labels_of(8, 0)]
    whole = ECM(stats, measure_steps=3)
    expected = [whole(logits, labels).item() for labels in stream]
    first = ECM(stats, measure_steps=3)
    got = [first(logits, labels).item() for labels in stream[:2]]
    second = ECM(stats, measure_steps=3)
    second.load_state_dict(first.state_dict())
    assert second.background_ratio == first.background_ratio == 9 / 7
    got += [second(logits, labels).item() for labels in stream[2:]]
    assert got == expected
    assert second.background_ratio == 16 / 8


def test_evaluation_neither_measures_nor_counts_steps() -> None:
    logits, _ = batch(8, 6)
    loss = ECM(stats_of(COUNTS))
    loss(logits, labels_of(4, 4))
    before = copy.deepcopy(loss.state_dict())
    loss.eval()
    loss(logits, labels_of(1, 7))
    assert all(torch.equal(value, before[key]) for key, value in loss.state_dict().items())


def test_ignored_rows_are_not_measured() -> None:
    logits, _ = batch(8, 6)
    loss = ECM(stats_of(COUNTS))
    weights = torch.tensor([0.5, 0, 0.5, 0.5, 0.5, 0, 0, 0])
    loss(logits, labels_of(2, 6), weights)
    assert loss.background_ratio == 3.0  # one foreground and three background rows count


def test_a_first_batch_without_foreground_or_without_background_is_finite() -> None:
    for labels in (labels_of(0, 8), labels_of(8, 0)):
        logits, _ = batch(8, 6)
        loss = ECM(stats_of(COUNTS))(logits, labels)
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("ratio", [0.0, -1.0, math.inf, math.nan])
def test_an_impossible_ratio_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match="background_ratio"):
        ECM(stats_of(COUNTS), background_ratio=ratio)


def test_measuring_does_not_leave_a_graph_in_the_buffers() -> None:
    logits, labels = batch(8, 6)
    loss = ECM(stats_of(COUNTS))
    loss(logits, labels).backward()
    assert not any(buffer.requires_grad for buffer in loss.buffers())


def test_two_forwards_may_precede_their_backward() -> None:
    """A measuring loss changes its weights in the second forward; the first keeps those it was made with."""
    logits, _ = batch(8, 6)
    loss = ECM(stats_of(COUNTS))
    total = loss(logits, labels_of(2, 6)) + loss(logits, labels_of(6, 2))
    literal = class_losses.ecm(logits, labels_of(2, 6), COUNTS, 3.0)
    literal = literal + class_losses.ecm(logits, labels_of(6, 2), COUNTS, 1.0)
    gradients = [torch.autograd.grad(value, logits)[0] for value in (total, literal)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)
