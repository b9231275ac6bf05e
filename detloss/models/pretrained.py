"""Weights of other detectors: torchvision's COCO models and earlier runs, class by class where classes match."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection import (
    FasterRCNN_ResNet50_FPN_Weights,
    FCOS_ResNet50_FPN_Weights,
    MaskRCNN_ResNet50_FPN_Weights,
    RetinaNet_ResNet50_FPN_Weights,
)

from detloss.errors import UserError
from detloss.losses.coder import ClassCoder, Sigmoid, Softmax
from detloss.models.backbone import downloaded, read_state_dict

COCO_WEIGHTS: dict[str, torchvision.models.WeightsEnum] = {
    "fasterrcnn": FasterRCNN_ResNet50_FPN_Weights.COCO_V1,
    "maskrcnn": MaskRCNN_ResNet50_FPN_Weights.COCO_V1,
    "retinanet": RetinaNet_ResNet50_FPN_Weights.COCO_V1,
    "fcos": FCOS_ResNet50_FPN_Weights.COCO_V1,
}

COCO_NAMES: tuple[str, ...] = tuple(MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"])
"""Names of torchvision's 91 columns; column 0 is background, and gaps are called N/A."""

CLASSIFIERS = ("box_predictor.cls_score.", "classification_head.cls_logits.")
BOXES = ("box_predictor.bbox_pred.",)
MASKS = ("mask_predictor.mask_fcn_logits.",)


def coco_state_dict(model_name: str, weights: str) -> dict[str, Tensor]:
    """Return a torchvision detector's state dict, for ``weights`` either ``coco`` or a path."""
    if weights != "coco":
        return read_state_dict(Path(weights), option="model.weights")
    return downloaded(COCO_WEIGHTS[model_name], option="model.weights", otherwise="null")


def from_torchvision(state: dict[str, Tensor], names: Sequence[str], coder: ClassCoder) -> dict[str, Tensor]:
    """Return torchvision's COCO state dict with class-sized parameters in the order of ``names``.

    torchvision's column 0 is background (dead in RetinaNet and FCOS) and its columns are category ids;
    detloss has background last, or nowhere. Class-sized parameters are left out when a name is not COCO's,
    and the classifier also when its logits mean something else under ``coder``.
    """
    known = set(names) <= set(COCO_NAMES)
    columns = [COCO_NAMES.index(name) for name in names] if known else []
    converted = {}
    for key, value in state.items():
        part = next((part for part in (*CLASSIFIERS, *BOXES, *MASKS) if part in key), None)
        if part is None:
            converted[key] = value
        elif known and part in (*BOXES, *MASKS):
            converted[key] = select_classes(value, columns, blocks=1)
        elif known and part == CLASSIFIERS[0] and isinstance(coder, Softmax):
            converted[key] = select_classes(value, [*columns, 0], blocks=1)
        elif known and part == CLASSIFIERS[1] and isinstance(coder, Sigmoid):
            converted[key] = select_classes(value, columns, blocks=_anchors(value))
    return converted


def select_classes(value: Tensor, columns: Sequence[int], *, blocks: int) -> Tensor:
    """Pick classes along dimension 0, laid out as [blocks, 91, parameters of a class]."""
    grouped = value.unflatten(0, (blocks, len(COCO_NAMES), -1))
    return grouped[:, list(columns)].flatten(0, 2)


def _anchors(value: Tensor) -> int:
    return len(value) // len(COCO_NAMES)


def load_matching(model: nn.Module, state: dict[str, Tensor], *, source: str) -> list[str]:
    """Load every parameter of ``state`` and return the names of class-sized ones that stay new.

    The state of losses (counts, ratios) belongs to the run that made it and is left alone. Only class-sized
    parameters may be missing or differ in shape.

    Raises:
        UserError: other parameters are missing, unexpected or of another shape.
    """
    expected = {key: value for key, value in model.state_dict().items() if not is_loss_state(key)}
    given = {key: value for key, value in state.items() if not is_loss_state(key)}
    fitting = {
        key: value for key, value in given.items() if key in expected and value.shape == expected[key].shape
    }
    fresh = [key for key in expected if key not in fitting]
    wrong = [key for key in {*fresh, *(given.keys() - expected.keys())} if not is_class_sized(key)]
    wrong = [key for key in wrong if not key.endswith("num_batches_tracked")]
    if wrong:
        raise UserError(
            f"{source} does not fit this model: {len(wrong)} parameters are missing, unexpected or of another "
            f"shape, such as {', '.join(sorted(wrong)[:3])}; choose the model and backbone it was trained with"
        )
    with torch.no_grad():
        model.load_state_dict(fitting, strict=False)
    return [key for key in fresh if is_class_sized(key)]


def is_class_sized(key: str) -> bool:
    return any(part in key for part in (*CLASSIFIERS, *BOXES, *MASKS))


def is_loss_state(key: str) -> bool:
    return ".loss." in f".{key}"
