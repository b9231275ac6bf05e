"""Whatever an annotation file holds, the answer is one line and exit code 2, and nothing is left behind."""

import json
import struct
import zlib
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

SOUND: dict[str, Any] = {
    "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}],
    "categories": [{"id": 5, "name": "cat"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 5, "bbox": [2, 3, 20, 10], "segmentation": [[2, 3, 22, 3, 22, 13]]}
    ],
}

TEXTS = {
    "empty": "",
    "not json": "hello",
    "a list": "[]",
    "a number": "7",
    "cut short": json.dumps(SOUND)[:-30],
    "cut in a text": json.dumps(SOUND)[:60],
    "two values": json.dumps(SOUND) + "{}",
    "nested too deep": '{"images": ' + "[" * 100_000,
    "a number of 5000 digits": '{"images": ' + "9" * 5000 + "}",
    "no lists": "{}",
    "no annotations": json.dumps({key: SOUND[key] for key in ("images", "categories")}),
    "a missing comma": json.dumps(SOUND).replace(', "image_id"', ' "image_id"'),
}

CHANGES: dict[str, tuple[str, object]] = {
    "records that are texts": ("annotations", ["x"]),
    "a list that is an object": ("annotations", {}),
    "no categories": ("categories", []),
    "id of an image missing": ("images/0/id", None),
    "id twice": ("images", SOUND["images"] * 2),
    "category twice": ("categories", SOUND["categories"] * 2),
    "annotation twice": ("annotations", SOUND["annotations"] * 2),
    "name of a category missing": ("categories/0/name", None),
    "no file name": ("images/0/file_name", None),
    "empty file name": ("images/0/file_name", ""),
    "path upwards": ("images/0/file_name", "../../etc/passwd"),
    "absolute path": ("images/0/file_name", "/etc/passwd"),
    "drive letter": ("images/0/file_name", "C:\\a.png"),
    "zero width": ("images/0/width", 0),
    "height that is a text": ("images/0/height", "30"),
    "height that is huge": ("images/0/height", 10**30),
    "unknown image": ("annotations/0/image_id", 9),
    "unknown category": ("annotations/0/category_id", 9),
    "category that is a text": ("annotations/0/category_id", "cat"),
    "box of three": ("annotations/0/bbox", [1, 2, 3]),
    "box with NaN": ("annotations/0/bbox", [1, 2, float("nan"), 4]),
    "box with infinity": ("annotations/0/bbox", [1, 2, float("inf"), 4]),
    "box of texts": ("annotations/0/bbox", ["1", "2", "3", "4"]),
    "no box": ("annotations/0/bbox", None),
    "crowd of two": ("annotations/0/iscrowd", 2),
    "polygon of two points": ("annotations/0/segmentation", [[1, 2, 3, 4]]),
    "polygon of an odd number": ("annotations/0/segmentation", [[1, 2, 3, 4, 5, 6, 7]]),
    "polygon far away": ("annotations/0/segmentation", [[1, 2, 3, 1e12, 5, 6]]),
    "polygon of texts": ("annotations/0/segmentation", [["a"] * 6]),
    "run lengths of another size": ("annotations/0/segmentation", {"size": [4, 4], "counts": [16]}),
    "run lengths too short": ("annotations/0/segmentation", {"size": [30, 40], "counts": [7]}),
    "run lengths that are damaged": ("annotations/0/segmentation", {"size": [30, 40], "counts": "~~~"}),
    "mask that is a text": ("annotations/0/segmentation", "x"),
}


def changed(place: str, value: object) -> str:
    content: Any = deepcopy(SOUND)
    at = content
    *path, last = (int(step) if step.isdigit() else step for step in place.split("/"))
    for step in path:
        at = at[step]
    at[last] = value
    return json.dumps(content)


def a_small_file_of_a_huge_image(side: int = 60_000) -> bytes:
    """A PNG whose header promises side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("large", [False, True])
def test_every_malformed_file_is_one_line(run_verbs: Callable, tmp_path: Path, monkeypatch, large: bool) -> None:
    """Once as it stands, and once with the cache that large files get."""
    monkeypatch.setenv("DETLOSS_CACHE", str(tmp_path / "cache"))
    texts = TEXTS | {name: changed(*change) for name, change in CHANGES.items()}
    assert len(texts) > 40
    folder = tmp_path / "files"
    folder.mkdir()
    padding = " " * (1 << 24) if large else ""
    chosen = list(texts)[::6] if large else list(texts)
    commands = []
    for number, name in enumerate(chosen):
        path = folder / f"{number}.json"
        path.write_text(texts[name] + padding, encoding="utf-8")
        words = f"dataset=coco dataset.train.annotations={path} dataset.train.images={folder}"
        commands.append(f"data info {words} dataset.val.annotations={path} dataset.val.images={folder}")
    results, _ = run_verbs(*commands)
    for name, result in zip(chosen, results, strict=True):
        assert result.code == 2 and result.err.startswith("error: "), (name, result)
        assert result.err.count("\n") == 1 and ".json" in result.err, (name, result.err)
    left = [entry for entry in (tmp_path / "cache").rglob("*") if entry.is_file() and entry.suffix != ".lock"]
    assert left == []


def test_a_small_file_of_a_huge_image_is_not_unpacked(run_verbs: Callable, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(a_small_file_of_a_huge_image())
    (tmp_path / "a.json").write_text(changed("images/0/width", 60_000))
    words = (
        f"dataset=coco dataset.train.annotations={tmp_path}/a.json dataset.train.images={tmp_path} "
        f"dataset.val.annotations={tmp_path}/a.json dataset.val.images={tmp_path}"
    )
    (checked, doctor), _ = run_verbs(f"data check {words}", f"doctor {words}")
    assert checked.code == 1 and "image damaged" in checked.out and "decompression bomb" in checked.out
    assert doctor.code == 1 and "a.png: damaged or not an image" in doctor.out
