"""Weights of torchvision's COCO models and of earlier runs, class by class."""

import pickle
import re
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import (
    fasterrcnn_resnet50_fpn,
    fcos_resnet50_fpn,
    maskrcnn_resnet50_fpn,
    retinanet_resnet50_fpn,
)

from detloss.errors import UserError
from detloss.losses import ECM, DetectionLoss, FocalECM
from detloss.losses.coder import Sigmoid, SigmoidWithObjectness, Softmax
from detloss.models.backbone import ResNetFPN
from detloss.models.fcos import FCOS
from detloss.models.pretrained import COCO_NAMES, coco_state_dict, from_torchvision, load_matching
from detloss.models.rcnn import RCNN
from detloss.models.retinanet import RetinaNet
from tests.reference.torchvision_detectors import (
    MODELS,
    class_stats,
    default_loss,
    images_and_targets,
    ours,
    scatter_class_layers,
    twin,
    with_class_loss,
)

NAMES = sorted(set(COCO_NAMES) - {"__background__", "N/A"})  # 80, not in the order of COCO's ids
ORIGINALS: dict[str, Callable[..., nn.Module]] = {
    "fasterrcnn": fasterrcnn_resnet50_fpn,
    "maskrcnn": maskrcnn_resnet50_fpn,
    "retinanet": retinanet_resnet50_fpn,
    "fcos": fcos_resnet50_fpn,
}


def silence_unused_columns(state: dict[str, Tensor], *, dense: bool) -> None:
    """Give columns that are no category (gaps, and 0 in dense heads) the scores that training gives them."""
    unused = [column for column, name in enumerate(COCO_NAMES) if name == "N/A" or (dense and column == 0)]
    for key in [key for key in state if "cls_score" in key or "classification_head.cls_logits" in key]:
        grouped = state[key].clone().unflatten(0, (-1, len(COCO_NAMES)))
        grouped[:, unused] = 0.0 if key.endswith("weight") else -20.0
        state[key] = grouped.flatten(0, 1)


@pytest.mark.parametrize("model", MODELS)
def test_a_coco_state_dict_gives_the_same_detections_by_category_name(model: str) -> None:
    torch.manual_seed(1)
    stats = class_stats(len(NAMES))
    detector = ours(model, default_loss(model, stats))
    original = twin(model, detector, len(COCO_NAMES) - 1)
    scatter_class_layers(original)
    state = original.state_dict()
    silence_unused_columns(state, dense=model in ("retinanet", "fcos"))
    original.load_state_dict(state)
    scatter_class_layers(detector)  # nothing may be right by chance
    converted = from_torchvision(state, NAMES, detector_coder(detector))
    assert load_matching(detector, converted, source="model.weights=coco") == []

    for each in (detector, original):  # with 80 classes every score is low
        (each.roi_heads if hasattr(each, "roi_heads") else each).score_thresh = 0.011
    images, _ = images_and_targets(5, masks=False)
    with torch.no_grad():
        found, expected = detector.eval()(images), original.eval()(images)
    for detections, wanted in zip(found, expected, strict=True):
        names = [COCO_NAMES[label] for label in wanted["labels"].tolist()]
        assert len(set(names)) > 2
        assert [NAMES[label - 1] for label in detections["labels"].tolist()] == names
        for name in set(wanted) - {"labels"}:
            torch.testing.assert_close(detections[name], wanted[name], rtol=1e-5, atol=1e-5)


def detector_coder(detector: nn.Module) -> Softmax | Sigmoid:
    heads = detector.roi_heads if hasattr(detector, "roi_heads") else detector.head
    coder = heads.loss.coder
    assert isinstance(coder, Softmax | Sigmoid)
    return coder


def full_size(model: str, loss: DetectionLoss) -> nn.Module:
    """The detector of detloss that torchvision's COCO weights belong to."""
    levels = [2, 3, 4, 5, 6] if "rcnn" in model else [3, 4, 5, 6, 7]
    backbone = ResNetFPN(depth=50, levels=levels, norm="frozen", trainable_layers=3)
    if model == "retinanet":
        return RetinaNet(backbone, loss, anchor_sizes=(32, 64, 128, 256, 512))
    if model == "fcos":
        return FCOS(backbone, loss, levels=levels)
    masks = [256] * 4 if model == "maskrcnn" else None
    return RCNN(backbone, loss, anchor_sizes=(32, 64, 128, 256, 512), mask_channels=masks)


