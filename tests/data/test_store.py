"""Stored annotations are those of the file, whatever happened to the cache."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detloss.data import store
from detloss.data.annotations import Annotations, read_annotations
from detloss.data.segmentations import Segmentations
from detloss.data.store import open_annotations
from detloss.data.texts import Texts
from detloss.errors import UserError

CONTENT: dict[str, Any] = {
    "images": [{"id": i, "file_name": f"ä{i}.jpg", "width": 40, "height": 30} for i in (7, 3)],
    "categories": [{"id": 90, "name": "zebra", "frequency": "r"}, {"id": 4, "name": "cat", "frequency": "f"}],
    "annotations": [
        {"id": 1, "image_id": 3, "category_id": 90, "bbox": [1, 2, 3, 4], "segmentation": [[1, 2, 4, 2, 4, 6]]},
        {
            "id": 2,
            "image_id": 7,
            "category_id": 4,
            "bbox": [3.5, 2, 2, 2],
            "iscrowd": 1,
            "segmentation": {"size": [30, 40], "counts": [600, 600]},
        },
        {"id": 3, "image_id": 3, "category_id": 4, "bbox": [5, 5, 0, 9], "segmentation": []},
    ],
}


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DETLOSS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(store, "WORTH_STORING", 0)
    file = tmp_path / "train.json"
    file.write_text(json.dumps(CONTENT))
    return file


def assert_same(found: object, expected: object) -> None:
    for field in fields(expected):  # type: ignore[arg-type]
        value, wanted = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(wanted, np.ndarray):
            assert value.dtype == wanted.dtype and np.array_equal(value, wanted), field.name
        elif isinstance(wanted, Texts | Segmentations):
            assert_same(value, wanted)
        elif field.name != "stored":
            assert value == wanted, field.name


def folder_of(annotations: Annotations) -> Path:
    assert annotations.stored is not None
    return annotations.stored


@pytest.mark.parametrize("masks", [False, True])
def test_what_is_stored_is_what_was_read(path: Path, masks: bool) -> None:
    expected = read_annotations(path, masks=masks)
    first, second = (open_annotations(path, masks=masks) for _ in range(2))
    for found in (first, second, pickle.loads(pickle.dumps(second))):
        assert_same(found, expected)
        assert isinstance(found.boxes, np.memmap)
    assert list(second.file_names) == ["ä7.jpg", "ä3.jpg"]


def test_a_file_is_read_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_annotations(path)
    monkeypatch.setattr(store, "read_annotations", None)
    assert len(open_annotations(path).boxes) == 2


def test_workers_are_sent_the_name_of_a_folder(path: Path) -> None:
    sent = pickle.dumps(open_annotations(path, masks=True))
    assert len(sent) < 500
    assert_same(pickle.loads(sent), read_annotations(path, masks=True))


def test_a_small_file_is_not_stored(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("DETLOSS_CACHE", str(tmp_path / "cache"))
    annotations = open_annotations(path)
    assert annotations.stored is None and not (tmp_path / "cache").exists()
    assert_same(pickle.loads(pickle.dumps(annotations)), annotations)


def test_a_file_that_changed_is_read_again(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    open_annotations(path)
    path.write_text(json.dumps(CONTENT | {"annotations": CONTENT["annotations"][:1]}))
    assert len(open_annotations(path).boxes) == 1
    assert "is of another state of the file" in capsys.readouterr().err
    os.utime(path, (1, 1))
    open_annotations(path)
    assert capsys.readouterr().err.count("\n") == 1
    open_annotations(path)
    assert capsys.readouterr().err == ""


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


@pytest.mark.parametrize("name", ["boxes.npy", "facts.json", "file_names.letters.npy", "segmentations.runs.npy"])
@pytest.mark.parametrize("damage", [cut, Path.unlink, lambda file: file.write_bytes(b"")])
def test_a_damaged_cache_is_made_again(
    path: Path, capsys: pytest.CaptureFixture[str], name: str, damage: Callable[[Path], object]
) -> None:
    expected = read_annotations(path, masks=True)
    damage(folder_of(open_annotations(path, masks=True)) / name)
    assert_same(open_annotations(path, masks=True), expected)
    err = capsys.readouterr().err
    assert "is damaged" in err and err.count("\n") == 1
    assert_same(open_annotations(path, masks=True), expected)
    assert capsys.readouterr().err == ""


def test_a_file_that_cannot_be_read_leaves_nothing(path: Path, tmp_path: Path) -> None:
    path.write_text(path.read_text()[:-5])
    with pytest.raises(UserError, match="malformed JSON"):
        open_annotations(path)
    assert [entry.suffix for entry in (tmp_path / "cache" / "annotations").iterdir()] == [".lock"]


def test_a_cache_that_cannot_be_written_is_done_without(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("DETLOSS_CACHE", str(tmp_path / "file"))
    assert_same(open_annotations(path), read_annotations(path))
    assert "set DETLOSS_CACHE" in capsys.readouterr().err
    monkeypatch.setenv("DETLOSS_CACHE", str(tmp_path / "cache"))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    assert_same(open_annotations(path), read_annotations(path))
    assert "No space left on device" in capsys.readouterr().err
    assert [entry.suffix for entry in (tmp_path / "cache" / "annotations").iterdir()] == [".lock"]


def test_processes_that_start_at_once_share_one_reading(path: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from detloss.data import store; store.WORTH_STORING = 0\n"
        "read = store.read_annotations\n"
        "store.read_annotations = lambda *words, **options: print('read') or read(*words, **options)\n"
        f"print(len(store.open_annotations(Path({str(path)!r})).boxes))"
    )
    root = Path(__file__).parents[2]
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=root)
        for _ in range(4)
    ]
    printed = [process.communicate()[0].split() for process in processes]
    assert sorted(printed) == [["2"], ["2"], ["2"], ["read", "2"]]
    left = [entry for entry in (tmp_path / "cache" / "annotations").iterdir() if entry.suffix != ".lock"]
    assert len(left) == 1


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        open_annotations(tmp_path / "none.json")


def test_texts_come_back_one_by_one() -> None:
    words = ["", "a", "Straße", "漢字", ""]
    texts = Texts.of(words)
    assert list(texts) == words and texts[-2] == "漢字" and len(texts) == 5
    with pytest.raises(IndexError):
        texts[5]
