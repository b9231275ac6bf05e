"""From a composed config to objects: data sets, samplers, losses, detectors, optimizers.

Nothing here imports torch until an object that needs it is built, so that ``detloss stats`` stays quick.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from detloss.data.files import DatasetFiles, training_files
from detloss.data.store import open_annotations
from detloss.errors import UserError, nearest
from detloss.settings import check_kinds, decoupled_method
from detloss.stats import ClassStats

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from detloss.data.annotations import Annotations
    from detloss.data.augment import Augment, DrawView
    from detloss.data.coco import CocoDataset
    from detloss.data.image_cache import ImageCache
    from detloss.data.image_labels import ImageLabels
    from detloss.data.samplers import EpochSampler
    from detloss.losses import DetectionLoss
    from detloss.losses.coder import ClassCoder

TRUSTED_PACKAGES = ("detloss.", "torch.nn.", "torch.optim.")


def class_stats(cfg: DictConfig) -> ClassStats:
    """Return the training set's statistics; those of LVIS v1 are at hand without its files."""
    annotations = training_annotations(cfg)
    return ClassStats.lvis_v1() if annotations is None else ClassStats.from_annotations(annotations)


def training_annotations(cfg: DictConfig) -> Annotations | None:
    """Return the training set's annotations; None where only the counts of LVIS v1 are at hand."""
    dataset = cfg.dataset
    if dataset.name == "lvis_v1" and dataset.root is None and dataset.train.annotations is None:
        return None
    if dataset.format in ("coco", "lvis") and dataset.train.annotations is not None and dataset.split is None:
        return open_annotations(Path(dataset.train.annotations).expanduser())
    return open_annotations(training_files(dataset)[0])


def group_thresholds(cfg: DictConfig) -> tuple[int, int] | None:
    """Return the bounds [a, b] of the frequency groups, r <= a < c <= b < f; None = thirds."""
    groups = cfg.dataset.groups
    if groups is None:
        return None
    try:
        low, high = (int(bound) for bound in groups)
    except (TypeError, ValueError):
        raise UserError(f"dataset.groups={groups}: expected two image counts such as [10,100]") from None
    if not 0 <= low <= high:
        raise UserError(f"dataset.groups={groups}: expected 0 <= a <= b")
    return low, high


def training_set(cfg: DictConfig, files: DatasetFiles) -> CocoDataset:
    from detloss.data.coco import CocoDataset

    return CocoDataset(
        files.train_annotations,
        files.train_images,
        masks=training_needs_masks(cfg),
        drop_empty=cfg.dataset.drop_empty,
    )


def training_needs_masks(cfg: DictConfig) -> bool:
    """Tell whether training draws masks, for the model or to paste objects by them."""
    return bool(cfg.model.masks or cfg.dataset.copy_paste > 0)


def validation_set(cfg: DictConfig, files: DatasetFiles) -> CocoDataset:
    """Return the validation images; masks are only asked for, so that a file without them is refused early."""
    from detloss.data.coco import CocoDataset

    return CocoDataset(files.val_annotations, files.val_images, masks=cfg.model.masks)


def sampler(cfg: DictConfig, dataset: CocoDataset) -> EpochSampler:
    return sampler_of(cfg.sampler, dataset.image_labels)


def sampler_of(node: DictConfig, labels: ImageLabels) -> EpochSampler:
    """Return the sampler that a config of the group ``sampler`` describes; this needs no torch."""
    built: EpochSampler = instantiate(node, labels, option="sampler")  # type: ignore[assignment]
    return built


def augmentation(cfg: DictConfig, dataset: CocoDataset) -> Augment:
    """Return how training images are varied."""
    from detloss.data.augment import LargeScaleJitter, Plain, ShortestSide
    from detloss.data.copy_paste import CopyPaste, PasteSources

    options = cfg.dataset
    draw: DrawView = ShortestSide(options.scales and list(options.scales), options.max_size, options.flip)
    if options.jitter is not None:
        low, high = options.jitter
        draw = LargeScaleJitter(options.crop, (low, high), options.flip)
    if not options.copy_paste:
        return Plain(draw, cfg.model.masks)
    sources = PasteSources.of(dataset.image_labels, dataset.stats, options.tail_fraction)
    return CopyPaste(draw, cfg.model.masks, options.copy_paste, sources)


