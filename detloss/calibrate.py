"""A finished run with another calibration of its scores: predicted and scored anew, nothing trained."""

import copy
import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from omegaconf import DictConfig
from rich.console import Console
from torch import nn

from detloss import build, calibration, checkpoint, run_folder
from detloss.data.files import DatasetFiles, dataset_files
from detloss.data.loader import BatchPlan, training_loader
from detloss.errors import UserError, nearest
from detloss.evaluate import (
    Metrics,
    check_evaluation,
    checkpoint_path,
    override,
    predict_set,
    score,
    trained_detector,
)
from detloss.evaluation.result import Evaluation
from detloss.losses import ClassCoder, DetectionLoss
from detloss.models.causal import CausalLinear
from detloss.models.rcnn import RCNN
from detloss.progress import Display
from detloss.stats import ClassStats
from detloss.step import autocast_type, device_name

OPTIONS: dict[str, dict[str, float]] = {
    "norcal": {"gamma": 0.6},
    "tau": {"tau": 1.0},
    "logn": {"batches": 200},
    "fracal": {},
}
"""What each method may be told, with its default."""


def calibrate_run(
    run: Path,
    method: str,
    options: dict[str, float],
    overrides: Sequence[str] = (),
    *,
    checkpoint_name: str = "last",
) -> Metrics:
    """Calibrate a run's classifier, predict the validation set with it and write what that scores.

    Predictions, metrics and the table per class go to a folder of the method's name in the run's folder, which
    appears when all of it is there. The run's own metrics are printed, too; they are its last checkpoint's,
    and so it is calibrated unless another is named.

    Args:
        run: a run folder.
        method: norcal, tau, logn or fracal.
        options: as `OPTIONS` has them; others keep their defaults.
        overrides: changes of the run's config.
        checkpoint_name: ``best``, ``last``, or a checkpoint file.

    Raises:
        UserError: an unknown method or option, or a method that does not fit the run's scores.
    """
    options = known_options(method, options)
    cfg = override(run_folder.load_config(run), overrides)
    path = checkpoint_path(run, checkpoint_name)
    saved = checkpoint.load(path)
    files = dataset_files(cfg.dataset)
    validation = build.validation_set(cfg, files)
    check_evaluation(cfg, validation, saved.stats)
    device = torch.device(device_name(str(cfg.trainer.device)))
    detector = trained_detector(cfg, saved, path)
    detector.to(device)
    label = " ".join([method, *(f"{name}={value:.12g}" for name, value in options.items())])
    print(f"{path}, after {saved.progress.step} steps, calibrated by {label}")
    calibrate(cfg, detector, saved.stats, files, method, options, device=device)

    output = run / "-".join(["calibrated", *label.split()])
    with TemporaryDirectory(dir=run, prefix=".calibrate-") as scratch:
        folder = Path(scratch) / output.name
        predictions = predict_set(cfg, detector, validation, saved.stats, folder, device=device)
        evaluation = score(cfg, files.val_annotations, predictions, saved.stats)
        evaluation.write(folder)
        shutil.rmtree(output, ignore_errors=True)
        os.replace(folder, output)
    _show(evaluation, label)
    if (run / "metrics.json").exists():
        _show(Evaluation(run_folder.read_metrics(run), ()), "the run as it was evaluated last, not calibrated")
    return {kind: dict(values) for kind, values in evaluation.metrics.items()}


def known_options(method: str, options: dict[str, float]) -> dict[str, float]:
    """Return all options of the method, the given ones and its defaults."""
    if method not in OPTIONS:
        raise UserError(f"method={method}: expected one of {', '.join(OPTIONS)}{nearest(method, OPTIONS)}")
    defaults = OPTIONS[method]
    for name in options:
        if name not in defaults:
            knows = f"it takes {', '.join(defaults)}=" if defaults else "it takes no option"
            raise UserError(f"method={method} has no {name}=; {knows}")
    chosen = {**defaults, **options}
    for name, value in chosen.items():
        least = 1 if name == "batches" else 0
        if not (least <= value < math.inf) or (name == "batches" and value != int(value)):
            what = "a number of training batches, 1 or more" if name == "batches" else "a number of at least 0"
            raise UserError(f"{name}={value:g}: expected {what}")
    return chosen


