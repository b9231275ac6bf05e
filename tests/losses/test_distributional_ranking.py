"""DR loss against its transcription, image by image, and at its edges."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from detloss.losses import dense
from detloss.losses import distributional_ranking as module
from detloss.losses.distributional_ranking import distributional_ranking
from tests.losses.sigmoid_batches import assert_equal_with_gradients
from tests.reference import distributional_ranking as literal

CLASSES = 3


def batch_of(rows: int, seed: int, *, images: int = 1, background: float = 0.6) -> tuple[Tensor, Tensor, Tensor]:
    """Float64 logits that require a gradient, labels of which some are -1, and the image of every row."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, CLASSES, generator=generator, dtype=torch.float64) * 2
    labels = torch.randint(CLASSES, (rows,), generator=generator)
    labels[torch.rand(rows, generator=generator) < background] = CLASSES
    labels[torch.rand(rows, generator=generator) < 0.2] = -1
    return logits.requires_grad_(), labels, torch.randint(images, (rows,), generator=generator)


@settings(deadline=None)
@given(
    rows=st.integers(1, 20),
    images=st.integers(1, 4),
    background=st.sampled_from([0.0, 0.6, 1.0]),
    positive_lambda=st.sampled_from([1.0, 0.2]),
    negative_lambda=st.sampled_from([0.1 / math.log(3.5), 0.5]),
    seed=st.integers(0, 2**20),
)
def test_value_and_gradient_equal_the_transcription_image_by_image(
    rows: int, images: int, background: float, positive_lambda: float, negative_lambda: float, seed: int
) -> None:
    logits, labels, image = batch_of(rows, seed, images=images, background=background)
    lambdas = {"positive_lambda": positive_lambda, "negative_lambda": negative_lambda}
    found = distributional_ranking(logits, labels, image, **lambdas)
    expected = literal.distributional_ranking(logits, labels, image.tolist(), **lambdas)
    # In some of these batches nothing but ignored rows is left, and the transcription is a constant.
    assert_equal_with_gradients(found, expected + 0 * logits.sum(), logits)


def test_the_other_numbers_enter_as_in_the_transcription() -> None:
    logits, labels, image = batch_of(20, 0, images=2)
    for numbers in ({"smoothness": 4.0}, {"tau": 1.5}, {"margin": 0.3}):
        found = distributional_ranking(logits, labels, image, **numbers)
        assert_equal_with_gradients(
            found, literal.distributional_ranking(logits, labels, image.tolist(), **numbers), logits
        )


def test_without_an_image_index_the_batch_is_one_distribution() -> None:
    logits, labels, _ = batch_of(20, 1)
    found = distributional_ranking(logits, labels)
    assert_equal_with_gradients(found, literal.distributional_ranking(logits, labels, [0] * 20), logits)


def test_images_are_averaged_and_an_absent_one_does_not_count() -> None:
    logits, labels, image = batch_of(30, 2, images=2)
    for numbers in (image, 3 * image + 1):
        first, second = (distributional_ranking(logits[image == one], labels[image == one]) for one in (0, 1))
        assert_equal_with_gradients(distributional_ranking(logits, labels, numbers), (first + second) / 2, logits)


def test_a_perfect_ranking_by_hand() -> None:
    # One positive of score 3/4 and two negatives of score 1/2: P- - P+ + margin = 1/4.
    logits = torch.tensor([[math.log(3.0), 0.0], [0.0, 50.0]], dtype=torch.float64)[:, :1].repeat(1, 2)
    logits[0, 1] = logits[1] = 0
    value = distributional_ranking(logits, torch.tensor([0, 2]))
    assert value.item() == pytest.approx(4 / 6 * math.log(1 + math.exp(6 / 4)), abs=1e-12)


def test_without_positives_the_negatives_are_held_against_a_score_of_1() -> None:
    logits = torch.zeros(4, CLASSES, dtype=torch.float64, requires_grad=True)
    value = distributional_ranking(logits, torch.full((4,), CLASSES))
    assert value.item() == pytest.approx(4 / 6 * math.log(2), abs=1e-12)
    (gradient,) = torch.autograd.grad(value, logits)
    # tau sigma(0) shared among 12 entries, times p (1 - p).
    torch.testing.assert_close(gradient, torch.full_like(gradient, 4 * 0.5 / 12 / 4), rtol=1e-12, atol=0)


