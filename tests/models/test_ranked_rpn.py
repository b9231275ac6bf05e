"""Two-stage detectors that rank in both stages: no anchor and no proposal is drawn by chance."""

from collections.abc import Callable

import pytest
import torch
from hydra import compose, initialize_config_module
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import box_iou, generalized_box_iou_loss

from detloss import build
from detloss.losses import ALRP, DR, NDCG, APLoss, DetectionLoss, RankSort, Samples
from detloss.losses.base import state_scalars
from detloss.losses.ranking import alrp, rank_sort
from detloss.models.anchors import Anchors
from detloss.models.backbone import ResNetFPN
from detloss.models.rcnn import RCNN
from detloss.models.rpn import RankedRPN, RPNHead
from tests.reference.torchvision_detectors import (
    ANCHOR_SIZES,
    CHANNELS,
    SIZES,
    WIDTH,
    class_stats,
    images_and_targets,
    scatter_class_layers,
)

CLASSES = 5
ONE = class_stats(CLASSES).as_one_class()
LOSSES: dict[str, Callable[..., DetectionLoss]] = {
    "alrp": ALRP,
    "ap": APLoss,
    "dr": DR,
    "ndcg": NDCG,
    "ranksort": RankSort,
}
COUNT = 40


def ranked_rpn(loss: DetectionLoss, weight: float = 1.0) -> RankedRPN:
    proposals = {"training": 60, "testing": 40}
    anchors = Anchors(((16,),), ((1.0,),))
    return RankedRPN(anchors, RPNHead(8, 1), loss, iou_thresholds=(0.7, 0.3), proposals=proposals, weight=weight)


