"""Runs beside one another: metrics with intervals, and which differences are more than chance (no torch here)."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from detloss import build
from detloss.comparison import result
from detloss.comparison.metrics import Metric, measure, parse_metrics
from detloss.comparison.result import Comparison
from detloss.comparison.runs import Method, Run, baseline_of, methods_of, read_run, require_same_validation
from detloss.comparison.sample import Sample
from detloss.data.files import dataset_files
from detloss.errors import UserError
from detloss.evaluation import bootstrap
from detloss.evaluation.detections import Detections, read_detections
from detloss.evaluation.ground_truth import GroundTruth, Objects, read_ground_truth
from detloss.evaluation.match_table import match_table
from detloss.evaluation.rules import counting
from detloss.evaluation.weighted_ap import WeightedAP
from detloss.progress import Display

FEWEST_DRAWS = 1000
NOTE_EVERY = 500
NUMBERS_AT_ONCE = 1 << 21
"""How many numbers of a set may be held for each step of measuring it: 16 MB."""

Weighted = dict[tuple[str, int], WeightedAP]


def compare_runs(
    folders: Sequence[Path],
    *,
    metrics: str | None = None,
    draws: int | None = None,
    seed: int = 0,
    baseline: Path | None = None,
    annotations: Path | None = None,
) -> Comparison:
    """Compare the runs in ``folders`` by a paired bootstrap over the images of their validation set.

    Every draw recomputes each metric from the matches in the drawn images, the same for all runs; a class that
    has no objects in them is left out of its means. Runs that differ in their seed only are one method; from
    three seeds on its interval is over seeds, too.

    Args:
        metrics: words like ``AP,APr,bbox/AP50``; the usual ones when None.
        draws: at least 1,000 when None, and as many as a corrected p value below 0.05 takes.
        baseline: the run whose method the others are compared with; the first when None.
        annotations: the validation file, where it is not where the runs' config says.

    Raises ``UserError`` for folders that are no runs and for runs that cannot be compared.
    """
    runs = [read_run(folder) for folder in folders]
    require_same_validation(runs)
    methods = methods_of(runs)
    base = baseline_of(methods, baseline)
    kinds = ("bbox", "segm", "boundary") if all(run.cfg.model.masks for run in runs) else ("bbox",)
    asked = parse_metrics(metrics, kinds)
    comparisons = (len(methods) - 1) * len(asked)
    draws = draws or max(FEWEST_DRAWS, bootstrap.draws_needed(comparisons))
    masks = any(metric.kind != "bbox" for metric in asked)
    ground_truth = validation_truth(runs[0], annotations, masks=masks)
    sets = [[_weighted(run, ground_truth, asked) for run in method.runs] for method in methods]
    of_metrics, of_classes = samples(
        sets, asked, runs[0].groups, len(ground_truth.image_ids), draws=draws, seed=seed
    )
    rows = result.rows(methods, base, of_metrics, of_classes, ground_truth, runs[0].groups, seed)
    return Comparison(asked, methods[base].name, rows, tuple(_notes(methods, draws, comparisons)))


def validation_truth(run: Run, annotations: Path | None, *, masks: bool) -> GroundTruth:
    """Read the annotation file that ``run`` was validated on, or raise `UserError` where it cannot be found.

    Args:
        annotations: where it has moved to.
    """
    try:
        path = annotations or dataset_files(run.cfg.dataset).val_annotations
    except UserError as error:
        raise UserError(f"{error} (or, for comparisons, --annotations JSON of the validation set)") from error
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the validation set's annotation file as --annotations")
    if build.fingerprint(path) != run.validation:
        raise UserError(f"{path} is not the file that {run.folder} was validated on; give that as --annotations")
    return read_ground_truth(path, masks=masks)


def counted(run: Run, ground_truth: GroundTruth, *, masks: bool) -> tuple[Objects, Detections, np.ndarray]:
    """Return the objects and the run's ranked detections that count, and which of these are no mistakes, [D]."""
    detections = read_detections(ground_truth, run.predictions, masks=masks)
    name, limit = str(run.cfg.evaluator.name), int(run.cfg.evaluator.get("max_detections", 0))
    return counting(name, ground_truth, detections, limit)