def image_cache(cfg: DictConfig, dataset: CocoDataset) -> ImageCache | None:
    """Return what keeps decoded images of the training set, or None; rank 0 says how much that takes."""
    from detloss import distributed
    from detloss.data.image_cache import open_cache

    if cfg.data.cache is None:
        return None
    opened, said = open_cache(
        cfg.data.cache,
        dataset.sizes,
        dataset.images_path,
        processes=cfg.trainer.devices,
        workers=cfg.trainer.workers,
    )
    if distributed.rank() == 0:
        print(said)
    return opened


def detection_loss(cfg: DictConfig, stats: ClassStats) -> DetectionLoss:
    """Return a new loss for one classification head."""
    from detloss.losses import ClassPlusBox, DetectionLoss

    loss = instantiate(cfg.loss[cfg.model.stage], stats, option=f"loss.{cfg.model.stage}")
    if isinstance(loss, DetectionLoss):
        return loss
    return ClassPlusBox(loss, instantiate(cfg.model.box_loss, option="model.box_loss"))  # type: ignore[arg-type]


def proposal_loss(cfg: DictConfig, stats: ClassStats) -> DetectionLoss | None:
    """Return what a two-stage detector's region proposals learn by, or None for the RPN's own losses."""
    if cfg.model.stage != "two_stage" or "rpn" not in cfg.loss:
        return None
    return instantiate(cfg.loss.rpn, stats.as_one_class(), option="loss.rpn")  # type: ignore[return-value]


def detector(cfg: DictConfig, stats: ClassStats, *, load: bool = True) -> nn.Module:
    """Return the detector; with ``load`` its pretrained weights are found and loaded."""
    from detloss import decoupled, distributed
    from detloss.models.backbone import ResNetFPN

    backbone_cfg, coco, method = cfg.backbone, cfg.model.weights, decoupled_method(cfg)
    if load and backbone_cfg.norm == "frozen" and not (backbone_cfg.weights or coco or cfg.init):
        raise UserError("backbone.norm=frozen without weights cannot learn; try backbone.norm=batch")
    backbone = ResNetFPN(
        depth=backbone_cfg.depth,
        levels=list(backbone_cfg[cfg.model.stage].levels),
        channels=backbone_cfg.channels,
        norm=decoupled.frozen_norm(backbone_cfg.norm) if method else backbone_cfg.norm,
        weights=backbone_cfg.weights if load and not (coco or cfg.init) else None,
        trainable_layers=backbone_cfg.trainable_layers,
    )
    loss, of_proposals = detection_loss(cfg, stats), proposal_loss(cfg, stats)
    losses = [loss] if of_proposals is None else [loss, of_proposals]
    model: nn.Module = instantiate(cfg.model.detector, backbone, *losses, option="model.detector")  # type: ignore[assignment]
    if load and (coco or cfg.init):
        fresh = _start_from(cfg, model, stats, loss.coder)
        if fresh and distributed.rank() == 0:
            print(f"made anew, as their classes or scores differ: {', '.join(fresh)}")
    if method:
        decoupled.learn_classifier_only(model, method)
    return model


