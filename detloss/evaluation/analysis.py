"""What one kind of IoU's outcomes say beyond AP, all of it (no torch here)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from detloss.evaluation.calibration_error import Reliability, reliability
from detloss.evaluation.confusion import Confusion, confusion
from detloss.evaluation.error_types import BACKGROUND, error_counts, error_types, lost_ap50
from detloss.evaluation.ground_truth import FREQUENCIES
from detloss.evaluation.outcomes import Outcomes
from detloss.evaluation.overlaps import Neighbours, box_overlaps, mask_overlaps
from detloss.evaluation.ranking_error import RankingErrors, ranking_errors
from detloss.evaluation.result import Evaluation

ALL = "all"

OVERLAPS = {"bbox": box_overlaps, "segm": mask_overlaps}
"""The kinds of IoU that are analysed; boundaries of all pairs of an image would take too long."""

CONFIDENT = 0.3
"""The score from which on the second calibration error counts, as in Kueppers et al. (CVPRW 2020)."""


@dataclass(frozen=True, eq=False)
class Analysis:
    """C classes.

    Attributes:
        groups: [C] bool by name: "all", and of "r", "c", "f" those that have classes.
        errors: [types, C], how many there are of each of `error_types.TYPES`.
        lost: [types, C], what AP50 loses by them, NaN where there are no objects.
        reliability, confident: by group, of all scores and of those from `CONFIDENT` on.
    """

    outcomes: Outcomes
    groups: Mapping[str, np.ndarray]
    errors: np.ndarray
    lost: np.ndarray
    ranking: RankingErrors
    confusion: Confusion
    reliability: Mapping[str, Reliability]
    confident: Mapping[str, Reliability]


def analyse(kind: str, outcomes: Outcomes, group_of: Sequence[str | None]) -> Analysis:
    """Analyse the outcomes of one of `OVERLAPS`; ``group_of`` [C] holds "r", "c", "f", or None for no group."""
    groups = class_groups(group_of)
    detections, objects = outcomes.detections, outcomes.objects
    overlaps = OVERLAPS[kind](detections, objects, Neighbours.alike(detections.image, objects.image), BACKGROUND)
    errors = error_types(outcomes, overlaps)
    return Analysis(
        outcomes,
        groups,
        error_counts(outcomes, errors),
        lost_ap50(outcomes, errors),
        ranking_errors(outcomes),
        confusion(outcomes, overlaps),
        {group: reliability(outcomes, chosen) for group, chosen in groups.items()},
        {group: reliability(outcomes, chosen, CONFIDENT) for group, chosen in groups.items()},
    )


def analyse_all(evaluation: Evaluation) -> dict[str, Analysis]:
    """Return an analysis of each of `OVERLAPS` that was evaluated, none where another program measured."""
    group_of = groups_of_classes(evaluation)
    outcomes = {kind: each for kind, each in evaluation.outcomes.items() if kind in OVERLAPS}
    return {kind: analyse(kind, each, group_of) for kind, each in outcomes.items()}


def groups_of_classes(evaluation: Evaluation) -> list[str | None]:
    """Return "r", "c", "f", or None for no group, of every class, [C]."""
    return [None if (group := row["group"]) is None else str(group) for row in evaluation.per_class]


def class_groups(group_of: Sequence[str | None]) -> dict[str, np.ndarray]:
    """Return a group's classes, [C] bool by name: "all", and of "r", "c", "f" those that have classes."""
    members = {group: np.array([own == group for own in group_of]) for group in FREQUENCIES}
    chosen = {group: each for group, each in members.items() if each.any()}
    return {ALL: np.ones(len(group_of), dtype=bool), **chosen}


def mean_of(values: np.ndarray, chosen: np.ndarray) -> float | None:
    """Return the mean over the classes ``chosen`` [C] that have a value, None where none has."""
    defined = values[chosen]
    defined = defined[~np.isnan(defined)]
    return float(defined.mean()) if len(defined) else None
