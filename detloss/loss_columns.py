"""What the losses make of class counts, as columns of the statistics table (no torch).

The numbers come from the functions that the losses themselves call, `detloss.margins` and `ClassStats.tail`.
"""

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Literal

import numpy as np

from detloss import margins
from detloss.errors import UserError
from detloss.settings import check_kinds
from detloss.stats import ClassStats, frequency_groups
from detloss.stats_table import Column


def loss_columns(
    loss: str, target: str, options: Mapping[str, object], stats: ClassStats, *, option: str = "loss"
) -> list[Column]:
    """Return the columns of a loss, named ``loss.column``; none where it does not depend on the counts.

    Args:
        loss: the name to put before those of the columns.
        target: the loss's class path, whose last part says which formulas there are.
        options: its hyper-parameters; those that the formulas do not need are ignored.
        stats: counts of the training set.
        option: where the hyper-parameters stand in the config, for the `UserError` of one that does not fit.
    """
    formulas = FORMULAS.get(target.rpartition(".")[2])
    if formulas is None:
        return []
    accepted = signature(formulas).parameters
    chosen = {key: value for key, value in options.items() if key in accepted}
    check_kinds(chosen, accepted, option)
    try:
        columns = formulas(stats, **chosen)
    except (TypeError, ValueError) as error:
        raise UserError(f"{option}: {error}") from error
    return [
        Column(f"{loss}.{column.name}", column.heading, column.form, column.values, column.background)
        for column in columns
    ]


def ecm(stats: ClassStats, *, background_ratio: float | None = None) -> list[Column]:
    """Two-stage ECM; without a background ratio the official code's."""
    ratio = margins.OFFICIAL_BACKGROUND_RATIO if background_ratio is None else background_ratio
    if not 0 < ratio < float("inf"):
        raise ValueError(f"background_ratio must be a positive number or None, got {background_ratio}")
    return [
        Column(column.name, column.heading, column.form, column.values[:-1], float(column.values[-1]))
        for column in _ecm(*margins.class_counts(stats.instances, ratio))
    ]


def focal_ecm(stats: ClassStats) -> list[Column]:
    """One-stage ECM, which has no background class."""
    return _ecm(*margins.class_counts(stats.instances))


def _ecm(positive: margins.Array, negative: margins.Array) -> list[Column]:
    alpha = margins.ratio(positive, negative)
    gamma_plus, gamma_minus = margins.margins(positive, negative)
    weight_plus, weight_minus = margins.weights(positive, negative)
    return [
        Column("alpha", "alpha", ".4g", alpha),
        Column("gamma_plus", "gamma+", ".4f", gamma_plus),
        Column("gamma_minus", "gamma-", ".4f", gamma_minus),
        Column("weight_plus", "w+", ".3f", weight_plus),
        Column("weight_minus", "w-", ".3f", weight_minus),
        Column("logit_shift", "shift", "+.3f", margins.logit_shift(positive, negative)),
        Column("detection_weight", "m_c", ".4f", margins.detection_weight(alpha)),
    ]


def seesaw(stats: ClassStats, *, p: float = 0.8) -> list[Column]:
    """Seesaw's mitigation factors M_ij if RoIs were as frequent as annotations, over the other classes.

    In training it counts RoIs as they come. As label: how hard the class pushes others; as negative: how hard
    others push it.
    """
    factors = margins.mitigation(stats.instances, p)
    others = max(stats.num_classes - 1, 1)
    diagonal = 1.0 if stats.num_classes > 1 else 0.0
    return [
        Column("as_label_mean", "M as label", ".4f", (factors.sum(axis=1) - diagonal) / others),
        Column("as_label_min", "least", ".4f", factors.min(axis=1)),
        Column("as_negative_mean", "M as negative", ".4f", (factors.sum(axis=0) - diagonal) / others),
        Column("as_negative_min", "least", ".4f", factors.min(axis=0)),
    ]