def _start_from(cfg: DictConfig, model: nn.Module, stats: ClassStats, coder: ClassCoder) -> list[str]:
    """Load COCO weights or another run into ``model`` and return the class-sized layers that stay new."""
    from detloss import checkpoint, decoupled
    from detloss.models import pretrained

    if cfg.init:
        path = checkpoint.find(Path(cfg.init))
        saved = checkpoint.load(path)
        if decoupled_method(cfg):
            decoupled.load_first_stage(model, saved, cfg, stats.names)
            return []
        state = dict(saved.model)
        if saved.stats.names != stats.names:
            state = {key: value for key, value in state.items() if not pretrained.is_class_sized(key)}
        elif saved.coder != coder.meaning:  # same shapes, perhaps, but other meanings
            state = {key: value for key, value in state.items() if not pretrained.is_classifier(key)}
        return pretrained.load_matching(model, state, source=f"init={cfg.init}")
    state = pretrained.coco_state_dict(cfg.model.name, cfg.model.weights)
    if cfg.model.weights == "coco" and cfg.model.name != "fcos":
        state = pretrained.without_epsilon(state)
    state = pretrained.from_torchvision(state, stats.names, coder)
    return pretrained.load_matching(model, state, source=f"model.weights={cfg.model.weights}")


def optimizer(cfg: DictConfig, model: nn.Module) -> Optimizer:
    """Return SGD or AdamW over what learns, its rate scaled linearly to the batch."""
    import torch

    schedule = cfg.schedule
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    rate = schedule.lr * schedule.batch_size / schedule.reference_batch
    if schedule.optimizer == "sgd":
        return torch.optim.SGD(parameters, rate, momentum=schedule.momentum, weight_decay=schedule.weight_decay)
    return torch.optim.AdamW(parameters, rate, weight_decay=schedule.weight_decay)


def describe_data(dataset: CocoDataset, validation: CocoDataset, folder: Path) -> None:
    """Print what there is to train on, and save its statistics and fingerprints in the run folder."""
    stats = dataset.stats
    empty = int((stats.instances == 0).sum())
    print(
        f"{len(dataset)} training images, {stats.instances.sum()} instances of {stats.num_classes} classes "
        f"({empty} without any), {dataset.dropped_boxes} degenerate boxes dropped; "
        f"{len(validation)} validation images"
    )
    prints = {name: fingerprint(part.annotations_path) for name, part in (("train", dataset), ("val", validation))}
    content = {"fingerprints": prints, **stats.to_json()}
    (folder / "stats.json").write_text(json.dumps(content) + "\n", encoding="utf-8")


def fingerprint(path: Path) -> str:
    """Return the SHA-256 of a file, by which another run tells whether it used the same."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def instantiate(node: DictConfig, *arguments: object, option: str) -> object:
    """Return the object that ``node._target_`` names, made of the arguments and the other keys.

    A value with a ``_target_`` of its own is made first.

    Only classes of detloss, torch.nn and torch.optim that are modules, optimizers, data sets or samplers are
    honoured: a config from a stranger must not be able to call anything else.
    """
    target = _trusted_class(str(node.get("_target_", "")), option)
    values = {str(key): value for key, value in _container(node).items() if key != "_target_"}
    for key, value in values.items():
        if isinstance(value, dict) and "_target_" in value:
            values[key] = instantiate(OmegaConf.create(value), option=f"{option}.{key}")
    accepted = inspect.signature(target).parameters
    for key in values:
        if key not in accepted:
            raise UserError(f"{option} has no option '{key}'{nearest(key, accepted)}")
    check_kinds(values, accepted, option)
    try:
        return target(*arguments, **values)
    except (TypeError, ValueError) as error:
        raise UserError(f"{option}: {error}") from error


def _container(node: DictConfig) -> dict[object, object]:
    container = OmegaConf.to_container(node, resolve=True)
    assert isinstance(container, dict)
    return dict(container)


def _trusted_class(path: str, option: str) -> type:
    from detloss.data.samplers import EpochSampler

    module, _, name = path.rpartition(".")
    found: object = None
    if path.startswith(TRUSTED_PACKAGES):
        try:
            found = getattr(import_module(module), name, None)
        except ImportError:
            found = None
    if isinstance(found, type) and (issubclass(found, EpochSampler) or _is_torch_object(found)):
        return found
    raise UserError(
        f"{option}._target_={path}: expected a module, optimizer, data set or sampler of detloss or torch"
    )


def _is_torch_object(found: type) -> bool:
    from torch import nn
    from torch.optim import Optimizer
    from torch.utils.data import Dataset

    return issubclass(found, nn.Module | Optimizer | Dataset)
