"""``detloss predict`` on a run that was never trained: which files it writes, and what they hold."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from PIL import Image
from pycocotools import mask as coco_mask

from detloss import build, checkpoint
from detloss.data.coco import CocoDataset
from detloss.errors import UserError
from detloss.evaluate import predict_set
from detloss.evaluation.predictions import read_predictions
from detloss.predict import predict_images

WORDS = (
    "dataset=coco",
    "backbone=tiny",
    "backbone.channels=32",
    "dataset.eval_scale=64",
    "dataset.score_threshold=0.0001",
    "model.detector.rpn_proposals_test=50",
    "trainer.workers=0",
    "trainer.device=cpu",
)
SCORE = 0.2


@pytest.fixture
def data(tiny_coco: Callable[..., tuple[Path, Path]]) -> tuple[Path, Path]:
    """Annotations and images, four of them."""
    return tiny_coco(4)


@pytest.fixture
def run(tmp_path: Path, data: tuple[Path, Path]) -> Iterator[Path]:
    """A folder with the config and checkpoint of an untrained Mask R-CNN."""
    folder = tmp_path / "run"
    folder.mkdir()
    with initialize_config_module("detloss.conf", version_base="1.3"):
        cfg = compose("train", overrides=[*WORDS, "model=maskrcnn", "loss=ce"])
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(cfg, resolve=True))
    stats = CocoDataset(*data).stats
    torch.manual_seed(0)
    model = build.detector(cfg, stats)
    with torch.no_grad():  # so that scores of an untrained model differ
        model.roi_heads.box_predictor.cls_score.weight.mul_(300)  # type: ignore[union-attr, operator]
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    checkpoint.RunState(model, build.optimizer(cfg, model), scaler, stats).save(folder / "last.ckpt")
    yield folder


def rows(path: Path) -> list[dict]:
    return json.loads(path.read_text())


def test_with_annotations_the_rows_are_the_evaluations_above_the_score(
    tmp_path: Path, run: Path, data: tuple[Path, Path]
) -> None:
    found = rows(predict_images(run, data[1], tmp_path / "out", annotations=data[0], score=SCORE))
    assert (tmp_path / "out" / "contact_sheet.png").is_file()
    saved, cfg = checkpoint.load(run / "last.ckpt"), OmegaConf.load(run / "config.yaml")
    detector = build.detector(cfg, saved.stats, load=False)
    detector.load_state_dict(dict(saved.model))
    arguments = (cfg, detector, CocoDataset(*data), saved.stats, tmp_path / "eval")
    everything = read_predictions(predict_set(*arguments, device=torch.device("cpu")))
    # A box loses to none with a lower score.
    expected = [row for row in everything if row["score"] > SCORE]
    assert 0 < len(expected) < len(everything)
    assert found == expected


def test_without_annotations_the_rows_name_the_file_and_the_category(
    tmp_path: Path, run: Path, data: tuple[Path, Path]
) -> None:
    found = rows(predict_images(run, data[1], tmp_path / "out", score=SCORE))
    assert found
    for row in found:
        assert list(row) == ["file_name", "category", "category_id", "bbox", "score", "segmentation"]
        assert row["category"] == f"class_{row['category_id']}"
        x, y, width, height = row["bbox"]
        assert min(x, y) >= 0 and max(x + width, y + height) <= 64.001
        mask = coco_mask.decode(row["segmentation"])
        xs = np.nonzero(mask)[1]
        assert mask.shape == (64, 64)
        # A pasted mask stays in its box, but for the pixels at the edge.
        assert not xs.size or (xs.min() >= x - 2 and xs.max() <= x + width + 2)


def test_every_image_gets_a_picture_of_its_name(tmp_path: Path, run: Path, data: tuple[Path, Path]) -> None:
    predict_images(run, data[1], tmp_path / "plain", score=SCORE)
    predict_images(run, data[1], tmp_path / "compared", annotations=data[0], score=SCORE, limit=2)
    names = [f"{number:04d}.png" for number in range(4)]
    assert sorted(path.name for path in (tmp_path / "plain").iterdir()) == [*names, "predictions.json"]
    expected = [*names[:2], "contact_sheet.png", "predictions.json"]
    assert sorted(path.name for path in (tmp_path / "compared").iterdir()) == expected
    plain, compared = (Image.open(tmp_path / part / names[0]) for part in ("plain", "compared"))
    assert compared.width > 2 * plain.width  # the ground truth stands at its left
    detections = np.array(compared)[-plain.height :, -plain.width :]
    assert np.array_equal(detections, np.array(plain))


def test_no_detection_gives_an_empty_list_and_plain_pictures(
    tmp_path: Path, run: Path, data: tuple[Path, Path]
) -> None:
    assert rows(predict_images(run, data[1] / "0000.png", tmp_path / "out", score=1.0)) == []
    original = Image.open(data[1] / "0000.png").resize((512, 512), Image.Resampling.BICUBIC)
    assert np.array_equal(np.array(Image.open(tmp_path / "out" / "0000.png")), np.array(original))


def test_mistakes_are_named_before_anything_is_predicted(
    tmp_path: Path, run: Path, data: tuple[Path, Path]
) -> None:
    annotations, images = data
    other = tmp_path / "other.json"
    other.write_text(annotations.read_text().replace("class_7", "class_seven"))
    file = tmp_path / "file"
    file.touch()
    out = tmp_path / "out"
    refusals: list[tuple[Callable[[], object], str]] = [
        (lambda: predict_images(run, images, file), "is a file"),
        (lambda: predict_images(run, images, images), "would overwrite"),
        (lambda: predict_images(run, images, file / "below"), "cannot make this folder"),
        (lambda: predict_images(run, images, out, annotations=other), "first that differs is 7, 'class_"),
        (lambda: predict_images(run, images, out, score=30), "between 0 and 1"),
        (lambda: predict_images(run, images, out, checkpoint_name="x.ckpt"), "no such file"),
        (lambda: predict_images(run, tmp_path, out), "no image in this folder"),
    ]
    for refused, message in refusals:
        with pytest.raises(UserError, match=message) as raised:
            refused()
        assert "\n" not in str(raised.value)
    assert not out.exists()
