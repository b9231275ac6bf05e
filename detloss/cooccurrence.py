"""How many images show two classes together."""

import csv
from pathlib import Path

import numpy as np

from detloss.data.image_labels import ImageLabels
from detloss.stats import ClassStats

CHUNK = 1 << 22
"""Pairs of classes counted at a time; as many again fit in memory several times over."""


def cooccurrence(labels: ImageLabels) -> np.ndarray:
    """Return the images that show both classes, [C, C] int64, symmetric; on the diagonal those that show one."""
    images, classes = labels.pairs
    partners = np.bincount(images, minlength=labels.num_images)
    ends = np.cumsum(partners)
    # Every pair of an image and a class meets all classes of its image.
    meetings = np.cumsum(partners[images])
    found = np.zeros(labels.num_classes**2, dtype=np.int64)
    start = 0
    while start < len(classes):
        before = meetings[start - 1] if start else 0
        stop = max(int(np.searchsorted(meetings, before + CHUNK, side="right")), start + 1)
        repeats = partners[images[start:stop]]
        first = ends[images[start:stop]] - repeats
        steps = np.arange(repeats.sum()) - np.repeat(np.cumsum(repeats) - repeats, repeats)
        others = classes[np.repeat(first, repeats) + steps]
        own = np.repeat(classes[start:stop], repeats)
        found += np.bincount(own * labels.num_classes + others, minlength=len(found))
        start = stop
    return found.reshape(labels.num_classes, labels.num_classes)


def write_cooccurrence(counts: np.ndarray, stats: ClassStats, path: Path) -> None:
    """Write the counts [C, C]: a CSV with the classes' names at both sides, or an NPZ with names and ids."""
    if path.suffix == ".npz":
        np.savez_compressed(path, images=counts, names=stats.names, category_ids=stats.category_ids)
        return
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["", *stats.names])
        writer.writerows([name, *row] for name, row in zip(stats.names, counts.tolist(), strict=True))
