"""What an engine measured for one kind of IoU; the numbers of a report are means of it (no torch here)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from detloss.evaluation.matches import Matches
from detloss.evaluation.outcomes import Outcomes


@dataclass(frozen=True, eq=False)
class Measured:
    """T = 10 IoU thresholds .50:.05:.95, R = 101 recalls 0:.01:1, C categories by id, A = 4 area ranges.

    Attributes:
        precision: [T, R, C, A], -1 where there is no ground truth.
        matches: an item for every category.
        recall: by the name of its mean, say "AR100", each [T, C, A], -1 where there is no ground truth; the last
            one's means by size are reported, too.
        further: metrics that are ready, by name.
        outcomes: what can be analysed further, None if another program measured.
    """

    precision: np.ndarray
    matches: Sequence[Matches]
    recall: Mapping[str, np.ndarray]
    further: Mapping[str, float | None] = field(default_factory=dict)
    outcomes: Outcomes | None = None


def recall_limits(max_detections: int) -> dict[str, int]:
    """Return how many detections of an image and category COCO's average recalls allow, by their names."""
    limits = sorted({limit for limit in (1, 10) if limit < max_detections} | {max_detections})
    return {f"AR{limit}": limit for limit in limits}
