"""Run lengths of many masks against those of one by one, and against pycocotools."""

from itertools import accumulate

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from detloss.data.segmentations import segmentation_problem
from detloss.evaluation.packed_masks import BLOCK, PackedMasks, Packing, compressed, total_run_lengths


def totals(texts: list[bytes]) -> list[int]:
    ends = np.array([0, *accumulate(map(len, texts))])
    return total_run_lengths(np.frombuffer(b"".join(texts), dtype=np.uint8), ends).tolist()


def encoded(random: np.random.Generator) -> tuple[bytes, list[int]]:
    size = random.integers(1, 200, 2)
    mask = np.asfortranarray(random.random(size) < random.random() ** 3, dtype=np.uint8)
    if random.random() < 0.5:
        mask[: random.integers(0, size[0] + 1)] = 1
    return coco_mask.encode(mask)["counts"], size.tolist()


def test_whole_masks_cover_their_image() -> None:
    masks = [encoded(np.random.default_rng(seed)) for seed in range(300)]
    assert totals([text for text, _ in masks]) == [height * width for _, (height, width) in masks]
    assert totals([]) == []


def test_the_runs_of_any_text_are_those_of_one_text_alone() -> None:
    # The counterpart reads one text at a time and is what annotation files are checked with.
    random = np.random.default_rng(1)
    texts, sizes = [], []
    for seed in range(600):
        text, size = encoded(np.random.default_rng(seed))
        changed = bytearray(text)
        if seed % 2:
            changed[random.integers(len(changed))] = random.integers(48, 112)
        if seed % 3 == 0:
            del changed[random.integers(len(changed)) :]
        texts.append(bytes(changed))
        sizes.append(size)
    alone = [
        segmentation_problem({"size": size, "counts": text.decode()}, *size) is None
        for text, size in zip(texts, sizes, strict=True)
    ]
    assert 0.1 < np.mean(alone) < 0.9
    packed = PackedMasks.of(texts, np.array(sizes))
    assert (~packed.damaged()).tolist() == alone


@pytest.mark.parametrize(
    ("text", "total"),
    [
        (b"", -1),
        (b"0", 0),
        (b"5", 5),
        (b"55", 10),
        (b"5555", 25),  # 5, 5, 5 and 5 more than the run two before
        (b"M", -1),  # minus 3
        (b"P", -1),  # more should follow
        (b"\x2f", -1),
        (b"\x70", -1),
        (b"oooooo0", 2**30 - 1),  # seven characters
        (b"ooooooo0", -1),
    ],
)
def test_texts_by_hand(text: bytes, total: int) -> None:
    assert totals([b"5", text, b"55"]) == [5, total, 10]


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
