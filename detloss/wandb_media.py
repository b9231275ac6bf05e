"""Tables, charts and pictures as W&B shows them, made of the objects that everything else is drawn from."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
import wandb
from matplotlib.figure import Figure
from PIL import Image

from detloss.evaluation.analysis import class_groups, groups_of_classes
from detloss.evaluation.average_precision import RECALLS
from detloss.evaluation.outcomes import precisions_by_group
from detloss.evaluation.result import Evaluation
from detloss.examples import Example
from detloss.picture import Objects
from detloss.plots.balance import TIMES, Balance
from detloss.plots.figure import GROUP_NAMES
from detloss.stats_table import StatsTable

ROWS = 10_000
"""The most rows of a table that W&B keeps."""

MASK_CODES = 127
"""The greatest number in a mask: W&B stores them as signed bytes."""


def class_table(table: StatsTable) -> wandb.Table:
    """Return a row for each class, the most frequent first, and one for the background where there is one."""
    rows = [*table.classes, *([table.background] if table.background else [])]
    names = [column.name for column in table.columns]
    data = [[row.name, row.group, *(row.values[name] for name in names)] for row in rows]
    return wandb.Table(["class", "group", *names], data)


def balance_table(balance: Balance) -> wandb.Table:
    """Return every class's summed gradients at the heat map's points in time.

    There are fewer of these where classes are so many that the rows would be more than W&B keeps: 8 of the heat
    map's 40 on LVIS.
    """
    steps, sums = balance.over_time(max(1, min(TIMES, ROWS // len(balance.names))))
    data = []
    for step, found in zip(steps, sums, strict=True):
        ratios = found.ratios()
        for index in balance.order.tolist():
            numbers = [float(each[index]) for each in (found.own, found.others, found.background)]
            ratio = None if np.isnan(ratios[index]) else float(ratios[index])
            data.append([step, balance.names[index], balance.groups[index], *numbers, ratio])
    return wandb.Table(["step", "class", "group", "own", "others", "background", "ratio"], data)


def ratio_chart(balance: Balance) -> wandb.plot.CustomChart | None:
    """Return the ratios of the groups and of all classes as lines of one chart, None without positives."""
    lines = {group: points for group, points in balance.ratios().items() if points[0]}
    if not lines:
        return None
    return wandb.plot.line_series(
        [steps for steps, _ in lines.values()],
        [ratios for _, ratios in lines.values()],
        keys=[GROUP_NAMES.get(group, "all classes") for group in lines],
        title="negative / positive gradient",
        xname="step",
    )


def precision_recall_charts(evaluation: Evaluation) -> dict[str, wandb.plot.CustomChart]:
    """Return precision against recall at IoU 0.5 by group, means over the classes, for each kind of IoU.

    There is none where another program measured.
    """
    groups = class_groups(groups_of_classes(evaluation))
    charts = {}
    for kind, outcomes in evaluation.outcomes.items():
        curves = precisions_by_group(outcomes, groups)
        if curves:
            charts[f"{kind}/precision_recall"] = wandb.plot.line_series(
                RECALLS.tolist(),
                [own.mean(axis=0).tolist() for own in curves.values()],
                keys=[GROUP_NAMES.get(group, group) for group in curves],
                title=f"{kind}: precision at IoU 0.5",
                xname="recall",
            )
    return charts


def figure_image(figure: Figure) -> wandb.Image:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    return wandb.Image(Image.open(content))


def example_image(shown: Example, found: Objects, names: Sequence[str], codes: np.ndarray) -> wandb.Image:
    """Return an image on which W&B switches ground truth and predictions, by class and by score.

    Args:
        codes: [C], the numbers of the classes in masks, as `mask_codes` makes them.
    """
    layers = {"ground_truth": shown.truth, "predictions": found}
    labels = dict(enumerate(names))
    boxes = {
        layer: {"box_data": _boxes(objects, names), "class_labels": labels} for layer, objects in layers.items()
    }
    masks = {
        layer: {"mask_data": _mask(objects, objects.masks, codes), "class_labels": mask_labels(codes, names)}
        for layer, objects in layers.items()
        if objects.masks is not None and len(objects.masks)
    }
    caption = f"image {shown.image_id}"
    return wandb.Image(shown.pixels, caption=caption, boxes=boxes, masks=masks or None, file_type="jpg")


def mask_codes(truths: Sequence[Objects], classes: int) -> np.ndarray:
    """Return a number for each class in masks, [C]: 1, 2, ... for those of the truths, one for all the others.

    W&B keeps one list of names for all images of a run, so the numbers must be the same at every evaluation.
    """
    present = np.unique(np.concatenate([np.zeros(0, np.int64), *(truth.classes for truth in truths)]))
    present = present[: MASK_CODES - 1].astype(np.int64)
    codes = np.full(classes, len(present) + 1)
    codes[present] = np.arange(1, len(present) + 1)
    return codes


def mask_labels(codes: np.ndarray, names: Sequence[str]) -> Mapping[int, str]:
    """Return the names of the numbers in masks."""
    numbers, first, count = np.unique(codes, return_index=True, return_counts=True)
    return {
        number: names[index] if of_one == 1 else "another class"
        for number, index, of_one in zip(numbers.tolist(), first.tolist(), count.tolist(), strict=True)
    }


def _boxes(objects: Objects, names: Sequence[str]) -> list[dict[str, object]]:
    sides = ("minX", "minY", "maxX", "maxY")
    boxes: list[dict[str, object]] = []
    for index, (box, category) in enumerate(zip(objects.boxes.tolist(), objects.classes.tolist(), strict=True)):
        score = None if objects.scores is None else float(objects.scores[index])
        boxes.append(
            {
                "position": dict(zip(sides, box, strict=True)),
                "domain": "pixel",
                "class_id": category,
                "box_caption": names[category] if score is None else f"{names[category]} {score:.2f}",
                **({} if score is None else {"scores": {"score": score}}),
            }
        )
    return boxes


def _mask(objects: Objects, masks: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return the numbers of the classes at the pixels of their masks, [H, W], the best objects on top, else 0."""
    layer = np.zeros(masks.shape[1:], dtype=np.uint8)
    order = range(len(masks)) if objects.scores is None else np.argsort(objects.scores, kind="stable").tolist()
    for index in order:
        layer[masks[index].astype(bool)] = codes[objects.classes[index]]
    return layer
