"""Masks in one array, with damaged ones found, and against pycocotools."""

import numpy as np
from pycocotools import mask as coco_mask

from detloss.evaluation.packed_masks import BLOCK, Packing, compressed


def encoded(random: np.random.Generator) -> tuple[bytes, list[int]]:
    size = random.integers(1, 200, 2)
    mask = np.asfortranarray(random.random(size) < random.random() ** 3, dtype=np.uint8)
    if random.random() < 0.5:
        mask[: random.integers(0, size[0] + 1)] = 1
    return coco_mask.encode(mask)["counts"], size.tolist()


def test_masks_of_several_blocks_keep_their_own_text() -> None:
    text, size = encoded(np.random.default_rng(0))
    number = 2 * BLOCK // len(text)
    texts = [text] * number
    texts[number // 2] = b"0"
    packing = Packing()
    for start in range(0, number, 1000):
        some = texts[start : start + 1000]
        packing.add(some, np.tile(size, (len(some), 1)))
    packed = packing.packed()
    assert len(packed) == number and np.flatnonzero(packed.damaged()).tolist() == [number // 2]
    assert packed.rle(number - 1) == {"size": size, "counts": text}


def test_polygons_and_plain_run_lengths_are_compressed_as_by_pycocotools() -> None:
    mask = np.zeros((9, 7), dtype=np.uint8, order="F")
    mask[2:6, 1:4] = 1
    text = coco_mask.encode(mask)["counts"]
    runs = np.flatnonzero(np.diff(mask.ravel(order="F"), prepend=0, append=2))
    counts = np.diff(runs, prepend=0).tolist()
    for segmentation in (
        [[1.0, 2.0, 4.0, 2.0, 4.0, 6.0, 1.0, 6.0]],
        {"size": [9, 7], "counts": counts},
        {"size": [9, 7], "counts": text.decode()},
    ):
        assert compressed(segmentation, 9, 7) == text
