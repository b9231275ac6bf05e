"""A detector with LOCE's feature memory: what a training step learns from, and what leaves the memory alone."""

import pytest
import torch
from torch import Tensor

from detloss.errors import UserError
from detloss.losses import LOCE, CrossEntropy, DetectionLoss, Samples
from detloss.losses.base import ClassPlusBox, state_scalars
from detloss.losses.box import SmoothL1
from detloss.models.backbone import ResNetFPN
from detloss.models.rcnn import RCNN
from tests.reference.torchvision_detectors import ANCHOR_SIZES, CHANNELS, SIZES, class_stats, images_and_targets

CLASSES = 5


class Recording(LOCE):
    """LOCE, which keeps what it was given."""

    def forward(self, samples: Samples) -> dict[str, Tensor]:
        self.samples = samples
        return super().forward(samples)


def detector(loss: DetectionLoss, *, masks: bool = False, feature_memory: dict[str, int] | None = None) -> RCNN:
    return RCNN(
        ResNetFPN(depth=18, levels=[3, 4, 5], channels=CHANNELS, norm="group"),
        loss,
        anchor_sizes=ANCHOR_SIZES,
        representation_size=48,
        mask_channels=[CHANNELS] if masks else None,
        rpn_proposals_train=60,
        rpn_proposals_test=40,
        rpn_batch_per_image=64,
        box_batch_per_image=32,
        feature_memory=feature_memory,
        **SIZES,
    )


@pytest.mark.parametrize("masks", [False, True])
def test_a_training_step_learns_from_remembered_features(masks: bool) -> None:
    torch.manual_seed(0)
    loss = Recording(class_stats(CLASSES))
    model = detector(loss, masks=masks, feature_memory={"queue_size": 200}).train()
    images, targets = images_and_targets(CLASSES, masks=masks)
    present = torch.cat([target["labels"] for target in targets]) - 1
    rows = 0
    for step in range(2):
        terms = model(images, targets)
        assert all(term.isfinite() for term in terms.values())
        appended = len(loss.samples.labels) - int((loss.samples.image_index < 3).sum())
        rows += appended
        if appended:
            labels = loss.samples.labels[-appended:]
            assert set(labels.tolist()) <= set(present.tolist())
            assert (loss.samples.image_index[-appended:] == 3).all()
            assert (loss.samples.object_index[-appended:] >= 5).all()
            torch.testing.assert_close(loss.samples.weights.sum(), torch.tensor(1.0))
        assert model.roi_heads.memory.filled.sum() == (step + 1) * 5 * 16
    assert rows > 0 and state_scalars(model)["state/memory_sampled"] == appended


def test_gradients_of_appended_rows_reach_the_head_but_nothing_below() -> None:
    torch.manual_seed(0)
    loss = Recording(class_stats(CLASSES))
    model = detector(loss, feature_memory={}).train()
    images, targets = images_and_targets(CLASSES, masks=False)
    model(images, targets)
    assert not model.roi_heads.memory.features.requires_grad
    kept = loss.samples.image_index < 3
    assert not kept.all()
    loss.samples.logits[~kept].logsumexp(dim=1).sum().backward(retain_graph=True)
    loss.samples.boxes[int((loss.samples.foreground < kept.sum()).sum()) :].sum().backward()
    for name, parameter in model.named_parameters():
        reached = parameter.grad is not None and bool(parameter.grad.any())
        assert reached == name.startswith(("roi_heads.box_head", "roi_heads.box_predictor")), name


def test_images_without_boxes_train_with_an_empty_memory_and_with_a_full_one() -> None:
    torch.manual_seed(0)
    loss = Recording(class_stats(CLASSES))
    model = detector(loss, feature_memory={}).train()
    images, targets = images_and_targets(CLASSES, masks=False)
    for empty in (True, False, True):
        given = [targets[1]] * 3 if empty else targets
        terms = model(images, given)
        sum(terms.values()).backward()
        assert all(term.isfinite() for term in terms.values())
        assert all(parameter.grad is not None for parameter in model.roi_heads.parameters())
    assert int((loss.samples.labels < CLASSES).sum()) == model.roi_heads.memory.sampled > 0


def test_the_memory_holds_float32_under_autocast() -> None:
    torch.manual_seed(0)
    model = detector(LOCE(class_stats(CLASSES)), feature_memory={"queue_size": 20}).train()
    images, targets = images_and_targets(CLASSES, masks=False)
    with torch.autocast("cpu", torch.bfloat16):
        terms = model(images, targets)
    assert all(term.isfinite() and term.dtype == torch.float32 for term in terms.values())
    assert model.roi_heads.memory.features.dtype == torch.float32


def test_inference_leaves_the_memory_alone() -> None:
    torch.manual_seed(0)
    model = detector(LOCE(class_stats(CLASSES)), feature_memory={})
    images, targets = images_and_targets(CLASSES, masks=False)
    model.train()(images, targets)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    with torch.no_grad():
        model.eval()(images)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)


def test_without_a_memory_samples_are_those_of_the_images_alone() -> None:
    torch.manual_seed(0)
    loss = Recording(class_stats(CLASSES))
    model = detector(loss).train()
    model(*images_and_targets(CLASSES, masks=False))
    assert loss.samples.image_index.max() == 2
    assert not any("memory" in name for name in model.state_dict())


def test_a_memory_with_another_loss_is_refused() -> None:
    stats = class_stats(CLASSES)
    with pytest.raises(UserError, match=r"draws by LOCE's mean scores.*loss=loce"):
        detector(ClassPlusBox(CrossEntropy(stats), SmoothL1()), feature_memory={})
