"""What the predictions of a run come to, small enough that those of many runs are kept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from detloss.compare import counted
from detloss.comparison.runs import Run
from detloss.evaluation.analysis import OVERLAPS, Analysis, analyse, mean_of
from detloss.evaluation.average_precision import precision
from detloss.evaluation.confusion import Confusion
from detloss.evaluation.ground_truth import GroundTruth
from detloss.evaluation.match_table import match_table
from detloss.evaluation.outcomes import Outcomes, precisions_by_group
from detloss.picture import Objects
from detloss.plots.errors import confusion_of_the_worst

WORST_PAIRS = 10
"""How many confusions of two classes are listed of a run."""

SHOWN_FROM = 0.3
"""The score from which on detections are drawn on examples, as `detloss predict` draws them."""


@dataclass(frozen=True, eq=False)
class Scored:
    """A run of method number ``method``; C classes.

    Attributes:
        ap: [C], NaN where there are no objects.
        precision: [R] at IoU 0.5 by group, the mean over its classes that have objects; the groups that have some.
        lost: [types] by group, what AP50 loses by each type of error.
        confused: the confusions of two classes that are the most frequent, and all of the worst classes drawn.
        found: what was found on each example image, of a run whose finds are shown.
    """

    run: Run
    label: str
    method: int
    ap: np.ndarray
    precision: Mapping[str, np.ndarray]
    lost: Mapping[str, np.ndarray]
    confused: Confusion
    matrix: Figure
    found: tuple[Objects, ...]


def score_run(
    run: Run, label: str, method: int, ground_truth: GroundTruth, kind: str, images: Sequence[int]
) -> Scored:
    """Match a run's predictions with the objects by one of `OVERLAPS`.

    Args:
        images: positions of the example images to keep what was found on.
    """
    objects, detections, lenient = counted(run, ground_truth, masks=kind != "bbox")
    table = match_table(detections, objects, kind, categories=len(ground_truth.names), lenient=lenient)
    ap = precision(table)[..., 0].mean(axis=(0, 1))
    analysis = analyse(kind, Outcomes.of(table, objects), run.groups)
    curves = precisions_by_group(analysis.outcomes, analysis.groups)
    found: tuple[Objects, ...] = ()
    if images:
        from detloss.examples import found_on  # here, as it brings torch along

        found = tuple(found_on(detections, image, score=SHOWN_FROM) for image in images)
    return Scored(
        run,
        label,
        method,
        np.where(ap > -1, ap, np.nan),
        {group: own.mean(axis=0) for group, own in curves.items()},
        {group: _lost(analysis, group) for group in analysis.groups},
        analysis.confusion.worst(WORST_PAIRS),
        confusion_of_the_worst(analysis, run.stats),
        found,
    )


def analysed_kind(kind: str) -> str:
    """Return the overlaps that errors are sought by where metrics are of ``kind``: masks' for boundaries."""
    return kind if kind in OVERLAPS else "segm"


def mean_ap(ap: np.ndarray) -> float:
    """Return the mean over the classes that have objects."""
    return float(np.nanmean(ap)) if not np.isnan(ap).all() else float("nan")


def means_over_seeds(
    scored: Sequence[Scored], methods: int, value: Callable[[Scored], np.ndarray]
) -> list[np.ndarray]:
    """Return of every method the mean of a ``value`` of its runs, NaN where there is none."""
    of_methods = [[value(each) for each in scored if each.method == number] for number in range(methods)]
    return [np.mean(own, axis=0) for own in of_methods]


def _lost(analysis: Analysis, group: str) -> np.ndarray:
    means = [mean_of(lost, analysis.groups[group]) for lost in analysis.lost]
    return np.array([np.nan if mean is None else mean for mean in means])