def class_balanced(stats: ClassStats, *, beta: float = 0.999) -> list[Column]:
    weight = margins.effective_number_weights(stats.instances, beta)
    return [Column("weight", "weight", ".4g", weight, 1.0)]


def class_balanced_focal(stats: ClassStats, *, beta: float = 0.999) -> list[Column]:
    return [Column("weight", "weight", ".4g", margins.effective_number_weights(stats.instances, beta))]


def grw(stats: ClassStats, *, exponent: float = 0.8) -> list[Column]:
    return [Column("weight", "weight", ".4g", margins.inverse_power_weights(stats.instances, exponent), 1.0)]


def ldam(stats: ClassStats, *, max_margin: float = 0.5) -> list[Column]:
    return [Column("margin", "margin", ".4f", margins.label_margins(stats.instances, max_margin), 0.0)]


def logit_adjustment(
    stats: ClassStats, *, tau: float = 1.0, background_ratio: float | None = None
) -> list[Column]:
    shift = tau * margins.log_priors(stats.instances, background_ratio)
    return [Column("logit_shift", "shift", "+.3f", shift[:-1], float(shift[-1]))]


def iif(
    stats: ClassStats, *, variant: str = "raw", count: Literal["images", "instances"] = "images"
) -> list[Column]:
    counts, total = stats.images, stats.num_images
    if count == "instances":
        counts, total = stats.instances, int(stats.instances.sum())
    return [Column("multiplier", "multiplier", ".4f", margins.inverse_frequency(counts, total, variant), 1.0)]


def tail(stats: ClassStats, *, tail_fraction: float) -> list[Column]:
    """EQL, DropLoss and Gumbel: 1 for the classes that are spared."""
    return [
        Column("image_fraction", "on images", ".3%", stats.image_fractions),
        Column("tail", "tail", ".0f", stats.tail(tail_fraction).astype(np.int64)),
    ]


def federated(stats: ClassStats, *, power: float = 0.5) -> list[Column]:
    """The chance that a draw of a negative class is of this one, before any is taken out."""
    weights = margins.sampling_weights(stats.images, power)
    return [Column("draw_share", "share of draws", ".4%", weights / max(weights.sum(), 1.0))]


def bags(stats: ClassStats, *, bins: tuple[int, ...] = (10, 100, 1000)) -> list[Column]:
    """The bin of every class, from 0, and how many classes share it."""
    index = margins.count_bins(stats.instances, list(bins))
    return [
        Column("bin", "bin", ".0f", index),
        Column("bin_classes", "classes in it", ".0f", np.bincount(index)[index]),
    ]


def acsl(
    stats: ClassStats,
    *,
    groups: tuple[int, int] | None = (10, 100),
    rare_share: float = 0.01,
    common_share: float = 0.1,
) -> list[Column]:
    """The share of background rows that discourage the class."""
    if groups is not None and len(groups) != 2:
        raise ValueError(f"groups must be two image counts such as [10, 100], got {list(groups)}")
    names = frequency_groups(stats.images, None if groups is None else (groups[0], groups[1]))
    share = {"r": rare_share, "c": common_share, "f": 1.0}
    return [Column("background_share", "share of background", ".2f", np.array([share[name] for name in names]))]


FORMULAS: dict[str, Callable[..., list[Column]]] = {
    "ACSL": acsl,
    "BAGS": bags,
    "ClassBalanced": class_balanced,
    "ClassBalancedFocal": class_balanced_focal,
    "DropLoss": tail,
    "ECM": ecm,
    "EQL": tail,
    "Federated": federated,
    "FocalECM": focal_ecm,
    "GOL": tail,
    "GeneralizedReweight": grw,
    "IIF": iif,
    "LDAM": ldam,
    "LogitAdjustment": logit_adjustment,
    "Seesaw": seesaw,
}
"""By the name of the loss's class; other losses do not depend on the counts."""