def anchors_and_targets() -> tuple[Tensor, Tensor, Tensor, Tensor, list[Tensor]]:
    """Anchors of two images with objects near them, objectness, deltas, and labels of which some are ignored."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(COUNT, 2, generator=generator, dtype=torch.float64) * 60
    anchors = torch.cat([corners, corners + 8 + 30 * torch.rand(COUNT, 2, generator=generator)], dim=1)
    objects = anchors + 4 * torch.rand(COUNT, 4, generator=generator) - 2
    objectness = torch.randn(COUNT, 1, generator=generator, dtype=torch.float64).requires_grad_()
    deltas = torch.randn(COUNT, 4, generator=generator, dtype=torch.float64).requires_grad_()
    labels = torch.randint(-1, 2, (COUNT,), generator=generator).float()
    return anchors, objects, objectness, deltas, list(labels.split([15, COUNT - 15]))


def test_its_losses_are_those_of_boxes_in_the_image() -> None:
    """Composed of the functional cores, and boxes decoded from their anchors."""
    anchors, objects, objectness, deltas, labels = anchors_and_targets()
    coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
    targets = list(coder.encode_single(objects, anchors).split([15, COUNT - 15]))
    kinds = torch.cat(labels)
    rows = torch.nonzero(kinds == 1).squeeze(1)
    boxes, wanted = coder.decode_single(deltas[rows], anchors[rows]), objects[rows]
    rows_loss = generalized_box_iou_loss(boxes, wanted)

    quality = kinds.double()
    quality[rows] = box_iou(boxes.detach(), wanted).diagonal()
    ranking, sorting = rank_sort(objectness.flatten(), quality, 0.5)
    value = ranking + sorting
    scores = objectness.detach()[rows, 0].sigmoid()
    mean = (rows_loss * scores).sum() / scores.sum()
    expected = [0.2 * value, 0.2 * value.detach() / mean.detach() * mean]
    found = ranked_rpn(RankSort(ONE), weight=0.2).compute_loss(objectness, deltas, labels, targets)
    compare(found, expected, objectness, deltas)

    classification, localisation = alrp(objectness.flatten(), kinds, rows_loss / 2 / 0.3, 1.0)
    expected = [classification, 50 * localisation]
    found = ranked_rpn(ALRP(ONE, tau=0.7)).compute_loss(objectness, deltas, labels, targets)
    compare(found, expected, objectness, deltas)


def compare(found: tuple[Tensor, Tensor], expected: list[Tensor], objectness: Tensor, deltas: Tensor) -> None:
    for term, wanted, leaf in zip(found, expected, (objectness, deltas), strict=True):
        torch.testing.assert_close(term, wanted, rtol=1e-6, atol=1e-9)  # GIoU's epsilon is absolute
        gradients = [torch.autograd.grad(value, leaf, retain_graph=True)[0] for value in (term, wanted)]
        torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", LOSSES)
def test_without_objects_its_losses_are_zeros_with_gradient(name: str) -> None:
    _, _, objectness, deltas, labels = anchors_and_targets()
    labels = [image_labels.clamp(max=0) for image_labels in labels]
    targets = [torch.zeros(len(image_labels), 4, dtype=torch.float64) for image_labels in labels]
    terms = ranked_rpn(LOSSES[name](ONE)).compute_loss(objectness, deltas, labels, targets)
    assert terms[1].item() == 0
    assert terms[0].item() == 0 or name == "dr"  # which keeps background below a score of its own
    (terms[0] + terms[1]).backward()
    assert objectness.grad is not None and deltas.grad is not None


class Recording(RankSort):
    """Rank & Sort that keeps what it was given."""

    def forward(self, samples: Samples) -> dict[str, Tensor]:
        self.samples = samples
        return super().forward(samples)


def detector(loss: DetectionLoss, rpn_loss: DetectionLoss, *, masks: bool) -> nn.Module:
    torch.manual_seed(0)
    backbone = ResNetFPN(depth=18, levels=[3, 4, 5], channels=CHANNELS, norm="group")
    made = RCNN(
        backbone,
        loss,
        rpn_loss,
        anchor_sizes=ANCHOR_SIZES,
        representation_size=WIDTH,
        mask_channels=[CHANNELS, CHANNELS] if masks else None,
        rpn_proposals_train=50,
        box_batch_per_image=None,
        **SIZES,
    )
    scatter_class_layers(made)
    return made.train()


def test_every_anchor_and_every_proposal_is_ranked() -> None:
    loss, of_proposals = Recording(class_stats(CLASSES)), Recording(ONE)
    model = detector(loss, of_proposals, masks=False)
    images, targets = images_and_targets(CLASSES, masks=False)
    model(images, targets)
    proposals, anchors = loss.samples, of_proposals.samples
    objects = [len(target["boxes"]) for target in targets]
    # 50 proposals an image, and the objects themselves.
    assert proposals.image_index.bincount().tolist() == [50 + count for count in objects]
    assert (proposals.weights > 0).all()
    # Three images, padded to 96 pixels, at strides 8, 16 and 32, with three shapes at each place.
    assert anchors.logits.shape == (3 * 3 * (12**2 + 6**2 + 3**2), 1)
    assert anchors.image_index[anchors.foreground].unique().tolist() == [0, 2]
    assert 0 < (anchors.weights == 0).sum() < len(anchors.weights) / 4
    before = proposals.logits.detach().clone()
    model(images, targets)  # nothing is drawn
    assert torch.equal(loss.samples.logits, before)


@pytest.mark.parametrize("objects", [True, False])
@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_a_step_gives_every_parameter_a_finite_gradient(name: str, masks: bool, objects: bool) -> None:
    model = detector(LOSSES[name](class_stats(CLASSES)), LOSSES[name](ONE), masks=masks)
    images, targets = images_and_targets(CLASSES, masks=masks)
    if not objects:
        targets = [{key: value[:0] for key, value in target.items()} for target in targets]
    terms = model(images, targets)
    torch.stack(list(terms.values())).sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        if objects:
            assert parameter.grad.abs().max() > 0, parameter_name
    if objects and name == "ranksort" and masks:
        value = terms["loss_ranking"] + terms["loss_sorting"]
        assert terms["loss_mask"].item() == pytest.approx(value.item(), rel=1e-5)


def test_each_stage_reports_a_localisation_weight_of_its_own() -> None:
    rpn_loss = ALRP(ONE, tau=0.7, initial_weight=20.0)
    assert state_scalars(detector(ALRP(class_stats(CLASSES)), rpn_loss, masks=False)) == {
        "state/rpn.loss.localisation_weight": 20.0,
        "state/roi_heads.loss.localisation_weight": 50.0,
    }


@pytest.mark.parametrize("loss", LOSSES)
def test_the_configuration_ranks_in_both_stages_and_other_losses_do_not(loss: str) -> None:
    with initialize_config_module("detloss.conf", version_base="1.3"):
        ranked = build.detector(compose("train", overrides=["model=fasterrcnn", f"loss={loss}"]), class_stats(5))
        plain = build.detector(compose("train", overrides=["model=fasterrcnn", "loss=ce"]), class_stats(5))
    assert isinstance(ranked.rpn, RankedRPN) and type(ranked.rpn.loss) is LOSSES[loss]
    assert ranked.rpn.weight == 0.2 and ranked.rpn.loss.coder.num_classes == 1
    assert ranked.rpn.post_nms_top_n() == 1000
    assert not isinstance(plain.rpn, RankedRPN)
    assert plain.rpn.post_nms_top_n() == 200
    if isinstance(ranked.rpn.loss, ALRP):
        assert (ranked.rpn.loss.tau, ranked.roi_heads.loss.tau) == (0.7, 0.5)  # type: ignore[union-attr]
