"""From class counts to margins, weights and priors: one pure float64 function per equation.

Symbols follow "Long-tail Detection with Effective Class-Margins" (ECM, ECCV 2022): for a class c,
``positive`` is n_c, ``negative`` is n_{-c} and ``ratio`` is alpha_c = n_{-c} / n_c. All arrays are [C].
A class that never occurs counts as 1, so nothing here is infinite.
"""

from collections.abc import Sequence
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


def class_counts(instances: ArrayLike, background_ratio: float | None = None) -> tuple[Array, Array]:
    """Return n_c and n_{-c} [C]; with a background ratio r both are [C + 1], the background last (eq. 35-37)."""
    positive = positive_counts(instances)
    if background_ratio is not None:
        positive = np.append(positive, max(background_count(positive, background_ratio), 1.0))
    return positive, negative_counts(positive)


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


def surrogate_gradients(logit: ArrayLike, alpha: float) -> tuple[Array, Array]:
    """Return the sizes of ECM's gradients by f on a positive and on a negative, without m_c (eq. 33, 34).

    They are 2 (1 - s) and 2 s of the surrogate score s = sigmoid(2 f - log(alpha) / 4); the first is downwards.
    """
    half = (2 * np.asarray(logit, dtype=np.float64) - 0.25 * np.log(alpha)) / 2
    return 1 - np.tanh(half), 1 + np.tanh(half)  # 2 sigmoid(x) = 1 + tanh(x / 2), finite for any x


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


def label_margins(instances: ArrayLike, max_margin: float) -> Array:
    """Return max_margin (min_k n_k / n_c)^(1/4) [C], what is taken off the label's logit (LDAM, NeurIPS 2019)."""
    positive = positive_counts(instances)
    return max_margin * (positive.min() / positive) ** 0.25


def mitigation(instances: ArrayLike, power: float) -> Array:
    """Return M_ij = min(1, N_j / N_i)^power [C, C], how hard class i's samples push class j (Seesaw, CVPR 2021).

    Row i is the label's class and column j the class that is a negative there; 1 where j is the more frequent.
    """
    log_counts = np.log(positive_counts(instances))
    return np.exp(power * np.minimum(log_counts[None, :] - log_counts[:, None], 0.0))


def count_bins(instances: ArrayLike, bounds: Sequence[int]) -> NDArray[np.int64]:
    """Return the bin [C] of every class, 0..B, bin b from count bounds[b - 1] on (BAGS, CVPR 2020)."""
    if list(bounds) != sorted(bounds):
        raise ValueError(f"bins must ascend, got {list(bounds)}")
    return np.digitize(np.asarray(instances), bounds)


def sampling_weights(images: ArrayLike, power: float) -> Array:
    """Return images^power [C], 0 for a class in none, to which the federated loss draws negative classes."""
    counts = np.asarray(images, dtype=np.float64)
    return np.where(counts > 0, np.maximum(counts, 1.0) ** power, 0.0)


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
