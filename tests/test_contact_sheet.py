"""What became of objects, worked by hand, and the sheet that shows it."""

import numpy as np
import pytest

from detloss.contact_sheet import SHOWN, SIDE, Cell, cells_of, contact_sheet, most_telling, outcomes
from detloss.picture import Objects

LEFT, SHIFTED, RIGHT, FAR = [0, 0, 10, 10], [0, 0, 10, 8], [20, 0, 30, 10], [40, 40, 50, 50]


def objects(*rows: tuple[list[int], int, float]) -> Objects:
    return Objects(
        np.array([row[0] for row in rows], dtype=np.float32).reshape(-1, 4),
        np.array([row[1] for row in rows], dtype=np.int64),
        np.array([row[2] for row in rows]),
    )


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], [("miss", None), ("miss", None)]),
        ([(LEFT, 0, 0.9), (RIGHT, 1, 0.8)], [("hit", 0), ("hit", 1)]),
        (
            [(SHIFTED, 0, 0.9), (LEFT, 0, 0.8), (FAR, 1, 0.7)],
            [("hit", 0), ("miss", None)],
        ),  # the best chooses first
        ([(LEFT, 1, 0.3), (SHIFTED, 2, 0.9)], [("confusion", 1), ("miss", None)]),
        ([(LEFT, 1, 0.3), (LEFT, 0, 0.1)], [("hit", 1), ("miss", None)]),  # of the right class, if less sure
        ([([0, 0, 10, 5], 0, 0.9)], [("hit", 0), ("miss", None)]),  # an IoU of exactly 0.5
        ([([0, 0, 10, 4], 0, 0.9)], [("miss", None), ("miss", None)]),
    ],
)
def test_an_object_is_hit_confused_or_missed(found: list, expected: list) -> None:
    truth = objects((LEFT, 0, 1), (RIGHT, 1, 1))
    assert outcomes(truth, objects(*found)) == expected


def test_what_hits_one_object_is_not_what_another_is_confused_with() -> None:
    truth = objects((LEFT, 0, 1), (LEFT, 1, 1))
    assert outcomes(truth, objects((LEFT, 0, 0.9))) == [("hit", 0), ("miss", None)]
    assert outcomes(truth, objects((LEFT, 0, 0.9), (LEFT, 2, 0.1))) == [("hit", 0), ("confusion", 1)]


def test_cells_say_what_was_found_and_show_the_object() -> None:
    image = np.zeros((60, 60, 3), dtype=np.uint8)
    image[0:10, 20:30] = (0, 200, 0)
    truth = objects((RIGHT, 1, 1), (LEFT, 0, 1), (FAR, 0, 1))
    cells = cells_of(image, truth, objects((RIGHT, 0, 0.25), (LEFT, 0, 0.5)), ["cat", "dog"], ["r", "f"])
    assert [(cell.outcome, cell.group, cell.caption) for cell in cells] == [
        ("confusion", "f", "dog, taken for\n0.25 cat"),
        ("hit", "r", "0.50 cat"),
        ("miss", "r", "cat"),
    ]
    crop = np.asarray(cells[0].crop)
    assert crop.shape == (SIDE, SIDE, 3) and crop[SIDE // 2, SIDE // 2].tolist() == [0, 200, 0]


def test_the_sheet_keeps_what_weighs_most_and_may_be_empty() -> None:
    image, truth = np.zeros((60, 60, 3), dtype=np.uint8), objects((LEFT, 0, 1))
    cells: list[Cell] = []
    for number in range(SHOWN + 3):
        cells = most_telling(cells + cells_of(image, truth, objects((LEFT, 0, number / 10)), ["cat"], ["c"]))
    assert [cell.weight for cell in cells] == [number / 10 for number in range(SHOWN + 2, 2, -1)]
    assert contact_sheet(cells).width - contact_sheet(cells[:1]).width == (SHOWN - 1) * (SIDE + 8)
    assert contact_sheet([]).width > 0
