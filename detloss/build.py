"""From a composed config to objects; the only module of the library that reads configs.

Nothing here imports torch until an object that needs it is built, so that ``detloss stats`` stays quick.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from detloss.errors import UserError, nearest
from detloss.schedule import rate_factor
from detloss.stats import ClassStats

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from detloss.checkpoint import Progress
    from detloss.data.coco import CocoDataset
    from detloss.data.loader import BatchPlan
    from detloss.data.samplers import EpochSampler
    from detloss.losses import DetectionLoss
    from detloss.losses.coder import ClassCoder

TRUSTED_PACKAGES = ("detloss.", "torch.nn.", "torch.optim.")


@dataclass(frozen=True)
class DatasetFiles:
    """Annotation files and image folders of a data set."""

    train_annotations: Path
    train_images: Path
    val_annotations: Path
    val_images: Path


def dataset_files(cfg: DictConfig) -> DatasetFiles:
    """Return where ``cfg.dataset`` keeps its files; generated data is made when it is not there yet."""
    dataset = cfg.dataset
    if dataset.format == "shapes":
        from detloss.data.shapes import shapes_dataset

        paths = shapes_dataset(Path(dataset.root) if dataset.root else None, **dataset.generator)
        return DatasetFiles(paths.train_annotations, paths.train_images, paths.val_annotations, paths.val_images)
    train = _split_files(dataset, "train")
    if dataset.split is not None:
        from detloss.data.split import split_annotations

        train_json, val_json = split_annotations(train[0], float(dataset.split), seed=0)
        return DatasetFiles(train_json, train[1], val_json, train[1])
    return DatasetFiles(*train, *_split_files(dataset, "val"))


def _split_files(dataset: DictConfig, part: str) -> tuple[Path, Path]:
    """Return annotations and images of a part, given or found under the root."""
    chosen = dataset[part]
    annotations = Path(chosen.annotations) if chosen.annotations else None
    images = Path(chosen.images) if chosen.images else None
    if (annotations is None or images is None) and dataset.root is None:
        raise UserError(
            f"dataset={dataset.name} needs its files: give dataset.root=FOLDER, or "
            f"dataset.{part}.annotations=JSON and dataset.{part}.images=FOLDER"
        )
    annotations = annotations or _first_file(Path(dataset.root), _annotation_names(dataset.name, part))
    images = images or _image_folder(dataset, part)
    if not annotations.is_file():
        raise UserError(f"dataset.{part}.annotations={annotations}: no such file")
    if not images.is_dir():
        raise UserError(f"dataset.{part}.images={images}: no such folder")
    return annotations, images


def _annotation_names(name: str, part: str) -> list[str]:
    official = {
        "lvis_v1": f"lvis_v1_{part}.json",
        "lvis_v05": f"lvis_v0.5_{part}.json",
    }.get(name)
    if official:
        return [f"annotations/{official}", official]
    return [f"annotations/instances_{part}2017.json", f"annotations/instances_{part}.json"]


def _first_file(root: Path, names: list[str]) -> Path:
    for name in names:
        if (root / name).is_file():
            return root / name
    raise UserError(f"dataset.root={root}: found none of {', '.join(names)}")


def _image_folder(dataset: DictConfig, part: str) -> Path:
    root = Path(dataset.root)
    if dataset.format == "lvis":  # its file names hold the folder: train2017/000000391895.jpg
        return root
    return next((root / name for name in (f"{part}2017", part) if (root / name).is_dir()), root / part)


def class_stats(cfg: DictConfig) -> ClassStats:
    """Return the training set's statistics; those of LVIS v1 are at hand without its files."""
    dataset = cfg.dataset
    if dataset.name == "lvis_v1" and dataset.root is None and dataset.train.annotations is None:
        return ClassStats.lvis_v1()
    if dataset.format != "shapes" and dataset.train.annotations is not None and dataset.split is None:
        return ClassStats.from_coco(Path(dataset.train.annotations))
    return ClassStats.from_coco(dataset_files(cfg).train_annotations)


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
        files.train_annotations, files.train_images, masks=cfg.model.masks, drop_empty=cfg.dataset.drop_empty
    )


def validation_set(cfg: DictConfig, files: DatasetFiles) -> CocoDataset:
    """Return the validation images; masks are only asked for, so that a file without them is refused early."""
    from detloss.data.coco import CocoDataset

    return CocoDataset(files.val_annotations, files.val_images, masks=cfg.model.masks)


def sampler(cfg: DictConfig, dataset: CocoDataset) -> EpochSampler:
    built: EpochSampler = instantiate(cfg.sampler, dataset.image_labels, option="sampler")  # type: ignore[assignment]
    return built


def detection_loss(cfg: DictConfig, stats: ClassStats) -> DetectionLoss:
    """Return a new loss for one classification head."""
    from detloss.losses import ClassPlusBox, DetectionLoss

    loss = instantiate(cfg.loss[cfg.model.stage], stats, option=f"loss.{cfg.model.stage}")
    if isinstance(loss, DetectionLoss):
        return loss
    return ClassPlusBox(loss, instantiate(cfg.model.box_loss, option="model.box_loss"))  # type: ignore[arg-type]


