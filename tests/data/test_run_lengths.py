"""Run lengths of many masks at once against one text at a time, and against pycocotools."""

from itertools import accumulate

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from detloss.data.run_lengths import total_run_lengths
from tests.reference.run_lengths import total_run_length


def totals(texts: list[bytes]) -> list[int]:
    ends = np.array([0, *accumulate(map(len, texts))])
    return total_run_lengths(np.frombuffer(b"".join(texts), dtype=np.uint8), ends).tolist()


def encoded(random: np.random.Generator) -> tuple[bytes, int]:
    size = random.integers(1, 200, 2)
    mask = np.asfortranarray(random.random(size) < random.random() ** 3, dtype=np.uint8)
    if random.random() < 0.5:
        mask[: random.integers(0, size[0] + 1)] = 1
    return coco_mask.encode(mask)["counts"], int(size.prod())


def test_whole_masks_cover_their_image() -> None:
    masks = [encoded(np.random.default_rng(seed)) for seed in range(300)]
    assert totals([text for text, _ in masks]) == [pixels for _, pixels in masks]
    assert totals([]) == []


def test_the_runs_of_any_text_are_those_of_one_text_alone() -> None:
    random = np.random.default_rng(1)
    texts = []
    for seed in range(600):
        changed = bytearray(encoded(np.random.default_rng(seed))[0])
        if seed % 2:
            changed[random.integers(len(changed))] = random.integers(48, 112)
        if seed % 3 == 0:
            del changed[random.integers(len(changed)) :]
        texts.append(bytes(changed))
    alone = [total_run_length(text) for text in texts]
    assert 0.1 < np.mean(np.array(alone) < 0) < 0.9
    assert totals(texts) == alone


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
