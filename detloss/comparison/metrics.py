"""The metrics that comparisons know, under draws of images (no torch here)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from detloss.errors import UserError, nearest
from detloss.evaluation.ground_truth import FREQUENCIES
from detloss.evaluation.result import AREAS, IOU_50, IOU_75, IOU_90, IOU_TYPES
from detloss.evaluation.weighted_ap import WeightedAP

THRESHOLDS = {"AP50": IOU_50, "AP75": IOU_75, "AP90": IOU_90}
SIZES = {f"AP{size}": area for area, size in enumerate(AREAS) if size}
GROUPS = {f"AP{group}": group for group in FREQUENCIES}
NAMES = ("AP", *THRESHOLDS, *SIZES, *GROUPS, "AR", "oLRP")

OF_BOXES = ("AP", "AP50", "AP75", "APr", "APc", "APf")
OF_MASKS = ("AP", "APr", "APc", "APf", "bbox/AP")
"""What is shown unless something is asked for: of runs with masks the columns of ECM's Table 1 (ECCV 2022)."""


@dataclass(frozen=True)
class Metric:
    """A mean over classes: ``name`` of `NAMES`, of overlaps of one ``kind``."""

    kind: str
    name: str

    @property
    def area(self) -> int:
        """The area range of the match table that it is computed from."""
        return SIZES.get(self.name, 0)

    @property
    def quantity(self) -> str:
        """What is measured of every class, from which several metrics may be computed: AP, AR or oLRP."""
        return self.name if self.name in ("AR", "oLRP") else "AP"

    def of_classes(self, measured: np.ndarray) -> np.ndarray:
        """Return its values by class, [B, C], from its quantity at T thresholds, [B, T, C]."""
        return measured[:, THRESHOLDS[self.name]] if self.name in THRESHOLDS else measured.mean(axis=1)

    def members(self, groups: Sequence[str]) -> np.ndarray:
        """Return whether each class is averaged, [C] bool."""
        return np.array([GROUPS.get(self.name, group) == group for group in groups])


def parse_metrics(text: str | None, kinds: Sequence[str]) -> tuple[Metric, ...]:
    """Return the metrics of words like ``AP,APr,bbox/AP50``, or the usual ones.

    Args:
        kinds: the overlaps that every run can be scored by; a metric without one is of masks where they can.

    Raises ``UserError`` for names and kinds that nobody has.
    """
    main = "segm" if "segm" in kinds else "bbox"
    words = (
        (OF_MASKS if main == "segm" else OF_BOXES) if text is None else [word.strip() for word in text.split(",")]
    )
    metrics = []
    for word in words:
        kind, _, name = word.rpartition("/")
        if name not in NAMES:
            raise UserError(f"--metric {word}: expected some of {', '.join(NAMES)}{nearest(name, NAMES)}")
        if kind and kind not in IOU_TYPES:
            raise UserError(f"--metric {word}: expected bbox, segm or boundary before /{nearest(kind, IOU_TYPES)}")
        if kind and kind not in kinds:
            raise UserError(f"--metric {word}: not every run has masks; try bbox/{name}")
        metrics.append(Metric(kind or main, name))
    return tuple(dict.fromkeys(metrics))


def measure(
    metrics: Sequence[Metric],
    weighted: Mapping[tuple[str, int], WeightedAP],
    groups: Sequence[str],
    weights: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the metrics of every draw, [B, M], and the first one's values by class, [B, C].

    Args:
        weighted: by kind and area range.
        groups: the frequency group of every class.
        weights: [B, I], how often each image was drawn.
    """
    measured: dict[tuple[str, int, str], np.ndarray] = {}
    classes = []
    for metric in metrics:
        key = metric.kind, metric.area, metric.quantity
        if key not in measured:
            measured[key] = _quantity(metric.quantity, weighted[metric.kind, metric.area], weights)
        classes.append(metric.of_classes(measured[key]))
    means = [_mean(values[:, each.members(groups)]) for each, values in zip(metrics, classes, strict=True)]
    return np.stack(means, axis=1), classes[0]


def _quantity(name: str, weighted: WeightedAP, weights: np.ndarray) -> np.ndarray:
    """Return AP, AR or oLRP by threshold and class, [B, T, C]; oLRP has one threshold."""
    if name == "oLRP":
        return weighted.olrp(weights)[:, None]
    return weighted.recall(weights) if name == "AR" else weighted.average_precision(weights)


def _mean(values: np.ndarray) -> np.ndarray:
    """Return the means of the rows of [B, C] over what is defined, NaN where nothing is."""
    defined = ~np.isnan(values)
    number = defined.sum(axis=1)
    return np.where(number, np.where(defined, values, 0).sum(axis=1) / np.maximum(number, 1), np.nan)
