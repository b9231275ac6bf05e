from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from detloss.data.records import Records
from detloss.data.segmentations import Segmentations, pack_segmentations
from detloss.errors import UserError

HEIGHT, WIDTH = 17, 23


def _pack(*segmentations: object) -> Segmentations:
    rows = [{} if value is None else {"segmentation": value} for value in segmentations]
    sides = np.full(len(rows), HEIGHT), np.full(len(rows), WIDTH)
    return pack_segmentations(Records(Path("train.json"), "annotations", rows), np.arange(len(rows)), *sides)


def _random_mask(generator: np.random.Generator, *, density: float) -> np.ndarray:
    return np.asfortranarray(generator.random((HEIGHT, WIDTH)) < density, dtype=np.uint8)


def _uncompressed(mask: np.ndarray) -> list[int]:
    """Run lengths down the columns, background first: the definition, pixel by pixel."""
    runs, value = [0], 0
    for pixel in mask.T.ravel().tolist():
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


@pytest.mark.parametrize("density", [0.0, 0.03, 0.5, 0.97, 1.0])
def test_run_lengths_in_both_forms_give_the_mask_they_encode(density):
    mask = _random_mask(np.random.default_rng(1), density=density)
    compressed = coco_mask.encode(mask)["counts"].decode()
    size = [HEIGHT, WIDTH]
    packed = _pack({"size": size, "counts": compressed}, {"size": size, "counts": _uncompressed(mask)})
    assert np.array_equal(packed.mask(0, HEIGHT, WIDTH), mask)
    assert np.array_equal(packed.mask(1, HEIGHT, WIDTH), mask)


def test_large_run_lengths_are_not_mistaken_for_damage():
    """Runs of a large image take up to five characters and differences may be negative."""
    generator = np.random.default_rng(2)
    height, width = 1200, 1600
    for _ in range(20):
        mask = np.zeros((height, width), dtype=np.uint8, order="F")
        for _ in range(3):
            (top, bottom), (left, right) = (np.sort(generator.integers(0, n, 2)) for n in (height, width))
            mask[top:bottom, left:right] = 1
        segmentation = {"size": [height, width], "counts": coco_mask.encode(mask)["counts"].decode()}
        records = Records(Path("train.json"), "annotations", [{"segmentation": segmentation}])
        packed = pack_segmentations(records, np.arange(1), np.array([height]), np.array([width]))
        assert np.array_equal(packed.mask(0, height, width), mask)


def test_polygons_give_the_mask_that_pycocotools_draws_from_the_json_values():
    """Two decimals as COCO writes them; many fall on the 1/5 pixel grid where a rounding would show."""
    generator = np.random.default_rng(3)
    for _ in range(200):
        polygons = [
            (generator.integers(-100, 2400, 2 * int(generator.integers(3, 7))) / 100).round(2).tolist()
            for _ in range(int(generator.integers(1, 3)))
        ]
        expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, HEIGHT, WIDTH)))
        assert np.array_equal(_pack(polygons).mask(0, HEIGHT, WIDTH), expected)


def test_annotations_keep_their_own_segmentation_and_missing_ones_are_known():
    runs = {"size": [HEIGHT, WIDTH], "counts": [0, HEIGHT, HEIGHT * (WIDTH - 1)]}
    packed = _pack(None, [[1, 1, 6, 1, 6, 6, 1, 6]], [], runs, [[8, 2, 12, 2, 12, 5, 8, 5]])
    assert packed.missing().tolist() == [True, False, True, False, False]
    areas = [packed.mask(row, HEIGHT, WIDTH).sum() for row in (1, 3, 4)]
    assert areas == [25, HEIGHT, 12]


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ("abc", "polygons or run lengths, got str"),
        ([[1, 2, 3, 4]], "three points or more"),  # pycocotools would read a box
        ([[1, 2, 3, 4, 5, 6, 7]], "three points or more"),
        ([1, 2, 3, 4, 5, 6], "three points or more"),
        ([[1, 2, 3, 4, 5, "6"]], "numbers only"),
        ([[1, 2, 3, 4, 5, None]], "numbers only"),
        ([[float("nan"), 2, 3, 4, 5, 6]], "finite"),
        ([[1, 2, 3, 4, float("nan"), 6]], "finite"),
        ([[1, 2, 3, 4, 5, float("inf")]], "finite"),
        ([[1, 2, 3, 4, 5, -1e9]], "finite"),
        ({"counts": [HEIGHT * WIDTH]}, "of size None"),
        ({"size": [WIDTH, HEIGHT], "counts": [HEIGHT * WIDTH]}, r"of size \[23, 17\], the image is \[17, 23\]"),
        ({"size": [HEIGHT, WIDTH]}, "need 'counts'"),
        ({"size": [HEIGHT, WIDTH], "counts": [1, 2]}, "sum up"),
        ({"size": [HEIGHT, WIDTH], "counts": [-1, HEIGHT * WIDTH + 1]}, "sum up"),
        ({"size": [HEIGHT, WIDTH], "counts": ""}, "damaged"),
        ({"size": [HEIGHT, WIDTH], "counts": "12"}, "damaged"),
        ({"size": [HEIGHT, WIDTH], "counts": "ooooooooooooo"}, "damaged"),
        ({"size": [HEIGHT, WIDTH], "counts": "not run lengths"}, "damaged"),
        ({"size": [HEIGHT, WIDTH], "counts": "é"}, "need 'counts'"),
    ],
)
def test_a_damaged_segmentation_names_its_record(segmentation, message):
    with pytest.raises(UserError, match=rf"train\.json: annotations\[1\]: .*{message}"):
        _pack([[1, 1, 6, 1, 6, 6]], segmentation)
