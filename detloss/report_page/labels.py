"""What methods and runs are called on a page: short, and no two alike."""

from collections.abc import Sequence

from detloss.comparison.result import Comparison
from detloss.comparison.runs import Method
from detloss.comparison.table import names_of


def method_labels(comparison: Comparison) -> tuple[str, ...]:
    """Return each method's name, with its framework and backbone where these differ."""
    return tuple(" ".join(names_of(row, comparison.rows)) for row in comparison.rows)


def run_labels(labels: Sequence[str], methods: Sequence[Method]) -> tuple[str, ...]:
    """Return a name for every run, method by method: its method's, with the seed where it has several runs."""
    return tuple(
        f"{label}, seed {run.seed}" if len(method.runs) > 1 else label
        for label, method in zip(labels, methods, strict=True)
        for run in method.runs
    )
