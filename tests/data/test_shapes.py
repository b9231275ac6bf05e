"""The embedded data set keeps its promises: annotations, class counts, determinism, the cache."""

import hashlib
import json
import multiprocessing
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as run_length

from detloss.data import shapes
from detloss.data.drawing import draw_object
from detloss.data.scenes import compose, deal_classes
from detloss.data.shape_classes import CLASSES
from detloss.data.shapes import ShapesPaths, shapes_dataset
from detloss.errors import UserError

TINY = {"train_images": 40, "val_images": 24, "size": 64}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ShapesPaths:
    return shapes_dataset(tmp_path_factory.mktemp("shapes"), **TINY)


def _both(paths: ShapesPaths) -> list[tuple[dict, Path]]:
    return [
        (json.loads(paths.train_annotations.read_text()), paths.train_images),
        (json.loads(paths.val_annotations.read_text()), paths.val_images),
    ]


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_boxes_and_areas_are_those_of_the_decoded_masks(tiny: ShapesPaths) -> None:
    for content, _ in _both(tiny):
        for row in content["annotations"]:
            mask = run_length.decode(row["segmentation"])
            assert mask.shape == (64, 64)
            rows, columns = mask.nonzero()
            x, y, width, height = row["bbox"]
            assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (
                x,
                y,
                x + width,
                y + height,
            )
            assert row["area"] == np.count_nonzero(mask)
            assert row["iscrowd"] == 0


def test_masks_of_an_image_do_not_overlap(tiny: ShapesPaths) -> None:
    for content, _ in _both(tiny):
        layers = np.zeros((len(content["images"]) + 1, 64, 64), dtype=np.int64)
        for row in content["annotations"]:
            layers[row["image_id"]] += run_length.decode(row["segmentation"])
        assert layers.max() == 1


def test_masks_lie_on_the_drawn_colour() -> None:
    # A plain red object: inside its mask the pixels are red, whatever the background; the border is darker.
    red = next(row for row in CLASSES if row.name == "red square")
    for seed in range(5):
        scene = compose([red], 128, np.random.default_rng(seed))
        inside = scene.picture[scene.masks[0]].astype(np.float64).mean(axis=0)
        outside = scene.picture[~scene.masks[0]].astype(np.float64).mean(axis=0)
        assert inside[0] > 2 * inside[1:].max()
        assert outside[0] < 1.5 * outside[1:].max()


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        ("disc", np.pi * 0.94**2),
        ("square", 2.0),
        ("triangle", 3 * np.sqrt(3) / 4),
        ("hexagon", 3 * np.sqrt(3) / 2),
        ("ring", np.pi * (0.96**2 - 0.48**2)),
        ("horseshoe", np.pi * (0.96**2 - 0.48**2) * 280 / 360),
    ],
)
def test_drawn_areas_are_those_of_plane_geometry(shape: str, area: float) -> None:
    radius = 25.0
    patch = draw_object(shape, "plain", "teal", (40.3, 37.8), radius, np.random.default_rng(3))
    assert patch.coverage.max() <= 1 + 1e-6
    assert patch.coverage.sum() == pytest.approx(area * radius**2, rel=0.04)  # Pillow draws edges a bit generously
    rows, columns = patch.mask(80).nonzero()
    assert np.hypot(columns + 0.5 - 40.3, rows + 0.5 - 37.8).max() <= radius + 1


def test_the_files_are_exhaustively_annotated_lvis_json(tiny: ShapesPaths) -> None:
    for content, folder in _both(tiny):
        assert [row["id"] for row in content["images"]] == list(range(1, len(content["images"]) + 1))
        assert [row["id"] for row in content["annotations"]] == list(range(1, len(content["annotations"]) + 1))
        assert [row["id"] for row in content["categories"]] == list(range(1, 25))
        assert len({row["name"] for row in content["categories"]}) == 24
        present: dict[int, set[int]] = {row["id"]: set() for row in content["images"]}
        for row in content["annotations"]:
            present[row["image_id"]].add(row["category_id"])
        for row in content["images"]:
            assert present[row["id"]]
            assert set(row["neg_category_ids"]) == set(range(1, 25)) - present[row["id"]]
            assert row["not_exhaustive_category_ids"] == []
            with Image.open(folder / row["file_name"]) as picture:
                assert (picture.size, picture.mode) == ((row["width"], row["height"]), "RGB")
        assert len(list(folder.iterdir())) == len(content["images"])


def test_frequency_fields_agree_with_the_training_split(tiny: ShapesPaths) -> None:
    (train, _), (val, _) = _both(tiny)
    assert train["categories"] == val["categories"]
    for category in train["categories"]:
        rows = [row for row in train["annotations"] if row["category_id"] == category["id"]]
        images = len({row["image_id"] for row in rows})
        assert (category["image_count"], category["instance_count"]) == (images, len(rows))
        assert category["frequency"] == ("r" if images <= 10 else "c" if images <= 100 else "f")