def samples(
    sets: Sequence[Sequence[Weighted]],
    metrics: Sequence[Metric],
    groups: Sequence[str],
    images: int,
    *,
    draws: int,
    seed: int,
) -> tuple[list[Sample], list[Sample]]:
    """Return of each method, whose runs are in ``sets``, the metrics, and the first of them by class.

    Args:
        groups: the frequency group of every class.
    """
    runs = [weighted for of_method in sets for weighted in of_method]
    whole = np.ones((1, images), dtype=np.int32)
    once = [measure(metrics, weighted, groups, whole) for weighted in runs]
    drawn = _drawn(runs, metrics, groups, images, draws=draws, seed=seed)
    of_metrics: list[Sample] = []
    of_classes: list[Sample] = []
    last = 0
    for of_method in sets:
        first, last = last, last + len(of_method)
        for kind, found in enumerate((of_metrics, of_classes)):
            values = np.concatenate([parts[kind] for parts in once[first:last]])
            found.append(Sample.of(values, np.stack([parts[kind] for parts in drawn[first:last]])))
    return of_metrics, of_classes


def _drawn(
    runs: Sequence[Weighted],
    metrics: Sequence[Metric],
    groups: Sequence[str],
    images: int,
    *,
    draws: int,
    seed: int,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return what `measure` returns of every run in the same draws, as many at once as memory allows."""
    parts: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in runs]
    at_once = max(1, NUMBERS_AT_ONCE // max(weighted.size for each in runs for weighted in each.values()))
    done = 0
    with Display("draws", draws) as display:
        for weights in bootstrap.image_draws(images, draws, seed=seed, at_once=at_once):
            for own, weighted in zip(parts, runs, strict=True):
                own.append(measure(metrics, weighted, groups, weights))
            before, done = done, done + len(weights)
            display.advance(done)
            if done // NOTE_EVERY > before // NOTE_EVERY:
                display.note(done, {})
    return [
        (np.concatenate([of_metrics for of_metrics, _ in own]), np.concatenate([classes for _, classes in own]))
        for own in parts
    ]


def _weighted(run: Run, ground_truth: GroundTruth, metrics: Sequence[Metric]) -> Weighted:
    """Match a run's predictions, and keep what its metrics take."""
    kinds = dict.fromkeys(metric.kind for metric in metrics)
    objects, detections, lenient = counted(run, ground_truth, masks=any(kind != "bbox" for kind in kinds))
    weighted = {}
    for kind in kinds:
        table = match_table(detections, objects, kind, categories=len(ground_truth.names), lenient=lenient)
        for area in sorted({metric.area for metric in metrics if metric.kind == kind}):
            weighted[kind, area] = WeightedAP.of(table, objects, area=area)
    return weighted


def _notes(methods: Sequence[Method], draws: int, comparisons: int) -> Iterator[str]:
    """Yield what a reader of the numbers must know."""
    several = [method for method in methods if len(method.runs) > 1]
    yield f"95% intervals from {draws} draws of images" + (
        "; ± is the standard deviation over seeds" if several else ""
    )
    few = [method.name for method in methods if len(method.runs) < bootstrap.FEWEST_SEEDS]
    if len(few) == len(methods):
        yield f"Seeds are not in the intervals: that takes {bootstrap.FEWEST_SEEDS} of a method"
    elif few:
        yield (f"Seeds are not in the intervals of {', '.join(few)}: that takes {bootstrap.FEWEST_SEEDS} seeds")
    if comparisons:
        yield f"The p values are corrected for {comparisons} comparisons (Holm)"
    if comparisons and draws < bootstrap.draws_needed(comparisons):
        yield (
            f"With {draws} draws no p value of {comparisons} comparisons can be below 0.05; "
            f"try --draws {bootstrap.draws_needed(comparisons)}"
        )
