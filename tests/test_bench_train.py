"""The yardstick of ``detloss bench train`` is the same work as ours, and the shares add up."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import DictConfig

from detloss import build
from detloss.bench_reference import ReferenceLoop, torchvision_detector
from detloss.bench_train import bench_train, data_share, share_weights
from detloss.data.coco import CocoDataset
from detloss.errors import TrainingFailed, UserError
from detloss.models.pretrained import is_class_sized
from detloss.step import Report

WORDS = (
    "dataset=coco",
    "backbone=tiny",
    "backbone.channels=32",
    "schedule.batch_size=2",
    "dataset.scales=null",
    "dataset.eval_scale=64",
    "trainer.workers=1",
    "trainer.device=cpu",
)


@pytest.fixture
def config(tiny_coco: Callable[..., tuple[Path, Path]]) -> Iterator[Callable[..., DictConfig]]:
    annotations, images = tiny_coco(4)
    files = (f"dataset.train.annotations={annotations}", f"dataset.train.images={images}",
             f"dataset.val.annotations={annotations}", f"dataset.val.images={images}")  # fmt: skip
    with initialize_config_module("detloss.conf", version_base="1.3"):
        yield lambda *words: compose("train", overrides=[*WORDS, *files, *words])


@pytest.mark.parametrize("model", ["fasterrcnn", "maskrcnn", "retinanet", "fcos"])
def test_torchvisions_detector_has_our_layers_and_weights(config: Callable[..., DictConfig], model: str) -> None:
    cfg = config(f"model={model}")
    stats = CocoDataset(cfg.dataset.train.annotations, cfg.dataset.train.images).stats
    ours = build.detector(cfg, stats)
    theirs = torchvision_detector(cfg, deepcopy(ours.backbone), stats.num_classes)  # type: ignore[arg-type]
    share_weights(ours, theirs)
    our_state, their_state = ours.state_dict(), theirs.state_dict()
    assert our_state.keys() == their_state.keys()
    differing = [name for name in our_state if not torch.equal(our_state[name], their_state[name])]
    assert all(is_class_sized(name) for name in differing)


@pytest.mark.parametrize("words", [("model=maskrcnn", "loss=ecm", "trainer.accumulate=2"), ("model=fcos",)])
def test_the_table_has_both_loops_and_the_wait_for_data(
    config: Callable[..., DictConfig], words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    bench_train(config(*words), steps=2)
    printed = " ".join(capsys.readouterr().out.split())
    assert "median of 2" in printed and "torchvision" in printed and "waiting for data" in printed
    assert ("loss=ce compares like with like" in printed) == ("loss=ecm" in words)


def test_another_config_takes_the_place_of_torchvisions_loop(
    config: Callable[..., DictConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    """The same images and, but for layers of another size, the same weights."""
    cfg, other = (config("model=fasterrcnn", f"loss={loss}") for loss in ("ranksort", "ce"))
    bench_train(cfg, steps=2, against=other)
    printed = " ".join(capsys.readouterr().out.split())
    assert "fasterrcnn, ce" in printed and "torchvision" not in printed and "waiting for data" in printed


def test_the_share_of_data_is_of_all_the_time() -> None:
    reports = [Report(data_seconds=1.0, seconds=4.0), Report(data_seconds=0.0, seconds=6.0)]
    assert data_share(reports) == pytest.approx(0.1)


def test_the_reference_stops_at_a_loss_that_is_not_finite() -> None:
    class Broken(torch.nn.Module):
        def forward(self, images: list[torch.Tensor], targets: list[dict]) -> dict[str, torch.Tensor]:
            return {"loss": torch.tensor(float("nan"))}

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.1)
    loop = ReferenceLoop(Broken(), optimizer, torch.device("cpu"), torch.float32)
    with pytest.raises(TrainingFailed, match="nan"):
        loop(([torch.zeros(3, 4, 4)], [{}]))


def test_a_model_that_torchvision_has_not_is_refused(config: Callable[..., DictConfig]) -> None:
    cfg = config("model=fcos")
    cfg.model.name = "atss"
    with pytest.raises(UserError, match="atss"):
        torchvision_detector(cfg, None, 5)  # type: ignore[arg-type]
