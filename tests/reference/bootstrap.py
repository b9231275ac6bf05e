"""A draw of the bootstrap, slow and literal: the images are put down one after another, as often as drawn."""

from collections.abc import Mapping

import numpy as np

from tests.reference.average_precision import THRESHOLDS, Detection, Object, interpolated, number_of, outcomes


def average_precision_of_draw(
    objects: list[Object], detections: list[Detection], drawn: list[int], not_exhaustive: frozenset[int]
) -> float | None:
    """Return AP of one class in the images ``drawn``, of which some occur more than once and others never.

    Equal scores keep the order of the images.
    """
    counted = sum(number_of([o for o in objects if o.image == image]) for image in drawn)
    if counted == 0:
        return None
    values = []
    for threshold in THRESHOLDS:
        found: list[tuple[float, float]] = []
        for image in sorted(drawn):
            found += outcomes(
                [o for o in objects if o.image == image],
                [d for d in detections if d.image == image],
                threshold,
                not_exhaustive=not_exhaustive,
            )
        found.sort(key=lambda outcome: -outcome[0])
        values.append(interpolated([overlap > 0 for _, overlap in found], counted))
    return float(np.mean(values))


def mean_of_classes(values: Mapping[int, float | None]) -> float:
    """Return the mean over the classes that have objects in the draw."""
    return float(np.mean([value for value in values.values() if value is not None]))
