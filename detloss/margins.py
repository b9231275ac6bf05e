"""From class counts to margins, weights and priors: one pure float64 function per equation.

Symbols follow "Long-tail Detection with Effective Class-Margins" (ECM, ECCV 2022): for a class c,
``positive`` is n_c, ``negative`` is n_{-c} and ``ratio`` is alpha_c = n_{-c} / n_c. All arrays are [C].
A class that never occurs counts as 1, so nothing here is infinite.
"""

from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

OFFICIAL_BACKGROUND_RATIO = 6.3313
"""Background to foreground RoIs of Mask R-CNN R-50 on LVIS v1, as the authors' code fixes it."""


def positive_counts(instances: ArrayLike) -> Array:
    """Return n_c [C], instances per class with 0 counted as 1 (eq. 36)."""
    return np.maximum(np.asarray(instances, dtype=np.float64), 1.0)


def background_count(positive: ArrayLike, background_ratio: float) -> float:
    """Return n_bg = r * sum_c n_c (eq. 35)."""
    return float(background_ratio * np.sum(np.asarray(positive, dtype=np.float64)))


def negative_counts(positive: ArrayLike, background: float = 0.0) -> Array:
    """Return n_{-c} [C] = (sum of all counts, background included) - n_c (eq. 37), at least 1."""
    counts = np.asarray(positive, dtype=np.float64)
    return np.maximum(counts.sum() + background - counts, 1.0)


def ratio(positive: ArrayLike, negative: ArrayLike) -> Array:
    """Return alpha_c [C] = n_{-c} / n_c (Theorem 2)."""
    return np.asarray(negative, dtype=np.float64) / np.asarray(positive, dtype=np.float64)


def margins(positive: ArrayLike, negative: ArrayLike) -> tuple[Array, Array]:
    """Return gamma_c^+ and gamma_c^- [C], which add up to 1 (eq. 8)."""
    positive_root = np.asarray(positive, dtype=np.float64) ** 0.25
    negative_root = np.asarray(negative, dtype=np.float64) ** 0.25
    total = positive_root + negative_root
    return negative_root / total, positive_root / total


def weights(positive: ArrayLike, negative: ArrayLike) -> tuple[Array, Array]:
    """Return w_c^+ and w_c^- [C], the inverse margins (eq. 11)."""
    gamma_plus, gamma_minus = margins(positive, negative)
    return 1.0 / gamma_plus, 1.0 / gamma_minus


def logit_shift(positive: ArrayLike, negative: ArrayLike) -> Array:
    """Return log(w_c^+ / w_c^-) [C], what the surrogate score adds to 2 f(x)_c.

    Eq. 11 reads s = w+ e^f / (w+ e^f + w- e^-f) = sigmoid(2 f + log(w+ / w-)), and with eq. 8
    w+ / w- = gamma- / gamma+ = (n_c / n_{-c})^(1/4).
    """
    positive_log = np.log(np.asarray(positive, dtype=np.float64))
    negative_log = np.log(np.asarray(negative, dtype=np.float64))
    return 0.25 * (positive_log - negative_log)


def detection_weight(alpha: ArrayLike) -> Array:
    """Return m_c [C] = alpha log((1 + alpha) / alpha), the lower end of its range below Theorem 2."""
    alpha = np.asarray(alpha, dtype=np.float64)
    return alpha * np.log1p(1.0 / alpha)


def gradient_ratio(positive: ArrayLike, negative: ArrayLike) -> Array:
    """Return the negative over the positive gradient [C] that ECM's margins make where every logit is 0.

    By eq. 33 a positive pulls f_c by 2 w- e^-f / (w+ e^f + w- e^-f) and by eq. 34 (at -f) a negative pushes it by
    2 w+ e^f over the same; m_c cancels. At f = 0 a negative counts w+ / w- = alpha^(-1/4) positives, and alpha of
    them stand against one positive: alpha^(3/4), where binary cross entropy has alpha.
    """
    gamma_plus, gamma_minus = margins(positive, negative)
    return ratio(positive, negative) * gamma_minus / gamma_plus


def log_priors(instances: ArrayLike, background_ratio: float | None = None) -> Array:
    """Return log pi [C + 1], the log share of each class among the instances; background's is 0 (no shift).

    With a background ratio r the shares are over C + 1 classes, with n_bg = r * sum_c n_c.
    """
    positive = positive_counts(instances)
    if background_ratio is None:
        return np.append(np.log(positive / positive.sum()), 0.0)
    counts = np.append(positive, background_count(positive, background_ratio))
    return np.log(counts / counts.sum())


def effective_number_weights(instances: ArrayLike, beta: float) -> Array:
    """Return (1 - beta) / (1 - beta^n_c) [C], scaled to a mean of 1 (class-balanced loss, CVPR 2019)."""
    if not 0 <= beta < 1:
        raise ValueError(f"beta must be at least 0 and below 1, got {beta}")
    return _of_mean_1((1 - beta) / (1 - beta ** positive_counts(instances)))


def inverse_power_weights(instances: ArrayLike, exponent: float) -> Array:
    """Return (n_c / sum n)^-exponent [C], scaled to a mean of 1 (DisAlign, CVPR 2021)."""
    positive = positive_counts(instances)
    return _of_mean_1((positive / positive.sum()) ** -exponent)


def _of_mean_1(values: Array) -> Array:
    return values / values.mean()


def inverse_frequency(counts: ArrayLike, total: int, variant: str) -> Array:
    """Return how rare each class is [C], from its share p = counts / total (IIF, IEEE TIP 2023).

    raw: -log p; smooth: log((total + 1) / (counts + 1)) + 1; rel: log((1 - p) / p); normit: minus the normal
    quantile of p; gombit: -log(-log(1 - p)); base2 and base10: -log p to that base. A share of 1 is kept below
    it by half a count, where a variant would be endless.
    """
    counts = positive_counts(counts)
    share = np.minimum(counts, total - 0.5 if variant in ("rel", "normit", "gombit") else total) / total
    if variant == "smooth":
        return np.log((total + 1) / (counts + 1)) + 1
    if variant == "normit":
        return -np.vectorize(NormalDist().inv_cdf, otypes=[np.float64])(share)
    formulas = {
        "raw": lambda p: -np.log(p),
        "rel": lambda p: np.log((1 - p) / p),
        "gombit": lambda p: -np.log(-np.log1p(-p)),
        "base2": lambda p: -np.log2(p),
        "base10": lambda p: -np.log10(p),
    }
    if variant not in formulas:
        raise ValueError(f"variant must be one of smooth, normit, {', '.join(formulas)}, got {variant}")
    weights: Array = formulas[variant](share)
    return weights
