"""A made-up world of images, objects and detections at the level of matches, so that 100,000 images are cheap."""

import numpy as np

from detloss.evaluation.detections import Detections
from detloss.evaluation.ground_truth import Objects
from detloss.evaluation.match_table import THRESHOLDS, MatchTable
from detloss.evaluation.matching import NOTHING
from detloss.evaluation.overlaps import Overlaps


def made_up_objects(random: np.random.Generator, images: int, rates: np.ndarray) -> Objects:
    """Return objects of C classes, Poisson with ``rates`` [C] an image, whose number varies between images too."""
    crowdedness = random.gamma(2.0, 0.5, size=(images, 1))
    image, category = np.nonzero(counts := random.poisson(crowdedness * rates))
    repeats = counts[image, category]
    image, category = np.repeat(image, repeats), np.repeat(category, repeats)
    boxes, none = np.zeros((len(image), 4)), np.zeros(len(image), dtype=bool)
    return Objects(image, category, boxes, np.zeros(len(image)), none, none, np.arange(len(image)), None)


def made_up_table(
    random: np.random.Generator,
    objects: Objects,
    difficulty: np.ndarray,
    clutter: np.ndarray,
    skill: np.ndarray,
    thresholds: np.ndarray = THRESHOLDS,
) -> MatchTable:
    """Return what a detector of a given skill does: each object is found or not, and there are mistakes.

    Args:
        difficulty: [G] of the objects, the same for every detector.
        clutter: [I], how many mistakes an image asks for, the same for every detector.
        skill: [C].
    """
    categories = len(skill)
    ease = skill[objects.category] - difficulty
    found = np.flatnonzero(random.random(len(objects)) < 1 / (1 + np.exp(-1.5 - ease)))
    score = 1 / (1 + np.exp(-0.5 - ease[found] - random.normal(0, 1, len(found))))
    iou = 0.5 + 0.5 * random.beta(np.exp(0.8 + 0.3 * ease[found]), 1.5)
    rates = clutter[:, None] * np.exp(-0.5 * skill) * 1.5
    image, category = np.nonzero(counts := random.poisson(rates))
    repeats = counts[image, category]
    image, category = np.repeat(image, repeats), np.repeat(category, repeats)
    mistaken = 1 / (1 + np.exp(3 - random.normal(0, 1.5, len(image))))
    columns = (
        np.concatenate([objects.image[found], image]),
        np.concatenate([objects.category[found], category]),
        np.concatenate([score, mistaken]),
    )
    number = len(columns[0])
    detections = Detections(*columns, np.zeros((number, 4)), np.zeros(number), np.arange(number), None).ranked()
    overlapping = np.flatnonzero(detections.row < len(found))
    own = detections.row[overlapping]
    overlaps = Overlaps(overlapping, found[own], iou[own])
    chosen = np.where(iou[own] >= thresholds[:, None], np.arange(len(own)), NOTHING)[None]
    mistakes, ignored = np.ones((1, number), dtype=bool), np.zeros((1, len(objects)), dtype=bool)
    counts = np.bincount(objects.category, minlength=categories)[None]
    return MatchTable(detections, categories, counts, mistakes, overlaps, overlapping, chosen, ignored)


def made_up_pair(
    random: np.random.Generator,
    images: int,
    rates: np.ndarray,
    skills: np.ndarray,
    thresholds: np.ndarray = THRESHOLDS,
) -> tuple[Objects, list[MatchTable]]:
    """Return objects and what detectors of ``skills`` [M, C] make of the same images."""
    objects = made_up_objects(random, images, rates)
    difficulty, clutter = random.normal(0, 1, len(objects)), random.gamma(1.0, 1.0, images)
    return objects, [made_up_table(random, objects, difficulty, clutter, skill, thresholds) for skill in skills]