def detector(cfg: DictConfig, stats: ClassStats, *, load: bool = True) -> nn.Module:
    """Return the detector; with ``load`` its pretrained weights are found and loaded."""
    from detloss import distributed
    from detloss.models.backbone import ResNetFPN

    backbone_cfg, coco = cfg.backbone, cfg.model.weights
    if load and backbone_cfg.norm == "frozen" and not (backbone_cfg.weights or coco or cfg.init):
        raise UserError("backbone.norm=frozen without weights cannot learn; try backbone.norm=batch")
    backbone = ResNetFPN(
        depth=backbone_cfg.depth,
        levels=list(backbone_cfg[cfg.model.stage].levels),
        channels=backbone_cfg.channels,
        norm=backbone_cfg.norm,
        weights=backbone_cfg.weights if load and not (coco or cfg.init) else None,
        trainable_layers=backbone_cfg.trainable_layers,
    )
    loss = detection_loss(cfg, stats)
    model: nn.Module = instantiate(cfg.model.detector, backbone, loss, option="model.detector")  # type: ignore[assignment]
    if load and (coco or cfg.init):
        fresh = _start_from(cfg, model, stats, loss.coder)
        if fresh and distributed.rank() == 0:
            print(f"made anew, as their classes differ: {', '.join(fresh)}")
    return model


def _start_from(cfg: DictConfig, model: nn.Module, stats: ClassStats, coder: ClassCoder) -> list[str]:
    """Load COCO weights or another run into ``model`` and return the class-sized layers that stay new."""
    from detloss import checkpoint
    from detloss.models import pretrained

    if cfg.init:
        path = checkpoint.find(Path(cfg.init))
        saved = checkpoint.load(path)
        state = {
            key: value
            for key, value in saved.model.items()
            if saved.stats.names == stats.names or not pretrained.is_class_sized(key)
        }
        return pretrained.load_matching(model, state, source=f"init={cfg.init}")
    state = pretrained.coco_state_dict(cfg.model.name, cfg.model.weights)
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


def set_learning_rate(cfg: DictConfig, optimizer: Optimizer, step: int, total: int) -> float:
    """Set and return the rate of optimizer step ``step`` of ``total``."""
    schedule = cfg.schedule
    rate: float = schedule.lr * schedule.batch_size / schedule.reference_batch
    rate *= rate_factor(
        step,
        total,
        decay=schedule.decay,
        milestones=schedule.milestones,
        warmup_steps=schedule.warmup_steps,
        warmup_factor=schedule.warmup_factor,
    )
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate


def total_steps(cfg: DictConfig, plan: BatchPlan) -> int:
    """Return the optimizer steps of the run, given or counted from its epochs."""
    steps, epochs = cfg.schedule.steps, cfg.schedule.epochs
    if steps is not None:
        return int(steps)
    return sum(plan.steps_per_epoch(epoch) for epoch in range(epochs))


def out_of_patience(cfg: DictConfig, progress: Progress) -> bool:
    """Whether the last ``trainer.patience`` evaluations brought no better AP."""
    patience = cfg.trainer.patience
    return patience is not None and progress.stale >= patience


def loss_state(model: nn.Module) -> dict[str, float]:
    """Return what the losses of ``model`` report about themselves, by name."""
    from detloss.losses import ClassLoss, DetectionLoss

    losses = [module for module in model.modules() if isinstance(module, ClassLoss | DetectionLoss)]
    return {f"state/{name}": value for loss in losses for name, value in loss.state_scalars().items()}


def describe_data(dataset: CocoDataset, validation: CocoDataset, folder: Path) -> None:
    """Print what there is to train on, and save its statistics and fingerprints in the run folder."""
    stats = dataset.stats
    empty = int((stats.instances == 0).sum())
    print(
        f"{len(dataset)} training images, {stats.instances.sum()} instances of {stats.num_classes} classes "
        f"({empty} without any), {dataset.dropped_boxes} degenerate boxes dropped; "
        f"{len(validation)} validation images"
    )
    prints = {part.annotations_path.name: _fingerprint(part.annotations_path) for part in (dataset, validation)}
    content = {"fingerprints": prints, **stats.to_json()}
    (folder / "stats.json").write_text(json.dumps(content) + "\n", encoding="utf-8")


def _fingerprint(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def instantiate(node: DictConfig, *arguments: object, option: str) -> object:
    """Return the object that ``node._target_`` names, made of the arguments and the other keys.

    Only classes of detloss, torch.nn and torch.optim that are modules, optimizers, data sets or samplers are
    honoured: a config from a stranger must not be able to call anything else.
    """
    target = _trusted_class(str(node.get("_target_", "")), option)
    values = {str(key): value for key, value in _container(node).items() if key != "_target_"}
    accepted = inspect.signature(target).parameters
    for key in values:
        if key not in accepted:
            raise UserError(f"{option} has no option '{key}'{nearest(key, accepted)}")
    try:
        return target(*arguments, **values)
    except (TypeError, ValueError) as error:
        raise UserError(f"{option}: {error}") from error


def _container(node: DictConfig) -> dict[object, object]:
    container = OmegaConf.to_container(node, resolve=True)
    assert isinstance(container, dict)
    return dict(container)


def _trusted_class(path: str, option: str) -> type:
    from torch import nn
    from torch.optim import Optimizer
    from torch.utils.data import Dataset

    from detloss.data.samplers import EpochSampler

    module, _, name = path.rpartition(".")
    found: object = None
    if path.startswith(TRUSTED_PACKAGES):
        try:
            found = getattr(import_module(module), name, None)
        except ImportError:
            found = None
    if isinstance(found, type) and issubclass(found, nn.Module | Optimizer | Dataset | EpochSampler):
        return found
    raise UserError(
        f"{option}._target_={path}: expected a module, optimizer, data set or sampler of detloss or torch"
    )
