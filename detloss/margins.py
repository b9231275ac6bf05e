"""From class counts to margins, weights and priors: one pure float64 function per equation.

Symbols follow "Long-tail Detection with Effective Class-Margins" (ECM, ECCV 2022): for a class c,
``positive`` is n_c, ``negative`` is n_{-c} and ``ratio`` is alpha_c = n_{-c} / n_c. All arrays are [C].
A class that never occurs counts as 1, so nothing here is infinite.
"""

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