def test_the_default_training_set_is_long_tailed_and_the_validation_set_balanced(tmp_path: Path) -> None:
    # Smaller pictures than the default's are quicker to draw; the dealing of classes does not know the size.
    (train, _), (val, _) = _both(shapes_dataset(tmp_path, size=48))
    assert (len(train["images"]), len(val["images"])) == (1000, 240)
    pairs = {(row["image_id"], row["category_id"]) for row in train["annotations"]}
    images = Counter(category for _, category in pairs)
    assert sum(1 <= images[category] <= 10 for category in range(1, 25)) == 8
    assert (min(images.values()), max(images.values())) == (3, 420)
    for first in range(1, 25, 3):  # every family has a frequent, a common and a rare member
        frequent, common, rare = (images[first + member] for member in range(3))
        assert frequent > 100 >= common > 10 >= rare
    for content in (train, val):
        objects = Counter(row["image_id"] for row in content["annotations"])
        assert set(objects.values()) <= {1, 2, 3, 4, 5}
        assert 2.3 <= np.mean(list(objects.values())) <= 2.8
    instances = Counter(row["category_id"] for row in val["annotations"])
    assert min(instances[category] for category in range(1, 25)) >= 25
    assert max(instances.values()) <= 30


@pytest.mark.parametrize(("total", "rare_images"), [(16, (1, 1)), (500, (2, 5)), (1000, (3, 10)), (3000, (9, 10))])
def test_another_size_of_the_training_set_keeps_every_class_and_the_rare_rare(
    total: int, rare_images: tuple[int, int]
) -> None:
    counts = shapes._training_counts(total)
    assert counts.min() >= 1
    rare = counts[[row.images <= 10 for row in CLASSES]]
    assert (rare.min(), rare.max()) == rare_images
    assert counts[[row.images <= 100 for row in CLASSES]].max() <= 100


def test_every_class_is_dealt_to_as_many_images_as_asked_for() -> None:
    counts = np.array([1, 7, 30, 55])
    dealt = deal_classes(counts, 60, np.random.default_rng(5))
    images = Counter(label for labels in dealt for label in set(labels))
    assert [images[label] for label in range(3)] == [1, 7, 30]
    assert 55 <= images[3] <= 60  # the most frequent class also fills the images that would be empty
    assert all(dealt)


def test_members_of_a_family_differ_in_exactly_one_attribute() -> None:
    families: dict[str, list[tuple[str, str, str]]] = {}
    for row in CLASSES:
        families.setdefault(row.family, []).append((row.texture, row.colour, row.shape))
    assert len(families) == 8
    for members in families.values():
        assert len(members) == 3
        assert sorted(len(set(values)) for values in zip(*members, strict=True)) == [1, 1, 3]


def test_no_picture_is_in_both_splits(tiny: ShapesPaths) -> None:
    pixels = []
    for folder in (tiny.train_images, tiny.val_images):
        for path in sorted(folder.iterdir()):
            with Image.open(path) as picture:
                pixels.append(hashlib.sha256(picture.tobytes()).hexdigest())
    assert len(pixels) == 64
    assert len(set(pixels)) == 64


def _generate_at(barrier: object, root: Path) -> None:
    barrier.wait(60)  # type: ignore[attr-defined]
    shapes_dataset(root, **TINY)


def test_two_processes_at_once_write_one_whole_set_of_the_same_bytes(tiny: ShapesPaths, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    processes = [context.Process(target=_generate_at, args=(barrier, tmp_path)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == [tiny.val_images.parent.name]  # nothing is left over
    # ... and they are the bytes that this process wrote for the fixture.
    assert _digests(tmp_path / tiny.val_images.parent.name) == _digests(tiny.val_images.parent)


def test_another_seed_gives_other_pictures(tiny: ShapesPaths, tmp_path: Path) -> None:
    other = shapes_dataset(tmp_path, seed=1, **TINY)
    name = "000001.png"
    assert (other.train_images / name).read_bytes() != (tiny.train_images / name).read_bytes()
    assert other.train_images.parent.name != tiny.train_images.parent.name


def test_a_second_call_writes_nothing_and_a_damaged_folder_is_written_again(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    progress: Callable[[int, int], None] = lambda done, total: calls.append((done, total))  # noqa: E731
    paths = shapes_dataset(tmp_path, progress=progress, **TINY)
    assert calls == [(done, 64) for done in range(1, 65)]
    before = _digests(tmp_path)
    shapes_dataset(tmp_path, progress=progress, **TINY)
    assert len(calls) == 64
    (paths.val_images / "000003.png").unlink()
    shapes_dataset(tmp_path, progress=progress, **TINY)
    assert len(calls) == 128
    assert _digests(tmp_path) == before


def test_an_interrupted_generation_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shapes_dataset(tmp_path, progress=interrupt, **TINY)
    assert list(tmp_path.iterdir()) == []


def test_the_cache_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETLOSS_CACHE", str(tmp_path / "cache"))
    assert shapes_dataset(train_images=16, val_images=16, size=48).train_images.is_relative_to(tmp_path / "cache")


def test_unusable_numbers_and_folders_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="train_images=3 has no room"):
        shapes_dataset(tmp_path, train_images=3)
    with pytest.raises(UserError, match="seed=-1"):
        shapes_dataset(tmp_path, seed=-1)
    with pytest.raises(UserError, match="pictures of 16 pixels"):
        shapes_dataset(tmp_path, size=16)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="set DETLOSS_CACHE") as caught:
        shapes_dataset(tmp_path / "file", **TINY)
    assert "\n" not in str(caught.value)