def calibrate(
    cfg: DictConfig,
    detector: nn.Module,
    stats: ClassStats,
    files: DatasetFiles,
    method: str,
    options: dict[str, float],
    *,
    device: torch.device,
) -> None:
    """Put a calibrated coder, or for ``tau`` calibrated weights, in the place of the detector's own."""
    loss, classifier = _head(detector)
    coder = loss.coder
    if method == "norcal":
        loss.coder = calibration.norcal(coder, stats.images, gamma=options["gamma"])
    elif method == "fracal":
        loss.coder = calibration.fracal(coder, stats.images, stats.num_images)
    elif method == "tau":
        calibration.tau_normalize(classifier, coder, tau=options["tau"])
    else:
        loss.coder = _logn(cfg, detector, stats, files, int(options["batches"]), device)


def _head(detector: nn.Module) -> tuple[DetectionLoss, nn.Module]:
    """Return the loss, which holds the coder, and the classifier of the detector's head."""
    if isinstance(detector, RCNN):
        return detector.roi_heads.loss, detector.roi_heads.box_predictor.cls_score
    head = detector.get_submodule("head")
    assert isinstance(head.loss, DetectionLoss)
    return head.loss, head.get_submodule("classification_head.cls_logits")


def _logn(
    cfg: DictConfig,
    detector: nn.Module,
    stats: ClassStats,
    files: DatasetFiles,
    batches: int,
    device: torch.device,
) -> ClassCoder:
    """Return LogN's coder from the logits of the proposals that the run would train on in so many batches."""
    if not isinstance(detector, RCNN):
        raise UserError(
            f"method=logn is for the proposals of two-stage models, and this run's model is {cfg.model.name}; "
            "try norcal, tau or fracal"
        )
    loss, classifier = _head(detector)
    calibration.require_logn(loss.coder)
    if isinstance(classifier, CausalLinear):
        raise UserError(
            "method=logn needs plain logits, which dataset.classifier=tde does not have at inference; try norcal"
        )
    recorder = calibration.LogitMoments(loss.coder)
    watched = copy.deepcopy(detector)  # running averages of many kinds move in training, and are not to be kept
    watched.roi_heads.loss, watched.roi_heads.memory = recorder, None
    _look_at_training_batches(cfg, watched, stats, files, batches, device)
    return calibration.logn(loss.coder, *recorder.moments())


@torch.no_grad()
def _look_at_training_batches(
    cfg: DictConfig,
    detector: nn.Module,
    stats: ClassStats,
    files: DatasetFiles,
    batches: int,
    device: torch.device,
) -> None:
    """Run the detector as in training on the run's own first batches, an image at a time; it learns nothing."""
    dataset = build.training_set(cfg, files)
    if dataset.stats.category_ids != stats.category_ids:
        raise UserError(
            f"{files.train_annotations}: its {len(dataset.category_ids)} categories are not the "
            f"{stats.num_classes} that the run was trained on"
        )
    size = cfg.schedule.batch_size
    plan = BatchPlan(build.sampler(cfg, dataset), dataset.sizes, batch_size=size, seed=cfg.seed)
    images = training_loader(
        dataset,
        build.augmentation(cfg, dataset),
        plan,
        last_step=batches,
        accumulate=size,
        workers=cfg.trainer.workers,
    )
    precision = autocast_type(cfg.trainer.precision, device)
    torch.manual_seed(cfg.seed)  # proposals are drawn at random
    detector.train()
    for module in detector.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()  # as at inference: an image alone has other statistics than a batch
    with Display("logits", batches) as display:
        for done, (pixels, targets) in enumerate(images, start=1):
            with torch.autocast(device.type, precision, enabled=precision is not torch.float32):
                detector(
                    [image.to(device) for image in pixels],
                    [{key: value.to(device) for key, value in target.items()} for target in targets],
                )
            if done % size == 0:
                display.advance(done // size)
                if done % (50 * size) == 0:
                    display.note(done // size, {})


def _show(evaluation: Evaluation, title: str) -> None:
    table = evaluation.table()
    table.title, table.title_justify = title, "left"
    Console().print(table)
