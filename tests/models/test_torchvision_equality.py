"""Each detector gives torchvision's own losses, gradients and detections on the same weights."""

import copy

import pytest
import torch
from torch import Tensor, nn

from detloss.losses import ECM, FocalECM
from tests.reference.torchvision_detectors import (
    CLASS_LAYERS,
    MODELS,
    TERMS,
    class_stats,
    default_loss,
    images_and_targets,
    ours,
    to_torchvision,
    twin,
    with_class_loss,
)

CLASSES = 5
Pair = tuple[str, nn.Module, nn.Module]


@pytest.fixture(scope="module", params=MODELS)
def pair(request: pytest.FixtureRequest) -> Pair:
    """Our detector and torchvision's, with the same parameters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        detector = ours(request.param, default_loss(request.param, class_stats(CLASSES)))
        original = twin(request.param, detector, CLASSES)
    original.load_state_dict(to_torchvision(detector.state_dict(), CLASSES))
    return request.param, detector, original


def losses(detector: nn.Module, model: str) -> dict[str, Tensor]:
    images, targets = images_and_targets(CLASSES, masks=model == "maskrcnn")
    detector.train()
    detector.zero_grad()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)  # both sample anchors and proposals
        terms: dict[str, Tensor] = detector(images, targets)
    return terms


def test_the_loss_terms_are_torchvisions(pair: Pair) -> None:
    model, detector, original = pair
    terms, expected = losses(detector, model), losses(original, model)
    names = {name: next(other for other in TERMS[name] if other in expected) for name in terms}
    assert sorted(names.values()) == sorted(expected)
    for name, other in names.items():
        assert terms[name] > 0
        torch.testing.assert_close(terms[name], expected[other], rtol=1e-5, atol=1e-7)


def test_the_gradients_are_torchvisions(pair: Pair) -> None:
    model, detector, original = pair
    for each in (detector, original):
        sum(losses(each, model).values()).backward()
    expected = dict(original.named_parameters())
    shared = [name for name in expected if not any(part in name for part in CLASS_LAYERS)]
    gradients = {name: parameter.grad for name, parameter in detector.named_parameters()}
    assert set(shared) <= set(gradients)
    for name in shared:
        difference = (gradients[name] - expected[name].grad).norm()
        # A bias before group norm with one channel a group has a gradient of 0 but for rounding.
        assert difference <= 1e-4 * expected[name].grad.norm() + 1e-6, name


def test_the_detections_are_torchvisions(pair: Pair) -> None:
    _, detector, original = pair
    images, _ = images_and_targets(CLASSES, masks=False)
    with torch.no_grad():
        found, expected = detector.eval()(images), original.eval()(images)
    for detections, wanted in zip(found, expected, strict=True):
        assert len(wanted["boxes"]) > 5
        assert len(wanted["labels"].unique()) > 1
        assert set(detections) == set(wanted)
        for name, value in wanted.items():
            torch.testing.assert_close(detections[name], value, rtol=1e-5, atol=1e-5)


def test_images_are_resized_at_inference_only(pair: Pair) -> None:
    """The data pipeline resizes in training; boxes at inference are in pixels of the image given."""
    _, detector, _ = pair
    images, targets = images_and_targets(CLASSES, masks=False)
    batch, _ = detector.train().transform(images, targets)
    assert batch.image_sizes == [(96, 80), (64, 96), (96, 96)]
    batch, _ = detector.eval().transform(images)
    assert batch.image_sizes == [(115, 96), (85, 128), (96, 96)]


@pytest.mark.parametrize("tail_loss", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_images_without_boxes_train_every_parameter(model: str, tail_loss: bool) -> None:
    stats = class_stats(CLASSES)
    loss = default_loss(model, stats)
    if tail_loss:
        loss = with_class_loss(model, ECM(stats) if "rcnn" in model else FocalECM(stats))
    detector = ours(model, loss, classifier="cosine" if tail_loss else "linear").train()
    images, targets = images_and_targets(CLASSES, masks=model == "maskrcnn")
    empty = [copy.copy(targets[1]) for _ in range(2)]
    terms = detector(images[1:2] * 2, empty)
    assert all(torch.isfinite(term) for term in terms.values())
    sum(terms.values()).backward()
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_ignored_anchors_do_not_reach_the_loss() -> None:
    """Moving the logits of anchors between the thresholds changes nothing; of any other, the loss."""
    torch.manual_seed(0)
    detector = ours("retinanet", default_loss("retinanet", class_stats(CLASSES)))
    anchors = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 4.5], [20.0, 20.0, 30.0, 30.0]])
    target = {"boxes": anchors[:1].clone(), "labels": torch.tensor([2])}
    matches = [torch.tensor([0, -2, -1])]  # torchvision: -2 lies between the thresholds, -1 below

    def classification(logits: Tensor) -> float:
        outputs = {"cls_logits": logits, "bbox_regression": torch.zeros(1, 3, 4)}
        terms = detector.head.compute_loss([target], outputs, [anchors], matches)
        return float(terms["loss_classifier"])

    still = classification(torch.zeros(1, 3, CLASSES))
    for anchor, moves in enumerate((True, False, True)):
        logits = torch.zeros(1, 3, CLASSES)
        logits[0, anchor] = 3.0
        assert (classification(logits) != still) == moves
