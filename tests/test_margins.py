"""Margins against eq. 8, 11 and 35-37 written out, and against the numbers of LVIS v1."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch

from detloss import margins
from detloss.stats import ClassStats

COUNTS = [1000, 40, 7, 1, 0]


def test_a_class_that_never_occurs_counts_as_one() -> None:
    assert margins.positive_counts(COUNTS).tolist() == [1000, 40, 7, 1, 1]


def test_background_and_negative_counts_are_eq_35_and_37() -> None:
    positive = margins.positive_counts(COUNTS)
    background = margins.background_count(positive, 2.5)
    assert background == 2.5 * 1049
    assert margins.negative_counts(positive, background).tolist() == [
        1049 * 3.5 - count for count in (1000, 40, 7, 1, 1)
    ]


def test_margins_are_eq_8_and_weights_their_inverses() -> None:
    gamma_plus, gamma_minus = margins.margins([16.0, 1.0], [1.0, 81.0])
    # Fourth roots 2 and 1, then 1 and 3.
    np.testing.assert_allclose(gamma_plus, [1 / 3, 3 / 4], rtol=1e-15)
    np.testing.assert_allclose(gamma_minus, [2 / 3, 1 / 4], rtol=1e-15)
    w_plus, w_minus = margins.weights([16.0, 1.0], [1.0, 81.0])
    np.testing.assert_allclose(w_plus, [3, 4 / 3], rtol=1e-15)
    np.testing.assert_allclose(w_minus, [3 / 2, 4], rtol=1e-15)


def test_the_inverse_negative_margin_is_one_plus_the_fourth_root_of_alpha() -> None:
    positive = np.array([3.0, 50.0, 1e6])
    negative = np.array([1e6, 20.0, 1.0])
    _, w_minus = margins.weights(positive, negative)
    np.testing.assert_allclose(w_minus, 1 + margins.ratio(positive, negative) ** 0.25, rtol=1e-14)


def test_the_logit_shift_is_the_logarithm_of_the_weights_ratio() -> None:
    positive, negative = np.array([1.0, 9.0, 1e7]), np.array([1e9, 9.0, 3.0])
    expected = [
        math.log((1 / (n**0.25 / (p**0.25 + n**0.25))) / (1 / (p**0.25 / (p**0.25 + n**0.25))))
        for p, n in zip(positive, negative, strict=True)
    ]
    np.testing.assert_allclose(margins.logit_shift(positive, negative), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("alpha", ["1e-6", "0.01", "1", "6.3313", "1e4", "1e8", "1e12"])
def test_the_detection_weight_is_exact_where_floats_would_cancel(alpha: str) -> None:
    with localcontext() as context:
        context.prec = 50
        exact = Decimal(alpha) * ((1 + Decimal(alpha)) / Decimal(alpha)).ln()
    assert float(margins.detection_weight(float(alpha))) == pytest.approx(float(exact), rel=1e-14)


def test_the_detection_weight_is_below_the_upper_end_of_its_range() -> None:
    alpha = np.geomspace(1e-3, 1e6, 50)
    # (1/9 + 2 alpha) / (1 + 2 alpha) bounds m_c above (ECM, Theorem 2, with the erratum).
    assert np.all(margins.detection_weight(alpha) < (1 / 9 + 2 * alpha) / (1 + 2 * alpha))


def test_one_class_without_background_is_finite() -> None:
    positive = margins.positive_counts([0])
    negative = margins.negative_counts(positive)
    assert negative.tolist() == [1]
    assert margins.margins(positive, negative)[0].tolist() == [0.5]
    assert np.isfinite(margins.logit_shift(positive, negative)).all()


def test_lvis_v1_has_the_margins_of_the_official_code() -> None:
    stats = ClassStats.lvis_v1()
    positive = margins.positive_counts(stats.instances)
    background = margins.background_count(positive, margins.OFFICIAL_BACKGROUND_RATIO)
    positive = np.append(positive, background)
    negative = margins.negative_counts(positive)
    gamma_plus, _ = margins.margins(positive, negative)
    weight = margins.detection_weight(margins.ratio(positive, negative))
    # Numbers read off the authors' code on the real counts.
    assert gamma_plus[:-1].min() == pytest.approx(0.7863, abs=5e-5)
    assert stats.names[int(gamma_plus[:-1].argmin())] == "banana"
    assert gamma_plus[:-1].max() == pytest.approx(0.9822, abs=5e-5)
    assert gamma_plus[-1] == pytest.approx(0.387, abs=5e-4)
    assert weight[-1] == pytest.approx(0.3147, abs=5e-5)
    assert weight[:-1].min() == pytest.approx(0.9973, abs=5e-5)
    assert 0.99999 < weight[:-1].max() < 1


@pytest.mark.parametrize("alpha", [1.0, 50.0, 1e6])
def test_surrogate_gradients_are_eq_33_and_34_written_out(alpha: float) -> None:
    gamma_plus = alpha**0.25 / (1 + alpha**0.25)
    w_plus, w_minus = 1 / gamma_plus, 1 / (1 - gamma_plus)
    logits = [-3.0, -0.5, 0.0, 1.0, 4.0]
    on_positive, on_negative = margins.surrogate_gradients(logits, alpha)
    for f, pulled, pushed in zip(logits, on_positive, on_negative, strict=True):
        total = w_plus * math.exp(f) + w_minus * math.exp(-f)
        assert pulled == pytest.approx(2 * w_minus * math.exp(-f) / total, rel=1e-12)
        assert pushed == pytest.approx(2 * w_plus * math.exp(f) / total, rel=1e-12)


def test_surrogate_gradients_are_finite_far_out() -> None:
    on_positive, on_negative = margins.surrogate_gradients([-1e4, 1e4], 1e6)
    assert on_positive.tolist() == [2, 0] and on_negative.tolist() == [0, 2]


def test_mitigation_is_seesaws_written_out() -> None:
    counts = [1000, 40, 7, 0]
    expected = [[1.0 if n >= m else (max(n, 1) / m) ** 0.8 for n in counts] for m in (1000, 40, 7, 1)]
    np.testing.assert_allclose(margins.mitigation(counts, 0.8), expected, rtol=1e-12)
    assert (margins.mitigation(counts, 0.0) == 1).all()


def test_counts_with_background_are_eq_35_to_37() -> None:
    positive, negative = margins.class_counts([6, 0, 3], 2.0)
    assert positive.tolist() == [6, 1, 3, 20] and negative.tolist() == [24, 29, 27, 10]
    positive, negative = margins.class_counts([6, 0, 3])
    assert positive.tolist() == [6, 1, 3] and negative.tolist() == [4, 9, 7]


def test_the_gradient_ratio_is_that_of_n_minus_negatives_and_n_positives_of_ecm_at_logit_0() -> None:
    """Against autograd on eq. 10 and 11 as they stand: the exponential form, one logit, y = 1 and y = 0."""
    positive, negative = np.array([3.0, 50.0, 1e6]), np.array([1e6, 20.0, 1.0])
    w_plus, w_minus = (torch.from_numpy(weight) for weight in margins.weights(positive, negative))
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    score = w_plus * logits.exp() / (w_plus * logits.exp() + w_minus * (-logits).exp())
    (pull,) = torch.autograd.grad(-score.log().sum(), logits, retain_graph=True)
    (push,) = torch.autograd.grad(-(1 - score).log().sum(), logits)
    assert (pull < 0).all() and (push > 0).all()
    expected = negative * push.numpy() / (positive * -pull.numpy())
    np.testing.assert_allclose(margins.gradient_ratio(positive, negative), expected, rtol=1e-12)
    np.testing.assert_allclose(expected, (negative / positive) ** 0.75, rtol=1e-12)
