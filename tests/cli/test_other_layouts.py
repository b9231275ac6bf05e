"""Sets in VOC's, YOLO's and Open Images' layout train as they are, converted on the way."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detloss.data.annotations import read_annotations

SMALL = (
    "model=fasterrcnn backbone=tiny backbone.norm=group schedule=quick schedule.steps=1 schedule.batch_size=2 "
    "schedule.warmup_steps=0 dataset.scales=null dataset.eval_scale=64 trainer.workers=0 trainer.device=cpu "
    "logger=jsonl"
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DETLOSS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "converted"


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def make_voc(root: Path) -> None:
    for number, name in enumerate(("cat", "dog", "cat")):
        image(root / "JPEGImages" / f"{number}.jpg")
        text(
            root / "Annotations" / f"{number}.xml",
            f"<annotation><filename>{number}.jpg</filename><size><width>64</width><height>48</height></size><object>"
            f"<name>{name}</name><bndbox><xmin>11</xmin><ymin>11</ymin><xmax>40</xmax><ymax>30</ymax></bndbox>"
            "</object></annotation>",
        )
    text(root / "ImageSets" / "Main" / "trainval.txt", "0\n1\n")
    text(root / "ImageSets" / "Main" / "test.txt", "2\n")


def make_yolo(root: Path) -> None:
    for part, names in (("train", "ab"), ("val", "c")):
        for name in names:
            image(root / "images" / part / f"{name}.png")
            text(root / "labels" / part / f"{name}.txt", "1 0.4 0.5 0.4 0.4\n")
    text(root / "data.yaml", "names: [cat, dog]\n")


def make_openimages(root: Path) -> None:
    text(root / "annotations/class-descriptions-boxable.csv", "/m/c,Cat\n/m/d,Dog\n")
    text(root / "annotations/bbox_labels_600_hierarchy.json", '{"LabelName": "/m/d", "Subcategory": []}')
    for part, prefix, names in (("train", "oidv6-", "ab"), ("validation", "", "c")):
        boxes = ["ImageID,LabelName,XMin,XMax,YMin,YMax,IsGroupOf"]
        for name in names:
            image(root / part / f"{name}.jpg")
            boxes.append(f"{name},/m/d,0.2,0.6,0.3,0.7,0")
        text(root / f"annotations/{prefix}{part}-annotations-bbox.csv", "\n".join(boxes) + "\n")
        text(
            root / f"annotations/{part}-annotations-human-imagelabels-boxable.csv",
            "ImageID,LabelName,Confidence\n",
        )


@pytest.mark.parametrize(
    ("name", "make", "changed"),
    [
        ("voc", make_voc, "Annotations/1.xml"),
        ("yolo", make_yolo, "labels/train/b.txt"),
        ("openimages", make_openimages, "annotations/oidv6-train-annotations-bbox.csv"),
    ],
)
def test_a_set_trains_as_it_lies_there_and_is_converted_once(
    run_verbs: Callable, tmp_path: Path, cache: Path, name: str, make: Callable[[Path], None], changed: str
) -> None:
    root = tmp_path / "set"
    make(root)
    given = f"dataset={name} dataset.root={root}"
    results, _ = run_verbs(f"data check {given}", f"train {given} {SMALL}")
    assert [result.code for result in results] == [0, 0], results
    files = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert sorted(len(read_annotations(path).image_ids) for path in files) == [1, 2]
    assert all((read_annotations(path).boxes[:, 0] > 9).all() for path in files)

    (root / changed).write_text((root / changed).read_text() + "\n")
    results, modules = run_verbs(f"stats {given}", f"stats {given}")
    assert [result.code for result in results] == [0, 0], results
    assert "torch" not in modules
    assert len(set(cache.iterdir()) - set(files)) >= 1
    assert all(path.stat().st_mtime_ns == time for path, time in files.items())


def test_files_that_are_not_there_are_named(run_verbs: Callable, tmp_path: Path, cache: Path) -> None:
    make_voc(tmp_path / "voc")
    (tmp_path / "voc" / "Annotations" / "2.xml").unlink()
    results, _ = run_verbs(
        "data info dataset=voc",
        f"data info dataset=voc dataset.root={tmp_path / 'no'}",
        f"data info dataset=voc dataset.root={tmp_path / 'voc'}",
        f"data info dataset=openimages dataset.root={tmp_path}",
        f"data info dataset=yolo dataset.root={tmp_path}",
    )
    expected = (
        "give dataset.root=FOLDER",
        "no such folder",
        "2.xml: no such file, which ImageSets/Main/test.txt names",
        "dataset.train.annotations=annotations/oidv6-train-annotations-bbox.csv",
        "no such folder of images",
    )
    for result, message in zip(results, expected, strict=True):
        assert result.code == 2 and message in result.err and result.err.count("\n") == 1, result
