"""How often each class occurs: what every long-tailed loss and sampler starts from (no torch here)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np

from detloss.data.annotations import Annotations
from detloss.data.image_labels import ImageLabels
from detloss.data.store import open_annotations
from detloss.errors import UserError


@dataclass(frozen=True, eq=False)
class ClassStats:
    """Instances and images per class of a training set, classes in ascending order of category id.

    ``instances`` and ``images`` are [C] int64, counted without crowds and degenerate boxes; ``num_images``
    counts all images of the file and ``num_annotated_images`` those with an annotation (None: as many).
    Counts may be 0; margins clamp them, tables show them.
    """

    names: tuple[str, ...]
    category_ids: tuple[int, ...]
    num_images: int
    instances: np.ndarray
    images: np.ndarray
    num_annotated_images: int | None = None

    def __post_init__(self) -> None:
        lengths = {len(self.names), len(self.category_ids), *self.instances.shape, *self.images.shape}
        if len(lengths) != 1 or self.instances.ndim != 1 or self.images.ndim != 1:
            raise ValueError(f"names, ids and counts differ in length: {sorted(lengths)}")
        if self.num_classes == 0 or self.instances.min() < 0 or self.images.min() < 0:
            raise ValueError("there must be at least one class and no negative count")

    @property
    def num_classes(self) -> int:
        return len(self.names)

    @property
    def image_fractions(self) -> np.ndarray:
        """Share of the annotated images that show the class, [C] float64; a class in none counts as in one.

        The official EQL and DropLoss divide by annotated images (99,388 of LVIS v1's 100,170).
        """
        annotated = self.num_images if self.num_annotated_images is None else self.num_annotated_images
        return np.maximum(self.images, 1) / max(annotated, 1)

    def tail(self, fraction: float) -> np.ndarray:
        """Return which classes are on less than the fraction of the annotated images, [C] (EQL, CVPR 2020)."""
        return self.image_fractions < fraction

    def as_one_class(self) -> "ClassStats":
        """Return the statistics of objects as such, what a region proposal network knows."""
        annotated = self.num_images if self.num_annotated_images is None else self.num_annotated_images
        return ClassStats(
            ("object",),
            (1,),
            self.num_images,
            self.instances.sum(keepdims=True),
            np.array([annotated], dtype=np.int64),
            self.num_annotated_images,
        )

    @classmethod
    def from_coco(cls, path: Path | str) -> "ClassStats":
        """Count the annotations of a COCO-format file."""
        return cls.from_annotations(open_annotations(Path(path)))

    @classmethod
    def from_lvis(cls, path: Path | str) -> "ClassStats":
        """Count the annotations of an LVIS training file.

        Every LVIS split declares the counts of the training set in its categories; a file that holds far
        fewer instances than that is a validation file, whose counts must not become class weights.
        """
        annotations = open_annotations(Path(path))
        if annotations.frequencies is None:
            raise UserError(f"{path}: not an LVIS file, its categories have no 'frequency' (try from_coco)")
        stats = cls.from_annotations(annotations)
        counted, declared = int(stats.instances.sum()), annotations.declared_instances
        if declared is not None and counted < 0.99 * declared:  # 1%: degenerate boxes are not counted
            raise UserError(
                f"{path}: holds {counted} instances, but its categories declare {declared} in the training "
                "set; is it the validation file? (from_coco counts a file as it is)"
            )
        return stats

    @classmethod
    def from_annotations(cls, annotations: Annotations, images: np.ndarray | None = None) -> "ClassStats":
        """Count annotations that are already read, of all images or of those at the positions ``images``."""
        return cls.from_labels(ImageLabels.from_annotations(annotations, images), annotations, images)

    @classmethod
    def from_labels(
        cls, labels: ImageLabels, annotations: Annotations, images: np.ndarray | None = None
    ) -> "ClassStats":
        """Count as `from_annotations` does, where the labels of the images are at hand."""
        annotated = np.diff(annotations.offsets) > 0  # crowds included, as the official tools count
        return cls(
            names=annotations.category_names,
            category_ids=annotations.category_ids,
            num_images=len(labels),
            instances=labels.instances,
            images=labels.images,
            num_annotated_images=int((annotated if images is None else annotated[images]).sum()),
        )

    @classmethod
    def lvis_v1(cls) -> "ClassStats":
        """Return the counts of the LVIS v1 training set (CC BY 4.0), which ship with the package."""
        return cls.from_json(json.loads(files("detloss").joinpath("lvis_v1_counts.json").read_text("utf-8")))

    def to_json(self) -> dict[str, object]:
        """Return plain lists and numbers, which ``from_json`` turns back."""
        return {
            "num_images": self.num_images,
            "num_annotated_images": self.num_annotated_images,
            "category_ids": list(self.category_ids),
            "names": list(self.names),
            "images": self.images.tolist(),
            "instances": self.instances.tolist(),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, object]) -> "ClassStats":
        """Return the statistics that ``to_json`` wrote; other keys are ignored."""
        annotated = content.get("num_annotated_images")
        try:
            return cls(
                names=tuple(str(name) for name in _list(content, "names")),
                category_ids=tuple(_integers(content, "category_ids").tolist()),
                num_images=int(str(content["num_images"])),
                instances=_integers(content, "instances"),
                images=_integers(content, "images"),
                num_annotated_images=int(str(annotated)) if annotated is not None else None,
            )
        except KeyError as error:
            raise UserError(f"class statistics: {error} is missing") from None
        except (TypeError, ValueError) as error:
            raise UserError(f"class statistics: {error}") from None


def frequency_groups(images: np.ndarray, thresholds: tuple[int, int] | None) -> tuple[str, ...]:
    """Sort classes into rare "r", common "c" and frequent "f" by their number of training images.

    Source: LVIS (CVPR 2019), thresholds (10, 100): r <= 10 < c <= 100 < f. ``None`` splits the classes into
    thirds by rank; classes with equal counts share the middle of their ranks and so stay together.
    """
    if thresholds is None:
        ordered = np.sort(images)
        # Twice the middle rank, an integer: the classes below plus the classes below or equal.
        rank = np.searchsorted(ordered, images, "left") + np.searchsorted(ordered, images, "right")
        group = np.digitize(3 * rank, [2 * len(images), 4 * len(images)], right=True)
    else:
        if thresholds[0] > thresholds[1]:
            raise UserError(f"frequency groups: thresholds must ascend, got {list(thresholds)}")
        group = np.digitize(images, thresholds, right=True)
    return tuple("rcf"[index] for index in group)


def _list(content: Mapping[str, object], key: str) -> list[object]:
    values = content[key]
    if not isinstance(values, list | tuple):
        raise TypeError(f"{key} must be a list, got {type(values).__name__}")
    return list(values)


def _integers(content: Mapping[str, object], key: str) -> np.ndarray:
    values = np.array(_list(content, key))
    if values.dtype.kind not in "iu":
        raise TypeError(f"{key} must hold integers only")
    return values.astype(np.int64)