def old_names(model: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names in the files that torchvision published before 0.13, without their version numbers."""
    renamed = {}
    for key, value in state.items():
        key = re.sub(r"(fpn\.(?:inner|layer)_blocks\.\d)\.0\.", r"\1.", key)
        key = key.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        key = re.sub(r"mask_head\.(\d)\.0\.", lambda found: f"mask_head.mask_fcn{int(found[1]) + 1}.", key)
        if model == "retinanet":
            key = re.sub(r"_head\.conv\.(\d)\.0\.", lambda found: f"_head.conv.{2 * int(found[1])}.", key)
        renamed[key] = value
    return renamed


@pytest.mark.parametrize("model", MODELS)
def test_every_name_in_torchvisions_files_old_and_new_finds_its_parameter(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A number for each layer in place of 40 million random draws.
    numbers = count(1)
    monkeypatch.setattr(nn.init, "kaiming_uniform_", lambda tensor, **_: tensor.detach().fill_(next(numbers)))
    state = ORIGINALS[model](weights=None, weights_backbone=None).state_dict()
    detector = full_size(model, default_loss(model, class_stats(len(NAMES))))
    for version in (dict(state), old_names(model, state)):
        with torch.no_grad():
            for parameter in detector.parameters():
                parameter.fill_(torch.nan)
        converted = from_torchvision(version, NAMES, detector_coder(detector))
        assert load_matching(detector, converted, source="model.weights=coco") == []
        loaded = detector.state_dict()
        # Frozen norms do not count batches.
        assert all(key.endswith("num_batches_tracked") for key in state.keys() - loaded.keys())
        for key in state.keys() & loaded.keys():
            value = state[key]
            if loaded[key].shape == value.shape:
                assert torch.equal(loaded[key], value), key
            else:
                assert torch.isfinite(loaded[key]).all(), key
    assert old_names(model, state).keys() != state.keys()


def test_columns_follow_category_names() -> None:
    rows = torch.arange(91.0)[:, None].repeat(1, 3)
    state = {
        "roi_heads.box_predictor.cls_score.weight": rows,
        "roi_heads.box_predictor.bbox_pred.bias": torch.arange(91.0).repeat_interleave(4),
        "roi_heads.mask_predictor.mask_fcn_logits.bias": torch.arange(91.0),
    }
    converted = from_torchvision(state, ["zebra", "person"], Softmax(2))
    # COCO's ids: zebra 24, person 1; background is 0 and goes last.
    assert converted["roi_heads.box_predictor.cls_score.weight"][:, 0].tolist() == [24, 1, 0]
    assert converted["roi_heads.box_predictor.bbox_pred.bias"].tolist() == [24] * 4 + [1] * 4
    assert converted["roi_heads.mask_predictor.mask_fcn_logits.bias"].tolist() == [24, 1]
    dense = {"head.classification_head.cls_logits.bias": torch.arange(2 * 91.0)}
    converted = from_torchvision(dense, ["zebra", "person"], Sigmoid(2))
    assert converted["head.classification_head.cls_logits.bias"].tolist() == [24, 1, 91 + 24, 91 + 1]


def test_a_classifier_of_other_meaning_is_left_out() -> None:
    state = {
        "roi_heads.box_predictor.cls_score.weight": torch.zeros(91, 3),
        "roi_heads.box_predictor.bbox_pred.weight": torch.zeros(364, 3),
    }
    converted = from_torchvision(state, ["person"], SigmoidWithObjectness(1))
    assert set(converted) == {"roi_heads.box_predictor.bbox_pred.weight"}


def test_other_names_or_another_number_of_columns_leave_class_layers_out() -> None:
    state = {"roi_heads.box_predictor.cls_score.weight": torch.zeros(91, 3), "x": torch.zeros(1)}
    assert set(from_torchvision(state, ["person", "unicorn"], Softmax(2))) == {"x"}
    fine_tuned = {"roi_heads.box_predictor.cls_score.weight": torch.zeros(21, 3), "x": torch.zeros(1)}
    assert set(from_torchvision(fine_tuned, ["person"], Softmax(1))) == {"x"}


@pytest.mark.parametrize("model", MODELS)
def test_a_run_on_other_classes_leaves_class_layers_new_and_names_them(model: str) -> None:
    source = ours(model, default_loss(model, class_stats(7)))
    detector = ours(model, default_loss(model, class_stats(5)))
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    fresh = load_matching(detector, source.state_dict(), source="init=run")
    layers = {
        "fasterrcnn": ["roi_heads.box_predictor.cls_score", "roi_heads.box_predictor.bbox_pred"],
        "maskrcnn": [
            "roi_heads.box_predictor.cls_score",
            "roi_heads.box_predictor.bbox_pred",
            "roi_heads.mask_predictor.mask_fcn_logits",
        ],
        "retinanet": ["head.classification_head.cls_logits"],
        "fcos": ["head.classification_head.cls_logits"],
    }[model]
    assert sorted(fresh) == sorted(f"{layer}.{part}" for layer in layers for part in ("weight", "bias"))
    wanted = source.state_dict()
    for key, value in detector.state_dict().items():
        assert torch.equal(value, before[key] if key in fresh else wanted[key]), key


@pytest.mark.parametrize("model", ["fasterrcnn", "fcos"])
def test_the_state_of_a_loss_stays_with_its_run(model: str) -> None:
    other, mine = class_stats(5), class_stats(5)
    mine.instances[:] = [9, 7, 5, 3, 1]
    losses = [ECM(stats) if model == "fasterrcnn" else FocalECM(stats) for stats in (other, mine)]
    if isinstance(losses[0], ECM):
        losses[0](torch.zeros(4, 6), torch.tensor([0, 5, 5, 5]))
    source, detector = (ours(model, with_class_loss(model, loss)) for loss in losses)
    before = {key: value.clone() for key, value in losses[1].state_dict().items()}
    assert load_matching(detector, source.state_dict(), source="init=run") == []
    for key, value in losses[1].state_dict().items():
        assert torch.equal(value, before[key])
    assert not torch.equal(losses[0].shift, losses[1].shift)


@pytest.mark.parametrize(
    ("given", "wanted", "name"),
    [
        ("retinanet", "fasterrcnn", r"backbone\.fpn\.extra_blocks\.p6\.bias"),
        ("fasterrcnn", "maskrcnn", r"roi_heads\.mask_head\.0\.0\.bias"),
    ],
)
def test_weights_of_another_model_are_refused_with_their_names(given: str, wanted: str, name: str) -> None:
    detector = ours(wanted, default_loss(wanted, class_stats(5)))
    state = ours(given, default_loss(given, class_stats(5))).state_dict()
    with pytest.raises(UserError, match=rf"init=run does not fit this model: \d+ parameters .*{name}") as error:
        load_matching(detector, state, source="init=run")
    assert "\n" not in str(error.value)


def test_a_backbone_of_another_width_is_refused_under_old_and_new_names() -> None:
    detector = ours("maskrcnn", default_loss("maskrcnn", class_stats(5)))
    state = detector.state_dict()
    narrow = {key: value[:8] if "fpn" in key else value for key, value in state.items()}
    for version in (narrow, old_names("maskrcnn", narrow)):
        with pytest.raises(UserError, match=r"backbone\.fpn\.inner_blocks\.0\.0\.bias"):
            load_matching(detector, version, source="model.weights=x.pth")


def test_a_local_file_is_read_and_a_bad_one_refused_in_one_line(tmp_path: Path) -> None:
    good = tmp_path / "good.pth"
    torch.save({"x": torch.ones(2)}, good)
    assert coco_state_dict("maskrcnn", str(good))["x"].tolist() == [1, 1]
    (tmp_path / "text.pth").write_text("not weights")
    torch.save({"model": {"x": torch.ones(2)}}, tmp_path / "nested.pth")
    torch.save([torch.ones(2)], tmp_path / "list.pth")
    for name in ("missing.pth", "text.pth", "nested.pth", "list.pth", "."):
        with pytest.raises(UserError, match=r"model\.weights=") as error:
            coco_state_dict("maskrcnn", str(tmp_path / name))
        assert "\n" not in str(error.value)


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.target,)


def test_code_in_a_weights_file_does_not_run(tmp_path: Path) -> None:
    torch.save({"x": Bomb(tmp_path / "ran")}, tmp_path / "zip.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"x": Bomb(tmp_path / "ran")}, protocol=2))
    for name in ("zip.pth", "plain.pth"):
        with pytest.raises(UserError, match="safely"):
            coco_state_dict("maskrcnn", str(tmp_path / name))
    assert not (tmp_path / "ran").exists()
