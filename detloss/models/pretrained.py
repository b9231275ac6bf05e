"""Weights of other detectors: torchvision's COCO models and earlier runs, class by class where classes match."""

import re
from collections.abc import Sequence
from pathlib import Path

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
    detloss has background last, or nowhere. Class-sized parameters are left out when a name is not COCO's or
    the file has other classes than COCO's, and the classifier also when its logits mean something else under
    ``coder``.
    """
    known = set(names) <= set(COCO_NAMES)
    columns = [COCO_NAMES.index(name) for name in names] if known else []
    converted = {}
    for key, value in state.items():
        part = next((part for part in (*CLASSIFIERS, *BOXES, *MASKS) if part in key), None)
        if part is None:
            converted[key] = value
            continue
        anchors = len(value) // len(COCO_NAMES) if part == CLASSIFIERS[1] else 1
        order = [*columns, 0] if part == CLASSIFIERS[0] else columns
        of_coco = len(value) == anchors * len(COCO_NAMES) * (4 if part in BOXES else 1)
        if known and of_coco and _means_the_same(part, coder):
            converted[key] = select_classes(value, order, blocks=anchors)
    return converted


def _means_the_same(part: str, coder: ClassCoder) -> bool:
    """Whether torchvision's parameters of this name serve a head with ``coder``."""
    if part == CLASSIFIERS[0]:
        return type(coder) is Softmax
    return part != CLASSIFIERS[1] or type(coder) is Sigmoid


def without_epsilon(state: dict[str, Tensor], epsilon: float = 1e-5) -> dict[str, Tensor]:
    """Return weights that act under a FrozenBatchNorm of ``epsilon`` as they do under one of 0.

    torchvision trained its R-CNN and RetinaNet COCO weights without it and sets the modules' to 0 for them; in
    the variances it outlives saving, evaluation and ``init=``.
    """
    return {key: value - epsilon if key.endswith("running_var") else value for key, value in state.items()}


def select_classes(value: Tensor, columns: Sequence[int], *, blocks: int) -> Tensor:
    """Pick classes along dimension 0, laid out as [blocks, 91, parameters of a class]."""
    grouped = value.unflatten(0, (blocks, len(COCO_NAMES), -1))
    return grouped[:, list(columns)].flatten(0, 2)


def load_matching(model: nn.Module, state: dict[str, Tensor], *, source: str) -> list[str]:
    """Load every parameter of ``state`` and return the names of class-sized ones that stay new.

    The state of losses (counts, ratios, a feature memory) belongs to the run that made it and is left alone.
    Only class-sized parameters may be missing or differ in shape.

    Raises:
        UserError: other parameters are missing, unexpected or of another shape.
    """
    expected = model.state_dict()
    given = {key: value for key, value in state.items() if not is_loss_state(key)}
    wrong_shape = {key for key, value in given.items() if key in expected and value.shape != expected[key].shape}
    fitting = {key: value for key, value in given.items() if key not in wrong_shape}
    # torchvision's modules rename what its oldest files call otherwise, so only loading tells what is missing.
    try:
        missing, unexpected = model.load_state_dict(fitting, strict=False)
    except RuntimeError as error:
        missing, unexpected = [], re.findall(r"size mismatch for (\S+):", str(error))
    fresh = [key for key in missing if not is_loss_state(key)]
    wrong = {key for key in {*fresh, *unexpected, *wrong_shape} if not is_class_sized(key)}
    wrong = {key for key in wrong if not key.endswith("num_batches_tracked")}
    if wrong:
        raise UserError(
            f"{source} does not fit this model: {len(wrong)} parameters are missing, unexpected or of another "
            f"shape, such as {', '.join(sorted(wrong)[:3])}; choose the model and backbone it was trained with"
        )
    return [key for key in fresh if is_class_sized(key)]


def is_classifier(key: str) -> bool:
    return any(part in key for part in CLASSIFIERS)


def is_class_sized(key: str) -> bool:
    return any(part in key for part in (*CLASSIFIERS, *BOXES, *MASKS))


def is_loss_state(key: str) -> bool:
    return any(part in f".{key}" for part in (".loss.", ".memory."))
