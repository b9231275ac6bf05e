"""The background ratio that is measured is the one that ECM measures itself when it trains."""

from collections.abc import Callable

import hydra
import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor
from torchvision.models.detection._utils import Matcher

from detloss import build
from detloss.background_ratio import RowCounter, measure_background_ratio
from detloss.data.coco import CocoDataset
from detloss.data.loader import BatchPlan, training_loader
from detloss.losses import ECM, Samples
from detloss.losses.coder import Sigmoid
from detloss.models.fcos import FCOSHead
from detloss.models.retinanet import RetinaNetHead


@pytest.fixture
def composed(tiny_coco: Callable) -> Callable[..., DictConfig]:
    annotations, images = tiny_coco(8)

    def compose(*words: str) -> DictConfig:
        named = (
            "dataset=coco", "backbone=tiny", "schedule=quick", "schedule.batch_size=4", "trainer.workers=0",
            "trainer.device=cpu", "dataset.scales=[64]", "dataset.eval_scale=64", "dataset.max_size=96",
            f"dataset.train.annotations={annotations}", f"dataset.train.images={images}",
        )  # fmt: skip
        with hydra.initialize_config_module("detloss.conf", version_base="1.3"):
            return hydra.compose("train", overrides=[*named, *words])

    return compose


@pytest.mark.parametrize("accumulate", [1, 2])
def test_it_is_what_ecm_measures_on_the_same_batches(composed: Callable, accumulate: int) -> None:
    """The first three steps of a training whose rate is 0, so that what it samples from stays the same."""
    cfg = composed("model=fasterrcnn", "loss=ecm", f"trainer.accumulate={accumulate}")
    dataset = CocoDataset(cfg.dataset.train.annotations, cfg.dataset.train.images)
    torch.manual_seed(cfg.seed)
    detector = build.detector(cfg, dataset.stats).train()
    loss = detector.roi_heads.loss.class_loss
    assert isinstance(loss, ECM)
    plan = BatchPlan(build.sampler(cfg, dataset), dataset.sizes, batch_size=4, seed=cfg.seed)
    torch.manual_seed(cfg.seed)
    for images, targets in training_loader(
        dataset, build.augmentation(cfg, dataset), plan, last_step=3, accumulate=accumulate
    ):
        detector(images, targets)
    assert int(loss.forwards) == 3 * accumulate
    assert measure_background_ratio(cfg, batches=3) == loss.background_ratio


@pytest.mark.parametrize(("model", "head"), [("retinanet", RetinaNetHead), ("fcos", FCOSHead)])
def test_anchors_between_the_thresholds_are_neither(
    composed: Callable, model: str, head: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against torchvision's matches of the same batches."""
    matched: list[Tensor] = []
    compute_loss = head.compute_loss

    def recorded(self, targets, head_outputs, anchors, matched_idxs):  # type: ignore[no-untyped-def]
        matched.extend(matched_idxs)
        return compute_loss(self, targets, head_outputs, anchors, matched_idxs)

    monkeypatch.setattr(head, "compute_loss", recorded)
    ratio = measure_background_ratio(composed(f"model={model}"), batches=2)
    matches = torch.cat(matched)
    assert len(matched) == 8
    between = (matches == Matcher.BETWEEN_THRESHOLDS).sum()
    background = (matches == Matcher.BELOW_LOW_THRESHOLD).sum()
    assert (between > 0) == (model == "retinanet")
    assert ratio == pytest.approx(float(background / (matches >= 0).sum()))


@pytest.mark.parametrize("words", [("model=maskrcnn", "loss=ce"), ("loss=loce",), ("loss=ranksort",)])
def test_mask_heads_memories_and_ranked_proposals_do_not_stand_in_the_way(
    composed: Callable, words: tuple[str, ...]
) -> None:
    assert measure_background_ratio(composed("model=maskrcnn", *words), batches=1) > 0.5


def test_rows_of_weight_0_are_not_counted() -> None:
    counter = RowCounter(Sigmoid(2))
    nothing = torch.zeros(0, 4)
    counter(
        Samples(
            logits=torch.zeros(6, 2),
            labels=torch.tensor([0, 1, 2, 2, 2, 2]),
            weights=torch.tensor([1.0, 0, 1, 1, 0, 0.5]),
            foreground=torch.tensor([0, 1]),
            boxes=nothing,
            target_boxes=nothing,
            deltas=nothing,
            target_deltas=nothing,
            image_index=torch.zeros(6, dtype=torch.int64),
            object_index=torch.zeros(2, dtype=torch.int64),
        )
    )
    assert counter.ratio == 3
