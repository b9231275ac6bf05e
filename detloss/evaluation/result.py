"""What an evaluation found: numbers for programs, a table for people (no torch here)."""

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.table import Table
from rich.text import Text

from detloss.errors import UserError, nearest
from detloss.evaluation.ground_truth import FREQUENCIES, GroundTruth
from detloss.evaluation.matches import Matches
from detloss.evaluation.measured import Measured
from detloss.evaluation.olrp import olrp
from detloss.evaluation.outcomes import Outcomes
from detloss.evaluation.rank_correlation import rank_correlation

ClassRow = dict[str, int | float | str | None]
IOU_NAMES = {"bbox": "boxes", "segm": "masks", "boundary": "boundaries"}
IOU_TYPES = tuple(IOU_NAMES)
AREAS = ("", "s", "m", "l")  # COCO's area ranges, in the order of both official tools: all, small, medium, large
SHOWN = ("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf", "oLRP")  # what 80 columns hold
IOU_50, IOU_75, IOU_90 = 0, 5, 8  # positions in the thresholds 0.50, 0.55, ..., 0.95
ENGINES = ("detloss", "official")


@dataclass(frozen=True)
class Evaluation:
    """The metrics by IoU type, one row per class, and what the reader must be warned of.

    ``metrics["bbox"]`` and ``metrics["segm"]`` hold AP AP50 AP75 AP90 APs APm APl APr APc APf and average recalls
    (COCO's AR1 AR10 AR100 ARs ARm ARl, LVIS's AR@300 ARs@300 ARm@300 ARl@300) in 0..1, None where there is no
    ground truth; then oLRP, its components, and rank_correlation in -1..1, means over the classes that have one.
    A row of ``per_class`` has category_id, name, group, instances (of the evaluated file, without crowds), then
    per IoU type, as ``bbox_AP`` and so on, AP, AP50, AP75, AP90, APs, APm, APl, AR, oLRP, its components and
    threshold, and rank_correlation. ``outcomes`` are what `analysis` takes, by IoU type, empty where another
    program measured.
    """

    metrics: dict[str, dict[str, float | None]]
    per_class: tuple[ClassRow, ...]
    warnings: tuple[str, ...] = ()
    engine: str = "detloss"
    outcomes: Mapping[str, Outcomes] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        ground_truth: GroundTruth,
        measured: Mapping[str, Measured],
        groups: Mapping[int, str] | None,
        warnings: tuple[str, ...] = (),
        *,
        engine: str,
    ) -> "Evaluation":
        """Average what was measured, by IoU type.

        Args:
            groups: category id to "r", "c" or "f"; categories without one count in no group.
            engine: who measured.
        """
        group_of = [(groups or {}).get(category_id) for category_id in ground_truth.category_ids]
        ranked = {kind: [_of_ranking(each) for each in found.matches] for kind, found in measured.items()}
        metrics = {
            kind: {
                **_averages(found.precision, group_of),
                **_average_recalls(found.recall),
                **found.further,
                **_means(ranked[kind]),
            }
            for kind, found in measured.items()
        }
        classes = {kind: _of_classes(found) for kind, found in measured.items()}
        instances = ground_truth.instances.tolist()
        rows: list[ClassRow] = []
        for index, category_id in enumerate(ground_truth.category_ids):
            row: ClassRow = {
                "category_id": category_id,
                "name": ground_truth.names[index],
                "group": group_of[index],
                "instances": instances[index],
            }
            for kind in measured:
                row.update({f"{kind}_{name}": values[index] for name, values in classes[kind].items()})
                row.update({f"{kind}_{name}": value for name, value in ranked[kind][index].items()})
            rows.append(row)
        outcomes = {kind: found.outcomes for kind, found in measured.items() if found.outcomes is not None}
        return cls(metrics, tuple(rows), warnings, engine, outcomes)

    def scalars(self) -> dict[str, float | None]:
        """Return the metrics as loggers take them, ``{"bbox/AP": ...}``."""
        return {f"{kind}/{name}": value for kind, own in self.metrics.items() for name, value in own.items()}

    def write(self, folder: Path) -> None:
        """Write ``metrics.json`` and ``per_class.csv``, each by one rename; None is null or an empty cell."""
        folder.mkdir(parents=True, exist_ok=True)
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(self.per_class[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.per_class)
        replace_file(folder / "per_class.csv", text.getvalue())
        replace_file(folder / "metrics.json", json.dumps(self.metrics, indent=2, allow_nan=False) + "\n")

    def table(self) -> Table:
        """Return the metrics times 100 as a table for the terminal, the warnings below it."""
        caption = Text("\n".join(self.warnings), style="yellow") if self.warnings else None
        table = Table(
            title=f"engine: {self.engine}", title_justify="left", caption=caption, caption_justify="left"
        )
        table.add_column("IoU of", no_wrap=True)
        names = [name for name in next(iter(self.metrics.values())) if name in SHOWN]
        for name in names:
            table.add_column(name, justify="right", no_wrap=True)
        for kind, values in self.metrics.items():
            table.add_row(IOU_NAMES[kind], *(_percent(values[name]) for name in names))
        return table


def require_choices(iou_types: tuple[str, ...], max_detections: int, engine: str) -> None:
    """Raise ``UserError`` for an unknown IoU type or engine, for no type at all, or no detections to count."""
    if engine not in ENGINES:
        raise UserError(f"engine={engine}: expected detloss or official{nearest(engine, ENGINES)}")
    for kind in iou_types:
        if kind not in IOU_TYPES:
            raise UserError(f"IoU type '{kind}': expected bbox, segm or boundary{nearest(kind, IOU_TYPES)}")
    if not iou_types:
        raise UserError("no IoU type to evaluate; expected some of bbox, segm, boundary")
    if engine == "official" and "boundary" in iou_types:
        raise UserError("engine=official: pycocotools and lvis know no boundary IoU; try engine=detloss")
    if max_detections < 1:
        raise UserError(f"max_detections={max_detections}: expected 1 or more")


def replace_file(path: Path, text: str) -> None:
    """Write a file beside its place first, so that it is never half-written."""
    partial = path.with_name(f".{path.name}.part")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def _averages(precision: np.ndarray, group_of: list[str | None]) -> dict[str, float | None]:
    averages = {"AP": _mean(precision[..., 0])}
    averages["AP50"] = _mean(precision[IOU_50, ..., 0])
    averages["AP75"] = _mean(precision[IOU_75, ..., 0])
    averages["AP90"] = _mean(precision[IOU_90, ..., 0])
    for area, name in enumerate(AREAS[1:], start=1):
        averages[f"AP{name}"] = _mean(precision[..., area])
    for group in FREQUENCIES:
        members = np.array([member == group for member in group_of])
        averages[f"AP{group}"] = _mean(precision[:, :, members, 0])
    return averages


def _average_recalls(recall: Mapping[str, np.ndarray]) -> dict[str, float | None]:
    """Return average recall under each name, and the last one's by size: AR100 and ARs, AR@300 and ARs@300."""
    averages = {name: _mean(values[..., 0]) for name, values in recall.items()}
    for name, values in list(recall.items())[-1:]:
        _, at, limit = name.partition("@")
        for area, size in enumerate(AREAS[1:], start=1):
            averages[f"AR{size}{at}{limit}"] = _mean(values[..., area])
    return averages


def _of_classes(measured: Measured) -> dict[str, list[float | None]]:
    """Return AP and AR of every category, by name."""
    precision, recall = measured.precision, list(measured.recall.values())[-1]
    classes = {"AP": _by_class(precision[..., 0])}
    for name, threshold in (("AP50", IOU_50), ("AP75", IOU_75), ("AP90", IOU_90)):
        classes[name] = _by_class(precision[[threshold], ..., 0])
    for area, size in enumerate(AREAS[1:], start=1):
        classes[f"AP{size}"] = _by_class(precision[..., area])
    classes["AR"] = _by_class(recall[:, None, :, 0])
    return classes


def _by_class(values: np.ndarray) -> list[float | None]:
    """Return the means of [T, R, C] over all but the categories, None for one without ground truth."""
    means = np.ascontiguousarray(values.transpose(2, 0, 1)).mean(axis=(1, 2)).tolist()
    return [mean if mean > -1 else None for mean in means]


def _of_ranking(matches: Matches) -> dict[str, float | None]:
    return {**olrp(matches).named(), "rank_correlation": rank_correlation(matches)}


def _means(classes: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Return the means over classes that have a value; of thresholds, one per class, there is none."""
    means: dict[str, float | None] = {}
    for name in classes[0]:
        values = [value for row in classes if (value := row[name]) is not None]
        means[name] = float(np.mean(values)) if values else None
    del means["oLRP_threshold"]
    return means


def _mean(precision: np.ndarray) -> float | None:
    """Return the mean of what is defined: all entries of a category with ground truth, none of another."""
    defined = precision[precision > -1]
    return float(defined.mean()) if defined.size else None


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
