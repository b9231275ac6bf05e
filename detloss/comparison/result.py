"""What a comparison found, in numbers of 0..1 (no torch here)."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan

import numpy as np

from detloss.comparison.metrics import Metric
from detloss.comparison.runs import Method
from detloss.comparison.sample import Sample
from detloss.evaluation import bootstrap
from detloss.evaluation.ground_truth import GroundTruth

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Estimate:
    """A metric of a method, NaN where undefined; ``deviation`` over its seeds is None of one seed."""

    value: float
    deviation: float | None
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """A number of a method less the baseline's; ``p`` is corrected, None where none is computed."""

    value: float
    low: float
    high: float
    p: float | None
    identical: bool

    @property
    def verdict(self) -> str:
        if isnan(self.value):
            return "undefined"
        if self.identical:
            return "identical"
        return "differs" if self.p is not None and self.p < SIGNIFICANT else "not distinguishable"


@dataclass(frozen=True)
class ClassDifference:
    """The first metric of one class; the difference's interval is not corrected for the number of classes."""

    category_id: int
    name: str
    group: str
    instances: int
    value: float
    difference: Difference


@dataclass(frozen=True)
class Row:
    """A method, its metrics, and its differences to the baseline (none of itself); classes by gain."""

    method: Method
    estimates: tuple[Estimate, ...]
    differences: tuple[Difference, ...]
    classes: tuple[ClassDifference, ...]


@dataclass(frozen=True)
class Comparison:
    """All methods, the name of the one that the others are compared with, and what must be said beside it."""

    metrics: tuple[Metric, ...]
    baseline: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def rows(
    methods: Sequence[Method],
    base: int,
    metrics: Sequence[Sample],
    classes: Sequence[Sample],
    ground_truth: GroundTruth,
    groups: Sequence[str],
    seed: int,
) -> tuple[Row, ...]:
    """Compare every method with that at ``base``; p values are corrected for the number of all differences (Holm).

    Args:
        metrics, classes: of every method, the metrics and the first of them by class.
        groups: the frequency group of every class.
        seed: of the noise of seeds.
    """
    others = [index for index in range(len(methods)) if index != base]
    generator = np.random.default_rng((seed, 1))  # apart from that of images
    against = {index: metrics[index].less(metrics[base], generator) for index in others}
    p = {index: bootstrap.p_values(draws) for index, (_, draws) in against.items()}
    corrected = bootstrap.holm([value for index in others for value in p[index].tolist()])
    found = []
    for index, method in enumerate(methods):
        estimates = _estimates(metrics[index], generator)
        if index == base:
            found.append(Row(method, estimates, (), ()))
            continue
        place = others.index(index) * len(estimates)
        differences = _differences(*against[index], corrected[place : place + len(estimates)])
        by_class = _class_differences(classes[index], classes[base], ground_truth, groups, generator)
        found.append(Row(method, estimates, differences, by_class))
    return tuple(found)


def _estimates(sample: Sample, generator: np.random.Generator) -> tuple[Estimate, ...]:
    deviation = [None] * len(sample.values) if sample.deviation is None else sample.deviation.tolist()
    low, high = sample.interval(generator)
    columns = zip(sample.values.tolist(), deviation, low.tolist(), high.tolist(), strict=True)
    return tuple(Estimate(*column) for column in columns)


def _differences(
    values: np.ndarray, draws: np.ndarray, corrected: Sequence[float | None]
) -> tuple[Difference, ...]:
    low, high = bootstrap.percentiles(draws)
    identical = (values == 0) & ((draws == 0) | np.isnan(draws)).all(axis=0)
    columns = zip(values.tolist(), low.tolist(), high.tolist(), corrected, identical.tolist(), strict=True)
    return tuple(Difference(*column) for column in columns)


def _class_differences(
    sample: Sample,
    baseline: Sample,
    ground_truth: GroundTruth,
    groups: Sequence[str],
    generator: np.random.Generator,
) -> tuple[ClassDifference, ...]:
    """Return the differences of the classes that have objects, the largest gain first."""
    found = _differences(*sample.less(baseline, generator), [None] * len(groups))
    classes = [
        ClassDifference(*columns)
        for columns in zip(
            ground_truth.category_ids,
            ground_truth.names,
            groups,
            ground_truth.instances.tolist(),
            sample.values.tolist(),
            found,
            strict=True,
        )
    ]
    defined = [each for each in classes if not np.isnan(each.value)]
    return tuple(sorted(defined, key=lambda each: -each.difference.value))
