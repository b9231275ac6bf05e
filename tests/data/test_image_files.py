"""Images to look at: which files are found, in which order, and what they are with annotations."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detloss.data.image_files import AnnotatedFiles, ImageFiles
from detloss.errors import UserError


def test_images_of_a_folder_come_sorted_and_nothing_else(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "d.webp", "c.bmp", "e.jpeg"):
        Image.new("RGB", (8, 6)).save(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    (tmp_path / "z.png").mkdir()
    files = ImageFiles(tmp_path)
    assert [file.name for file in files] == ["a.png", "b.JPG", "c.bmp", "d.webp", "e.jpeg"]
    assert all(file.image.shape == (3, 6, 8) and file.target is None for file in files)
    assert len(ImageFiles(tmp_path, limit=2)) == 2


def test_photographs_are_turned_upright(tmp_path: Path) -> None:
    picture = Image.new("RGB", (8, 6))
    picture.putpixel((0, 0), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: the camera was turned, show it turned clockwise by a quarter
    picture.save(tmp_path / "a.png", exif=exif)
    image = ImageFiles(tmp_path / "a.png")[0].image
    assert image.shape == (3, 8, 6)
    assert image[0, 0, 5] == 255  # the corner at the top left comes to the top right


def test_annotated_images_that_are_not_there_are_counted(tiny_coco: Callable[..., tuple[Path, Path]]) -> None:
    annotations, images = tiny_coco(5)
    (images / "0001.png").unlink()
    files = AnnotatedFiles(annotations, images, masks=True)
    assert files.missing == 1
    assert [file.name for file in files] == ["0000.png", "0002.png", "0003.png", "0004.png"]
    targets = [file.target or {} for file in files]
    assert [target["image_id"] for target in targets] == [10, 12, 13, 14]
    rows = json.loads(annotations.read_text())["annotations"]
    expected = [
        sum(row["image_id"] == image and not row["iscrowd"] and row["bbox"][2] > 0 for row in rows)
        for image in (10, 12, 13, 14)
    ]
    assert [len(target["boxes"]) for target in targets] == [len(target["masks"]) for target in targets] == expected


def test_one_image_of_an_annotation_file(tiny_coco: Callable[..., tuple[Path, Path]]) -> None:
    annotations, images = tiny_coco(4)
    files = AnnotatedFiles(annotations, images / "0002.png", masks=False)
    assert [(file.target or {})["image_id"] for file in files] == [12]


def test_annotations_without_masks_are_drawn_as_boxes(tiny_coco: Callable[..., tuple[Path, Path]]) -> None:
    annotations, images = tiny_coco(3)
    content = json.loads(annotations.read_text())
    for row in content["annotations"]:
        del row["segmentation"]
    annotations.write_text(json.dumps(content))
    assert "masks" not in (AnnotatedFiles(annotations, images, masks=True)[0].target or {})


def test_what_cannot_be_used_is_refused_in_one_line(
    tmp_path: Path, tiny_coco: Callable[..., tuple[Path, Path]]
) -> None:
    annotations, images = tiny_coco(2)
    empty, damaged, stranger = tmp_path / "empty", tmp_path / "damaged.jpg", tmp_path / "stranger.png"
    empty.mkdir()
    damaged.write_bytes(b"not an image")
    Image.fromarray(np.zeros((4, 4), dtype=np.uint8)).save(stranger)
    refusals: list[tuple[Callable[[], object], str]] = [
        (lambda: ImageFiles(empty), "no image in this folder"),
        (lambda: ImageFiles(tmp_path / "nowhere"), "no such file or folder"),
        (lambda: ImageFiles(damaged)[0], "damaged or not an image"),
        (lambda: AnnotatedFiles(annotations, tmp_path / "nowhere", masks=False), "no such file or folder"),
        (lambda: AnnotatedFiles(annotations, empty, masks=False), "none of its 2 images"),
        (lambda: AnnotatedFiles(annotations, stranger, masks=False), "does not list this image|none of its 2"),
        (lambda: AnnotatedFiles(tmp_path / "no.json", images, masks=True), "no.json"),
    ]
    for refused, message in refusals:
        with pytest.raises(UserError, match=message) as raised:
            refused()
        assert "\n" not in str(raised.value)
