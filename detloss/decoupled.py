"""Decoupled learning in two stages: all of a detector, then its box classifier alone (``schedule=decoupled``).

cRT makes the classifier anew, LWS scales its logits (both Kang et al., ICLR 2020), DisAlign calibrates them
(Zhang et al., CVPR 2021).
"""

from contextlib import nullcontext
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from detloss import build, distributed, run_folder
from detloss.checkpoint import Checkpoint
from detloss.errors import UserError
from detloss.losses.coder import ClassCoder
from detloss.models.pretrained import is_classifier, load_matching
from detloss.models.rcnn import RCNN
from detloss.models.second_stage import DisAlign, LearnableScaling
from detloss.settings import decoupled_method
from detloss.train import Metrics, train

CRT = "crt"


def train_in_stages(cfg: DictConfig, folder: Path, *, device: torch.device, sweep: str | None = None) -> Metrics:
    """Train ``cfg`` as this rank, before it stage 1 in the folder ``stage1`` if the schedule has one to do.

    Stage 1 is an ordinary run: it resumes, and is not done again. Returns and raises as `train`.
    """
    if decoupled_method(cfg) is None or cfg.init is not None:
        return train(cfg, folder, device=device, sweep=sweep)
    begun = distributed.from_leader((folder / "last.ckpt").exists(), device) > 0
    if not begun:
        check_losses(cfg)
        _train_first_stage(first_stage(cfg), folder / "stage1", device, sweep)
    return train(second_stage(cfg, folder / "stage1"), folder, device=device, sweep=sweep)


def first_stage(cfg: DictConfig) -> DictConfig:
    """Return the config of stage 1, an ordinary run with what ``schedule.first`` gives it."""
    first = OmegaConf.create(OmegaConf.to_container(cfg.schedule.first, resolve=True))
    stage = cfg.copy()  # not resolved yet: what follows the loss must follow that of stage 1
    OmegaConf.set_struct(stage, False)
    del stage.schedule["first"], stage.schedule["method"]
    stage.loss, stage.sampler = first.loss, first.sampler
    stage.schedule.steps, stage.schedule.epochs = first.steps, first.epochs
    resolved = OmegaConf.create(OmegaConf.to_container(stage, resolve=True))
    assert isinstance(resolved, DictConfig)
    return resolved


def second_stage(cfg: DictConfig, first: Path) -> DictConfig:
    """Return the config of stage 2, which starts from the run ``first``."""
    stage = cfg.copy()
    stage.init = str(first)
    return stage


def check_losses(cfg: DictConfig) -> None:
    """Refuse, before stage 1, a loss whose logits mean something else than those that stage 1 will learn."""
    if decoupled_method(cfg) == CRT:
        return
    stats, first = build.class_stats(cfg), first_stage(cfg)
    learnt, wanted = (build.detection_loss(each, stats).coder.meaning for each in (first, cfg))
    if learnt != wanted:
        source = f"stage 1 with loss@schedule.first.loss={first.loss.name}"
        raise UserError(_other_coder(source, learnt, wanted, cfg.schedule.method))


def _other_coder(source: str, learnt: str, wanted: str, method: str) -> str:
    return (
        f"schedule.method={method} keeps the classifier of {source}, whose logits are for {learnt} and not, as "
        f"this loss's, for {wanted}; try schedule.method=crt, or the same loss in both stages"
    )


def _train_first_stage(cfg: DictConfig, folder: Path, device: torch.device, sweep: str | None) -> None:
    """Train stage 1 unless it is finished; rank 0 alone touches the folder."""
    leader = distributed.rank() == 0
    with run_folder.locked(folder) if leader else nullcontext():
        found = run_folder.State.NEW
        if leader:
            print(f"stage 1, in {folder}")
            content = OmegaConf.to_container(cfg)
            assert isinstance(content, dict)
            config = {str(key): value for key, value in content.items()}
            found = run_folder.prepare(folder, config, overwrite=bool(cfg.overwrite))
        if distributed.from_leader(found is run_folder.State.FINISHED, device) > 0:
            return
        try:
            train(cfg, folder, device=device, sweep=sweep)
        except UserError:
            if leader and found is run_folder.State.NEW:
                run_folder.withdraw(folder)
            raise
        if leader:
            run_folder.mark_finished(folder)
            print("stage 2")


def load_first_stage(model: nn.Module, saved: Checkpoint, cfg: DictConfig, names: tuple[str, ...]) -> None:
    """Load the weights that stage 2 starts from: all of them, for cRT all but the classifier.

    Raises:
        UserError: the run is of other classes, another model, or, unless cRT, of other scores.
    """
    source, method = f"init={cfg.init}", decoupled_method(cfg)
    if saved.stats.names != names:
        raise UserError(
            f"{source} was trained on {len(saved.stats.names)} other classes than the {len(names)} of this "
            "training set; schedule=decoupled goes on with the same ones"
        )
    coder = _coder(model).meaning
    state = dict(saved.model)
    if method == CRT:
        state = {key: value for key, value in state.items() if not is_classifier(key)}
    elif saved.coder != coder:
        raise UserError(_other_coder(source, saved.coder, coder, str(method)))
    fresh = load_matching(model, state, source=source)
    lacking = [name for name in fresh if not (method == CRT and is_classifier(name))]
    if lacking:
        raise UserError(
            f"{source} lacks {', '.join(lacking)}; schedule.method={method} goes on from an ordinary run "
            "of the same dataset.classifier"
        )


def learn_classifier_only(model: nn.Module, method: str) -> None:
    """Freeze the parameters of ``model`` but those of stage 2, which LWS and DisAlign add around the classifier.

    Its backbone must come with ``FrozenBatchNorm2d`` (`frozen_norm`): no statistic may move either.
    """
    assert isinstance(model, RCNN)
    model.requires_grad_(False)
    predictor = model.roi_heads.box_predictor
    if method == CRT:
        predictor.cls_score.requires_grad_(True)
    elif method == "lws":
        predictor.cls_score = LearnableScaling(predictor.cls_score, _coder(model))
    else:
        predictor.cls_score = DisAlign(predictor.cls_score, _coder(model), predictor.bbox_pred.in_features)


def frozen_norm(norm: str) -> str:
    """Return the ``backbone.norm`` of stage 2: batch statistics stay as stage 1 left them."""
    return "frozen" if norm in ("batch", "sync") else norm


def _coder(model: nn.Module) -> ClassCoder:
    assert isinstance(model, RCNN)
    coder: ClassCoder = model.roi_heads.loss.coder
    return coder
