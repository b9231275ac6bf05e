"""A trained run on images: pictures with what it found, and a JSON file of it."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor, nn

from detloss import build, checkpoint, run_folder
from detloss.contact_sheet import Cell, cells_of, contact_sheet, most_telling
from detloss.data.image_files import AnnotatedFiles, ImageFile, ImageFiles
from detloss.errors import UserError
from detloss.evaluate import checkpoint_path, override, trained_detector
from detloss.evaluation.prediction_columns import Row
from detloss.evaluation.predictions import encode_masks
from detloss.examples import objects_of
from detloss.picture import Objects, draw_objects, side_by_side
from detloss.progress import Display
from detloss.stats import ClassStats, frequency_groups
from detloss.step import autocast_type, device_name

SHEET = "contact_sheet.png"
FILE_NAME = "predictions.json"


def predict_images(
    run: Path,
    images: Path,
    output: Path,
    *,
    annotations: Path | None = None,
    score: float = 0.3,
    checkpoint_name: str = "best",
    limit: int | None = None,
    overrides: Sequence[str] = (),
) -> Path:
    """Run a trained detector on images; draw what it finds and write it to ``predictions.json``.

    With annotations only the images that they list are used, the ground truth is drawn beside the detections, a
    contact sheet shows hits, confusions and misses by frequency group, and the JSON file is COCO's results format.
    Without, its rows have ``file_name`` and ``category``, the class's name, instead of ``image_id``. Boxes are
    x, y, width, height in pixels of the image.

    Args:
        run: a run folder.
        images: an image, or a folder of images.
        output: a folder; pictures get the names of their images.
        annotations: a COCO- or LVIS-format file of the run's categories.
        score: detections with a lower score are left out.
        checkpoint_name: ``best``, ``last``, or a checkpoint file; ``best`` falls back to the last.
        limit: use the first images only.
        overrides: changes of the run's config.

    Returns:
        The JSON file.

    Raises:
        UserError: no images, an image that cannot be read, annotations of other images or categories, an
            output that is a file or would overwrite the images.
    """
    if not 0 <= score <= 1:
        raise UserError(f"score={score}: expected a number between 0 and 1")
    cfg = override(run_folder.load_config(run), overrides)
    # Before the model's own NMS: no box can lose to one with a lower score, and fewer masks are pasted.
    cfg.model.detector.score_threshold = score
    path = checkpoint_path(run, checkpoint_name)
    saved = checkpoint.load(path)
    files = _files(images, annotations, saved.stats, masks=cfg.model.masks, limit=limit)
    _require_safe_output(output, files.folder)

    device = torch.device(device_name(str(cfg.trainer.device)))
    detector = trained_detector(cfg, saved, path)
    detector.to(device).eval()
    groups = frequency_groups(saved.stats.images, build.group_thresholds(cfg))
    rows: list[Row] = []
    cells: list[Cell] = []
    with Display("predict", len(files)) as display:
        for done in range(len(files)):
            file = files[done]
            found = detect(cfg, detector, file.image, device)
            rows += _rows(file, found, saved.stats)
            truth = None if file.target is None else objects_of(file.target)
            _save(_picture(file, found, truth, saved.stats.names), output / file.name)
            if truth is not None:
                pixels = file.image.permute(1, 2, 0).numpy()
                cells = most_telling(cells + cells_of(pixels, truth, found, saved.stats.names, groups))
            display.advance(done + 1)
    print(f"{len(rows)} detections with a score of {score} or more on {len(files)} images, drawn in {output}")
    if annotations is not None:
        _save(contact_sheet(cells), output / SHEET)
        print(f"hits, confusions and misses by frequency group: {output / SHEET}")
    if isinstance(files, AnnotatedFiles) and files.missing:
        print(f"{files.missing} images of {annotations} are not in {images} and were left out")
    return _write(rows, output)


@torch.no_grad()
def detect(cfg: DictConfig, detector: nn.Module, image: Tensor, device: torch.device) -> Objects:
    """Return what ``detector``, in evaluation mode, finds on an image (uint8 [3, H, W])."""
    precision = autocast_type(cfg.trainer.precision, device)
    with torch.autocast(device.type, precision, enabled=precision is not torch.float32):
        (detections,) = detector([image.as_subclass(Tensor).to(device)])
    masks = detections.get("masks")
    return Objects(
        boxes=detections["boxes"].float().cpu().numpy(),
        classes=detections["labels"].cpu().numpy() - 1,
        scores=detections["scores"].float().cpu().numpy(),
        # torchvision's own threshold on mask probabilities.
        masks=None if masks is None else (masks[:, 0] > 0.5).cpu().numpy(),
    )


def _files(
    images: Path, annotations: Path | None, stats: ClassStats, *, masks: bool, limit: int | None
) -> ImageFiles | AnnotatedFiles:
    """Return the images, with ground truth where there are annotations, which must be of the run's classes."""
    if annotations is None:
        return ImageFiles(images, limit=limit)
    files = AnnotatedFiles(annotations, images, masks=masks, limit=limit)
    _require_same_classes(files, stats, annotations)
    return files


def _rows(file: ImageFile, found: Objects, stats: ClassStats) -> list[Row]:
    """Return the detections of an image as rows of the JSON file."""
    assert found.scores is not None
    boxes = found.boxes.astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    masks = None if found.masks is None else encode_masks(found.masks.astype(np.uint8))
    rows: list[Row] = []
    for index, class_index in enumerate(found.classes.tolist()):
        row: Row = {"file_name": file.name, "category": stats.names[class_index]}
        if file.target is not None:
            row = {"image_id": file.target["image_id"]}
        row["category_id"] = stats.category_ids[class_index]
        row["bbox"] = boxes[index].tolist()
        row["score"] = float(found.scores[index])
        if masks is not None:
            row["segmentation"] = masks[index]
        rows.append(row)
    return rows


def _picture(file: ImageFile, found: Objects, truth: Objects | None, names: Sequence[str]) -> Image.Image:
    """Return the image with the detections, and left of it with the ground truth if there is one."""
    pixels = file.image.permute(1, 2, 0).numpy()
    drawn = draw_objects(pixels, found, names)
    if truth is None:
        return drawn
    return side_by_side([draw_objects(pixels, truth, names), drawn], ["ground truth", "detections"])


def _save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        picture.save(path, quality=92)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot write {path}: {error}") from error


def _write(rows: list[Row], output: Path) -> Path:
    """Write a row a line; the file appears by one rename."""
    path = output / FILE_NAME
    partial = path.with_name(f"{path.name}.part")
    lines = ",\n".join(json.dumps(row) for row in rows)
    partial.write_text(f"[\n{lines}\n]\n" if rows else "[]\n", encoding="utf-8")
    os.replace(partial, path)
    return path


def _require_same_classes(files: AnnotatedFiles, stats: ClassStats, annotations: Path) -> None:
    theirs = dict(zip(files.dataset.category_ids, files.dataset.names, strict=True))
    ours = dict(zip(stats.category_ids, stats.names, strict=True))
    if theirs != ours:
        different = sorted(theirs.items() ^ ours.items())[0]
        raise UserError(
            f"{annotations}: its {len(theirs)} categories are not the run's {len(ours)}; the first that differs "
            f"is {different[0]}, '{different[1]}'"
        )


def _require_safe_output(output: Path, folder: Path) -> None:
    if output.exists() and not output.is_dir():
        raise UserError(f"output={output} is a file; expected a folder")
    if output.resolve() == folder.resolve():
        raise UserError(f"output={output} is where the images are, which the pictures would overwrite")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"output={output}: cannot make this folder: {error.strerror}") from error
