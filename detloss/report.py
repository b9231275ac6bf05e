"""Runs as one page: results, settings, gradients, curves, errors, examples."""

import os
from collections.abc import Sequence
from pathlib import Path

from detloss import gradients
from detloss.compare import compare_runs, validation_truth
from detloss.comparison.result import Comparison
from detloss.comparison.runs import Run
from detloss.errors import UserError
from detloss.evaluation.ground_truth import GroundTruth
from detloss.examples import Example
from detloss.plots.balance import Balance
from detloss.plots.history import Line
from detloss.plots.run import read_balance, read_metrics_lines
from detloss.progress import Display
from detloss.report_page.balance import gradient_balance
from detloss.report_page.blocks import Section, Text
from detloss.report_page.classes import classes
from detloss.report_page.configuration import configuration
from detloss.report_page.errors import errors
from detloss.report_page.gallery import choose_examples, gallery
from detloss.report_page.html import render
from detloss.report_page.labels import method_labels, run_labels
from detloss.report_page.precision import ap_by_frequency, precision_and_recall
from detloss.report_page.results import results
from detloss.report_page.scored import Scored, analysed_kind, score_run
from detloss.report_page.summary import summary
from detloss.report_page.training import training


def write_report(
    folders: Sequence[Path],
    output: Path,
    *,
    metrics: str | None = None,
    draws: int | None = None,
    seed: int = 0,
    baseline: Path | None = None,
    annotations: Path | None = None,
) -> int:
    """Write a page about the runs in ``folders``, by one rename, and return its size in bytes.

    The arguments are those of `compare_runs`, and so is what is refused, a ``UserError``.
    """
    comparison = compare_runs(
        folders, metrics=metrics, draws=draws, seed=seed, baseline=baseline, annotations=annotations
    )
    content = page(comparison, annotations).encode()
    partial = output.with_name(f".{output.name}.part")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        os.replace(partial, output)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UserError(f"-o {output}: cannot be written ({error.strerror})") from error
    return len(content)


def page(comparison: Comparison, annotations: Path | None) -> str:
    """Return the page about the runs of a comparison; ``annotations`` is where the validation file has moved."""
    methods = method_labels(comparison)
    kind = analysed_kind(comparison.metrics[0].kind)
    first = comparison.rows[0].method.runs[0]
    ground_truth = validation_truth(first, annotations, masks=kind != "bbox")
    examples, missing = _examples(first, ground_truth, kind)
    scored = _score(comparison, methods, ground_truth, kind, examples)
    lines = [_lines(each.run) for each in scored]
    balances = [_balance(each, own) for each, own in zip(scored, lines, strict=True)]
    runs, labels = [each.run for each in scored], [each.label for each in scored]
    base = next((number for number, row in enumerate(comparison.rows) if not row.differences), 0)
    shown = [each for each in scored if each.found]
    sections = (
        summary(scored, methods, ground_truth, kind),
        results(comparison, methods, methods[base]),
        configuration(runs, labels),
        gradient_balance(scored, balances, lines, methods),
        training(scored, lines, methods, kind),
        ap_by_frequency(scored, methods),
        precision_and_recall(scored, methods),
        errors(scored, methods),
        gallery(examples, shown, methods) if shown else Section("examples", "Examples", (Text(missing),)),
        classes(scored, methods, base, ground_truth),
    )
    return render(_title(first, methods), sections)


def _title(run: Run, methods: Sequence[str]) -> str:
    named = ", ".join(methods) if len(methods) <= 4 else f"{len(methods)} methods"
    return f"{named} on {run.cfg.dataset.name}"


def _examples(run: Run, ground_truth: GroundTruth, kind: str) -> tuple[list[Example], str]:
    """Return the images that are shown, or none and the reason."""
    try:
        return choose_examples(run, ground_truth, kind), "The validation set has no object to show."
    except UserError as error:
        return [], f"The images of the validation set cannot be shown: {error}."


def _score(
    comparison: Comparison,
    methods: Sequence[str],
    ground_truth: GroundTruth,
    kind: str,
    examples: Sequence[Example],
) -> list[Scored]:
    """Score every run, method by method; what was found on the examples is kept of each method's first run."""
    images = ground_truth.image_ids.tolist()
    places = [images.index(each.image_id) for each in examples]
    found = [row.method for row in comparison.rows]
    labels = iter(run_labels(methods, found))
    scored: list[Scored] = []
    total = sum(len(method.runs) for method in found)
    with Display("runs", total) as display:
        for number, method in enumerate(found):
            for run in method.runs:
                own = places if run is method.runs[0] else []
                scored.append(score_run(run, next(labels), number, ground_truth, kind, own))
                display.advance(len(scored))
                display.note(len(scored), {})
    return scored


def _lines(run: Run) -> list[Line]:
    """Return what a run logged while it trained, nothing where that is not kept."""
    path = run.home / "metrics.jsonl"
    return read_metrics_lines(path) if path.exists() else []


def _balance(scored: Scored, lines: Sequence[Line]) -> Balance | None:
    if not (scored.run.home / gradients.FILE).exists():
        return None
    return read_balance(scored.run.home, scored.run.cfg, lines, scored.label)
