"""A report of metrics at one IoU threshold, from the values of every class (no torch here)."""

from collections.abc import Mapping, Sequence

import numpy as np

from detloss.evaluation.ground_truth import FREQUENCIES, GroundTruth
from detloss.evaluation.result import ClassRow, Evaluation

Values = Mapping[str, Sequence[float | None]]


def average_classes(
    ground_truth: GroundTruth,
    values: Mapping[str, Values],
    groups: Mapping[int, str] | None,
    warnings: tuple[str, ...],
) -> Evaluation:
    """Average by IoU type over the classes that have a value.

    ``values`` holds AP at IoU 0.5 and AR, the final recall, of every category. The report calls AP also AP50, so
    that it means the same as elsewhere, and has no other thresholds and no areas.
    """
    group_of = [(groups or {}).get(category_id) for category_id in ground_truth.category_ids]
    metrics = {}
    for kind, each in values.items():
        by_group = {f"AP{group}": _mean(each["AP"], [of == group for of in group_of]) for group in FREQUENCIES}
        everything = [True] * len(group_of)
        average = _mean(each["AP"], everything)
        metrics[kind] = {"AP": average, "AP50": average, **by_group, "AR": _mean(each["AR"], everything)}
    instances = ground_truth.instances.tolist()
    rows: list[ClassRow] = []
    for index, category_id in enumerate(ground_truth.category_ids):
        row: ClassRow = {
            "category_id": category_id,
            "name": ground_truth.names[index],
            "group": group_of[index],
            "instances": instances[index],
        }
        for kind, each in values.items():
            named = {"AP": each["AP"], "AP50": each["AP"], "AR": each["AR"]}
            row.update({f"{kind}_{name}": of_classes[index] for name, of_classes in named.items()})
        rows.append(row)
    return Evaluation(metrics, tuple(rows), warnings)


def _mean(values: Sequence[float | None], chosen: Sequence[bool]) -> float | None:
    defined = [value for value, taken in zip(values, chosen, strict=True) if taken and value is not None]
    return float(np.mean(defined)) if defined else None
