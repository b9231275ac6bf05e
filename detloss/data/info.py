"""What an annotation file holds, in a few lines (no torch here)."""

from pathlib import Path

import numpy as np
from rich.table import Table

from detloss.data.store import open_annotations
from detloss.stats import ClassStats, frequency_groups


def describe(path: Path, thresholds: tuple[int, int] | None) -> Table:
    """Return a table of two columns; ``thresholds`` bound the frequency groups, None leaves them out.

    Groups are by training images, so that another file's counts make none.
    """
    annotations = open_annotations(path, masks=True)
    stats = ClassStats.from_annotations(annotations)
    groups = frequency_groups(stats.images, thresholds) if thresholds else ()
    per_image = np.diff(annotations.offsets)
    table = Table(title=str(path), title_justify="left", box=None, pad_edge=False, show_header=False)
    crowds = int(annotations.iscrowd.sum())
    missing = annotations.segmentations.missing().sum() if annotations.segmentations is not None else 0
    sides = np.maximum(annotations.heights, annotations.widths)
    box_sides = np.sqrt(np.prod(annotations.boxes[:, 2:] - annotations.boxes[:, :2], axis=1))
    rows = {
        "images": f"{stats.num_images:,}, {int((per_image == 0).sum()):,} without an object",
        "longer side": _spread(sides, "pixels"),
        "objects": f"{int(stats.instances.sum()):,}, and {crowds:,} crowds; {annotations.dropped:,} without area",
        "objects an image": _spread(per_image, ""),
        "size of a box": f"{_spread(box_sides, 'pixels')} (square root of its area)",
        "segmentations": f"{len(annotations.boxes) - int(missing):,} of {len(annotations.boxes):,}",
        "classes": f"{stats.num_classes:,}, {int((stats.instances == 0).sum()):,} without an object"
        + "".join(f", {groups.count(group):,} {group}" for group in "rcf" if groups),
        "objects a class": _spread(stats.instances, ""),
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _spread(values: np.ndarray, unit: str) -> str:
    """Return the smallest, the middle and the largest."""
    if not len(values):
        return "-"
    low, middle, high = values.min(), np.median(values), values.max()
    return f"{low:,.0f} to {high:,.0f}, median {middle:,.0f} {unit}".rstrip()
