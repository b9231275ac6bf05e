"""Ranking losses in one-stage detectors: every parameter learns, with and without objects, and runs go through."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_module

from detloss.launch import launch
from detloss.losses import ALRP, DR, L1, NDCG, APLoss, DetectionLoss, GIoU, RankSort
from detloss.stats import ClassStats
from tests.reference.torchvision_detectors import class_stats, images_and_targets, ours

CLASSES = 5
LOSSES: dict[str, Callable[[ClassStats, str], DetectionLoss]] = {
    "alrp": lambda stats, _: ALRP(stats),
    "ap": lambda stats, model: APLoss(stats, box_loss=L1() if model == "retinanet" else GIoU()),
    "dr": lambda stats, model: DR(stats, box_loss=L1() if model == "retinanet" else GIoU()),
    "ndcg": lambda stats, model: NDCG(stats, box_loss=L1() if model == "retinanet" else GIoU()),
    "ranksort": lambda stats, _: RankSort(stats),
}


@pytest.mark.parametrize("objects", [True, False])
@pytest.mark.parametrize("model", ["retinanet", "fcos"])
@pytest.mark.parametrize("name", LOSSES)
def test_a_step_gives_every_parameter_a_finite_gradient(name: str, model: str, objects: bool) -> None:
    torch.manual_seed(0)
    detector = ours(model, LOSSES[name](class_stats(CLASSES), model)).train()
    images, targets = images_and_targets(CLASSES, masks=False)
    if not objects:
        targets = [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)} for _ in targets]
    terms = detector(images, targets)
    torch.stack(list(terms.values())).sum().backward()
    for parameter_name, parameter in detector.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        if objects and "head" in parameter_name:
            assert parameter.grad.abs().max() > 0, parameter_name
    if not objects:
        assert all(value.item() == 0 for term, value in terms.items() if name != "dr" or "classifier" not in term)


@pytest.mark.parametrize("model", ["retinanet", "fcos"])
def test_rank_and_sort_keeps_its_tasks_in_balance(model: str) -> None:
    torch.manual_seed(0)
    detector = ours(model, RankSort(class_stats(CLASSES))).train()
    terms = detector(*images_and_targets(CLASSES, masks=False))
    value = terms["loss_ranking"] + terms["loss_sorting"]
    assert 0 < terms["loss_sorting"] < terms["loss_ranking"] < 1
    assert terms["loss_box_reg"].item() == pytest.approx(value.item(), rel=1e-5)
    assert ("loss_centerness" in terms) == (model == "fcos")


@pytest.mark.parametrize("loss", LOSSES)
def test_three_steps_by_name_change_the_model_and_log_every_term(
    loss: str, tiny_coco: Callable[..., tuple[Path, Path]], tmp_path: Path
) -> None:
    annotations, images = tiny_coco(4)
    words = (
        f"model=retinanet loss={loss} dataset=coco backbone=tiny backbone.norm=group backbone.channels=32 "
        "schedule=quick schedule.batch_size=2 schedule.steps=3 schedule.warmup_steps=0 schedule.lr=0.001 "
        "dataset.scales=null dataset.eval_scale=64 trainer.workers=0 trainer.log_every=1 trainer.device=cpu "
        f"logger=jsonl dataset.train.annotations={annotations} dataset.train.images={images} "
        f"dataset.val.annotations={annotations} dataset.val.images={images}"
    ).split()
    folder = tmp_path / "run"
    folder.mkdir()
    with initialize_config_module("detloss.conf", version_base="1.3"):
        launch(compose("train", overrides=words), folder)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    logged = {
        "ranksort": ("loss_ranking", "loss_sorting", "loss_box_reg"),
        "alrp": ("loss_classifier", "loss_box_reg", "state/localisation_weight"),
    }.get(loss, ("loss_classifier", "loss_box_reg"))
    assert sum(all(f'"{term}"' in line for term in logged) for line in lines) == 3
