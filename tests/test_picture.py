"""Pictures: what is drawn is where the numbers say, in its class's colour."""

import numpy as np
from PIL import Image

from detloss.picture import OPACITY, Objects, class_color, draw_objects, side_by_side

NAMES = ("cat", "dog", "owl")


def black(height: int = 40, width: int = 60) -> np.ndarray:
    return np.zeros((height, width, 3), dtype=np.uint8)


def objects(*boxes: list[float], **columns: np.ndarray) -> Objects:
    return Objects(np.array(boxes, dtype=np.float32).reshape(-1, 4), np.arange(len(boxes)), **columns)


def test_a_small_image_is_enlarged_and_its_boxes_with_it() -> None:
    # 60 pixels become 480, and so a corner at (20, 30) goes to (160, 240).
    picture = draw_objects(black(), objects([20, 30, 50, 39]), NAMES)
    assert picture.size == (480, 320)
    pixels = np.array(picture)
    edge = (pixels == class_color(0)).all(axis=-1)
    assert edge[260, 160] and edge[240, 300] and edge[312, 300] and edge[260, 400]
    assert not edge[260, 158] and not edge[275, 300] and not edge[315, 300]


def test_a_large_image_keeps_its_size() -> None:
    assert draw_objects(black(500, 700), objects(), NAMES).size == (700, 500)


def test_masks_are_translucent_and_their_edges_solid() -> None:
    mask = np.zeros((1, 480, 480), dtype=bool)
    mask[0, 100:200, 100:300] = True
    image = np.full((480, 480, 3), 100, dtype=np.uint8)
    pixels = np.array(draw_objects(image, objects([50, 50, 400, 400], masks=mask), NAMES))
    blended = (1 - OPACITY) * 100 + OPACITY * np.array(class_color(0))
    assert np.abs(pixels[150, 200] - blended).max() < 1
    assert tuple(pixels[100, 200]) == class_color(0) == tuple(pixels[150, 299])
    assert tuple(pixels[99, 200]) == (100, 100, 100) == tuple(pixels[150, 300])


def test_names_of_equal_boxes_do_not_cover_each_other() -> None:
    box = [100.0, 100.0, 300.0, 300.0]
    equal = objects(box, box, box, scores=np.array([0.9, 0.5, 0.7]))
    pixels = np.array(draw_objects(black(480, 480), equal, NAMES))
    # A label is at least 16 pixels high, and longer than it is high; a box's edges are 2 pixels wide.
    for index in range(3):
        rows = (pixels == class_color(index)).all(axis=-1).sum(axis=1)
        assert ((rows > 16) & (rows < 150)).sum() >= 12


def test_boxes_that_leave_the_image_are_cut() -> None:
    picture = draw_objects(black(), objects([-10, -10, 90, 90], [59.9, 39.9, 60, 40]), NAMES)
    assert picture.size == (480, 320)
    assert tuple(np.array(picture)[300, 0]) == class_color(0)


def test_colours_of_a_hundred_classes_differ() -> None:
    assert len({class_color(index) for index in range(100)}) == 100


def test_pictures_side_by_side_keep_their_pixels() -> None:
    first, second = Image.new("RGB", (50, 30), "red"), Image.new("RGB", (50, 30), "blue")
    pixels = np.array(side_by_side([first, second], ["a", "b"]))
    assert tuple(pixels[-1, 0]) == (255, 0, 0) and tuple(pixels[-1, -1]) == (0, 0, 255)
    assert ((pixels == (255, 0, 0)).all(axis=-1).sum(), (pixels == (0, 0, 255)).all(axis=-1).sum()) == (1500, 1500)


def test_letters_can_be_larger_for_a_picture_that_is_shown_small() -> None:
    small, large = (
        np.array(draw_objects(black(480, 480), objects([20, 90, 400, 400]), NAMES, letters=letters))
        for letters in (1 / 45, 1 / 15)
    )
    inked = [(np.any(each, axis=2)[:85]).sum() for each in (small, large)]  # the name above the box
    assert inked[1] > 2 * inked[0]