def test_ignored_rows_get_no_gradient_and_change_nothing() -> None:
    logits, labels, _ = batch_of(20, 3)
    changed = torch.where((labels < 0)[:, None], 100.0, logits)
    value = distributional_ranking(changed, labels)
    torch.testing.assert_close(value, distributional_ranking(logits[labels >= 0], labels[labels >= 0]))
    (gradient,) = torch.autograd.grad(distributional_ranking(logits, labels), logits)
    assert gradient[labels < 0].abs().max() == 0 < gradient[labels >= 0].abs().min()


@pytest.mark.parametrize("rows", [0, 3])
def test_a_batch_of_nothing_or_of_ignored_rows_has_a_gradient_of_0(rows: int) -> None:
    logits = torch.randn(rows, CLASSES, generator=torch.Generator().manual_seed(0)).requires_grad_()
    distributional_ranking(logits, torch.full((rows,), -1), torch.zeros(rows, dtype=torch.int64)).backward()
    assert logits.grad is not None and logits.grad.tolist() == [[0.0] * CLASSES] * rows


def test_one_class_works() -> None:
    logits, _, image = batch_of(12, 4, images=2)
    labels = torch.arange(12) % 2
    found = distributional_ranking(logits[:, :1], labels, image)
    assert_equal_with_gradients(
        found, literal.distributional_ranking(logits[:, :1], labels, image.tolist()), logits
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [50.0, 1e4])
@pytest.mark.parametrize("negative_lambda", [0.08, 1e-4])
def test_extreme_logits_and_temperatures_stay_finite(
    dtype: torch.dtype, scale: float, negative_lambda: float
) -> None:
    logits, labels, image = batch_of(20, 5, images=3)
    logits = (logits.detach() * scale).to(dtype).requires_grad_()
    value = distributional_ranking(logits, labels, image, negative_lambda=negative_lambda, positive_lambda=1e-4)
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.isfinite() and gradient.isfinite().all()
    assert 0 < value <= 4 / 6 * math.log(1 + math.exp(9)) + 1e-6  # the most that two scores allow


def test_a_cold_temperature_finds_the_highest_of_low_scores() -> None:
    # Without the highest score taken off, e^(p / lambda) of the positive overflows and of the others is lost.
    logits = torch.tensor([[9.0, -8.0], [-9.0, -10.0]], dtype=torch.float64, requires_grad=True)
    value = distributional_ranking(logits, torch.tensor([0, 2]), negative_lambda=1e-6)
    gap = torch.sigmoid(logits[0, 1]) - torch.sigmoid(logits[0, 0]) + 0.5
    assert value.item() == pytest.approx(4 / 6 * math.log(1 + math.exp(6 * gap.item())), rel=1e-9)


@pytest.mark.parametrize("chunk", [1, 7, 20])
def test_the_size_of_the_chunks_does_not_matter(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    logits, labels, image = batch_of(20, 6, images=3)
    expected = distributional_ranking(logits, labels, image)
    assert module.CHUNK == dense.CHUNK > logits.numel()
    monkeypatch.setattr(module, "CHUNK", chunk)
    assert_equal_with_gradients(distributional_ranking(logits, labels, image), expected, logits)


def test_lower_precision_gives_what_the_exact_values_give() -> None:
    logits, labels, image = batch_of(400, 7, images=2)
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 2**-8)):
        low = logits.detach().to(dtype).requires_grad_()
        exact = low.detach().double().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = distributional_ranking(low, labels, image)
        expected = distributional_ranking(exact, labels, image)
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(expected.item(), rel=1e-6)
        (gradient,), (exactly,) = torch.autograd.grad(value, low), torch.autograd.grad(expected, exact)
        torch.testing.assert_close(gradient.double(), exactly, rtol=tolerance, atol=1e-8)


def test_without_gradients_the_value_is_the_same() -> None:
    logits, labels, image = batch_of(20, 8, images=2)
    with torch.no_grad():
        value = distributional_ranking(logits, labels, image)
    assert not value.requires_grad and value.item() == distributional_ranking(logits, labels, image).item()
