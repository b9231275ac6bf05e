"""An analysis in numbers for programs and as a table for people (no torch here)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.table import Table

from detloss.evaluation.analysis import ALL, CONFIDENT, Analysis, mean_of
from detloss.evaluation.calibration_error import BINS, Reliability
from detloss.evaluation.error_types import TYPES
from detloss.evaluation.ground_truth import FREQUENCIES
from detloss.evaluation.ranking_error import RankingErrors
from detloss.evaluation.result import IOU_NAMES, Evaluation, replace_file

WORST_PAIRS = 50
"""How many confusions of two classes are listed."""

SHORT = ("loc", "cls", "dup", "bkg", "both", "miss")
"""Of `TYPES`, TIDE's own abbreviations."""


def with_columns(evaluation: Evaluation, analyses: Mapping[str, Analysis]) -> Evaluation:
    """Return the evaluation with the analyses' columns in its rows per class."""
    rows = [dict(row) for row in evaluation.per_class]
    for kind, analysis in analyses.items():
        for row, columns in zip(rows, columns_of(analysis, kind), strict=True):
            row.update(columns)
    return replace(evaluation, per_class=tuple(rows))


def write_errors(folder: Path, analyses: Mapping[str, Analysis], names: Sequence[str]) -> None:
    """Write ``errors.json`` by one rename; without analyses delete one that is left from another evaluation."""
    path = folder / "errors.json"
    if not analyses:
        path.unlink(missing_ok=True)
        return
    content = {kind: report_of(analysis, names) for kind, analysis in analyses.items()}
    replace_file(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def report_of(analysis: Analysis, names: Sequence[str]) -> dict[str, object]:
    """Return what ``errors.json`` holds of one kind of IoU; shares are in 0..1, None where there is no value.

    A group without classes is None.
    """
    of_group = {group: _of_group(analysis, group) for group in analysis.groups}
    return {
        "groups": {group: of_group.get(group) for group in (ALL, *FREQUENCIES)},
        "confusions": _confusions(analysis, names),
        "objects_without_detection": analysis.confusion.undetected,
        "detections_without_object": analysis.confusion.on_background,
    }


def columns_of(analysis: Analysis, kind: str) -> list[dict[str, int | float | None]]:
    """Return the columns of ``per_class.csv``, a row for each class."""
    columns: dict[str, list[int | float | None]] = {}
    for index, name in enumerate(TYPES):
        columns[f"{kind}_{name}"] = analysis.errors[index].tolist()
    for name, values in _ranking(analysis.ranking).items():
        columns[f"{kind}_{name}"] = [None if np.isnan(value) else value for value in values.tolist()]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def error_table(analyses: Mapping[str, Analysis]) -> Table:
    """Return a table for the terminal: what each type of error costs, and how good the scores are, by group."""
    table = Table(
        title="AP50 lost by type of error; ranking error; calibration error, of all scores and from .3 on (x 100)",
        title_justify="left",
    )
    for name in ("IoU of", "group"):
        table.add_column(name, no_wrap=True)
    for name in (*SHORT, "R_c", "ECE", "ECE.3"):
        table.add_column(name, justify="right", no_wrap=True)
    for kind, analysis in analyses.items():
        table.add_section()
        for group, chosen in analysis.groups.items():
            values = [mean_of(lost, chosen) for lost in analysis.lost]
            values.append(mean_of(analysis.ranking.ranking, chosen))
            values += [each[group].error for each in (analysis.reliability, analysis.confident)]
            first = IOU_NAMES[kind] if group == ALL else ""
            table.add_row(first, group, *("-" if value is None else f"{100 * value:.1f}" for value in values))
    return table


def _of_group(analysis: Analysis, group: str) -> dict[str, object]:
    chosen = analysis.groups[group]
    return {
        "classes": int(chosen.sum()),
        "objects": int(analysis.outcomes.instances[chosen].sum()),
        "errors": dict(zip(TYPES, analysis.errors[:, chosen].sum(axis=1).tolist(), strict=True)),
        "AP50_lost": dict(zip(TYPES, (mean_of(lost, chosen) for lost in analysis.lost), strict=True)),
        **{name: mean_of(values, chosen) for name, values in _ranking(analysis.ranking).items()},
        "ECE": analysis.reliability[group].error,
        f"ECE@{CONFIDENT:g}": analysis.confident[group].error,
        "reliability": _bins(analysis.reliability[group]),
    }


def _ranking(errors: RankingErrors) -> dict[str, np.ndarray]:
    return {
        "ranking_error": errors.ranking,
        "detection_error": errors.detection,
        "detection_error_lowest": errors.lowest,
        "detection_error_highest": errors.highest,
        "binary_error": errors.binary,
    }


def _bins(reliability: Reliability) -> list[dict[str, float | int]]:
    """Return the bins that hold a detection."""
    return [
        {
            "from": bin / BINS,
            "detections": int(reliability.counts[bin]),
            "score": float(reliability.scores[bin]),
            "precision": float(reliability.precisions[bin]),
        }
        for bin in np.flatnonzero(reliability.counts).tolist()
    ]


def _confusions(analysis: Analysis, names: Sequence[str]) -> list[dict[str, object]]:
    """Return the most frequent confusions of two classes, ``share`` being that of the object's class's objects."""
    worst = analysis.confusion.worst(WORST_PAIRS)
    shares = worst.counts / worst.instances[worst.object_class]
    columns = (worst.object_class.tolist(), worst.detection_class.tolist(), worst.counts.tolist(), shares.tolist())
    return [
        {"object": names[own], "detected_as": names[other], "count": count, "share": share}
        for own, other, count, share in zip(*columns, strict=True)
    ]
