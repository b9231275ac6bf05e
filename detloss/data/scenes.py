"""Compose the pictures of the embedded data set: which classes meet, where they lie, what stays visible."""

from dataclasses import dataclass

import numpy as np

from detloss.data.drawing import Patch, draw_background, draw_object
from detloss.data.shape_classes import ShapeClass

OBJECTS_PER_IMAGE = (0.15, 0.3, 0.35, 0.2)  # probability of 1, 2, 3, 4 objects: 2.6 on average
MEAN_OBJECTS = 2.6
MOST_OBJECTS = 5  # where the classes need more room than was drawn
DIAMETERS = (24.0, 56.0)  # of an object's circle, in pixels of a picture of 128
DEEPEST_OVERLAP = 0.5  # of two circles, in radii of the smaller one
LEAST_VISIBLE = 0.55  # share of an object's pixels that the objects over it leave uncovered


@dataclass(frozen=True)
class Scene:
    """One picture, uint8 [size, size, 3], and the visible part of each object, bool [size, size]."""

    picture: np.ndarray
    masks: list[np.ndarray]


def deal_classes(image_counts: np.ndarray, num_images: int, rng: np.random.Generator) -> list[list[int]]:
    """Return the classes of each image's objects, so that class ``c`` occurs in ``image_counts[c]`` images.

    Images have 1 to 4 objects (5 where there is no other room). Room that is left goes to second objects of a
    class that the image already has; an image left empty gets the most frequent class, beyond its count.
    """
    room = rng.choice([1.0, 2.0, 3.0, 4.0], num_images, p=OBJECTS_PER_IMAGE)
    load = np.zeros(num_images, dtype=np.int64)
    classes: list[list[int]] = [[] for _ in range(num_images)]
    order = np.argsort(image_counts, kind="stable")  # rare classes first: they meet whatever comes later
    for label in order:
        # Weighted sampling without replacement (Efraimidis and Spirakis, 2006), by the room that is left.
        keys = np.log(rng.random(num_images)) / np.maximum(room - load, 1e-3)
        keys[load >= MOST_OBJECTS] = -np.inf
        if label == order[-1]:
            keys[load == 0] = np.inf
        for image in np.argsort(-keys, kind="stable")[: image_counts[label]]:
            classes[image].append(int(label))
            load[image] += 1
    for image in range(num_images):
        if not classes[image]:
            classes[image].append(int(order[-1]))
        elif len(classes[image]) < room[image] and rng.random() < 0.8:
            classes[image].append(int(rng.choice(classes[image])))
    return classes


def compose(appearances: list[ShapeClass], size: int, rng: np.random.Generator) -> Scene:
    """Draw one picture with an object of each appearance, each visible for the greater part."""
    canvas = draw_background(size, rng)
    scale = size / 128
    while True:
        patches = _place(appearances, size, scale, rng)
        masks = _visible(patches, size)
        if all(
            mask.sum() >= LEAST_VISIBLE * (patch.coverage >= 0.5).sum()
            for mask, patch in zip(masks, patches, strict=True)
        ):
            break
        scale *= 0.95  # smaller objects find room in the end
    for patch in patches:
        patch.paste(canvas)
    canvas *= rng.uniform(0.75, 1.15)  # how bright the light is
    canvas += rng.normal(0, rng.uniform(1, 5), canvas.shape[:2])[..., None]  # grain of the camera
    return Scene(np.clip(canvas, 0, 255).astype(np.uint8), masks)


def _place(appearances: list[ShapeClass], size: int, scale: float, rng: np.random.Generator) -> list[Patch]:
    """Draw the objects in circles that overlap a little at most."""
    circles: list[tuple[float, float, float]] = []
    while len(circles) < len(appearances):
        radius = rng.uniform(*DIAMETERS) / 2 * scale
        x, y = rng.uniform(radius + 2, size - radius - 2, 2)
        if all(
            np.hypot(x - other_x, y - other_y) > radius + other - DEEPEST_OVERLAP * min(radius, other)
            for other_x, other_y, other in circles
        ):
            circles.append((x, y, radius))
        else:
            scale *= 0.99
    return [
        draw_object(look.shape, look.texture, look.colour, (x, y), radius, rng)
        for look, (x, y, radius) in zip(appearances, circles, strict=True)
    ]


def _visible(patches: list[Patch], size: int) -> list[np.ndarray]:
    """Return each object's pixels that no later object covers."""
    covered = np.zeros((size, size), dtype=bool)
    masks = []
    for patch in reversed(patches):
        mask = patch.mask(size)
        masks.append(mask & ~covered)
        covered |= mask
    return masks[::-1]
