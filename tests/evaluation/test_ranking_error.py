"""R_c, probabilistic AP and the bounds of Theorems 2 and 3 (ECM, ECCV 2022)."""

from collections.abc import Callable

import numpy as np
import pytest

from detloss.evaluation.analysis import analyse_all
from detloss.evaluation.coco import evaluate_coco
from detloss.evaluation.ranking_error import detection_error_bounds, probabilistic_ap, ranking_errors
from tests.evaluation.conftest import Files, Json
from tests.evaluation.crowded_scenes import CATEGORIES, crowded_scene
from tests.reference import error_types as reference

Write = Callable[..., Files]
BOX = ("bbox",)


def integral(alpha: float, above: Callable[[np.ndarray], np.ndarray]) -> float:
    """Return ap of Definition 1 for g(beta), by the midpoint rule."""
    beta = (np.arange(1_000_000) + 0.5) / 1_000_000
    return float((beta / (beta + alpha * above(beta))).mean())


@pytest.mark.parametrize("seed", range(4))
def test_ranking_errors_are_those_of_all_pairs_and_of_the_definitions_integral(
    write_files: Write, seed: int
) -> None:
    scene = crowded_scene(seed, lvis=False)
    evaluation = evaluate_coco(*write_files(scene.ground_truth, scene.rows), iou_types=BOX)
    errors = ranking_errors(evaluation.outcomes["bbox"])
    found = reference.matched(scene.objects, scene.detections, scene.lenient)
    for place, category in enumerate(CATEGORIES):
        expected = reference.ranking_error(scene.objects, scene.detections, found, category)
        ours = errors.ranking[place], errors.detection[place], errors.binary[place]
        if expected is None:
            assert np.isnan(ours).all()
            continue
        assert (ours[0], ours[2]) == pytest.approx((expected[0], expected[2]), abs=1e-12)
        assert ours[1] == pytest.approx(expected[1], abs=1e-4)  # the steps of the integral
        assert errors.lowest[place] - 1e-12 <= ours[1] <= errors.highest[place] + 1e-12
        assert ours[0] <= ours[2]


def test_a_ranking_by_hand(write_files: Write, one_class: Json) -> None:
    # One cat is found below one of two mistakes, the other is not found: of four pairs three are the wrong way.
    boxes = [(1, [60, 60, 20, 20], 0.9), (1, [0, 0, 40, 40], 0.8), (1, [60, 10, 20, 20], 0.3)]
    rows: list[Json] = [{"image_id": i, "category_id": 5, "bbox": box, "score": s} for i, box, s in boxes]
    evaluation = evaluate_coco(*write_files(one_class, rows), iou_types=BOX)
    errors = ranking_errors(evaluation.outcomes["bbox"])
    assert (errors.ratio[0], errors.ranking[0]) == (1, 3 / 4)
    # To a recall of 1/2: beta / (beta + 1/2); then beta / (beta + 1).
    first, second = 1 / 2 - np.log(2) / 2, 1 / 2 - np.log(2 / 1.5)
    assert errors.detection[0] == pytest.approx(1 - first - second, abs=1e-12)
    # The best threshold keeps the first two: an object of two is below it, a mistake of two above.
    assert errors.binary[0] == 1


def test_the_bounds_hold_for_any_ranking_and_the_papers_misprint_does_not() -> None:
    random, misprint_held = np.random.default_rng(0), True
    for _ in range(500):
        objects, mistakes = random.integers(1, 30, 2)
        above = np.sort(np.round(mistakes * random.random(objects) ** random.uniform(0.2, 8))).astype(int)
        alpha, ranking = np.array([mistakes / objects]), np.array([above.mean() / mistakes])
        lowest, highest = detection_error_bounds(alpha, ranking)
        error = 1 - probabilistic_ap(above)
        assert lowest[0] - 1e-12 <= error <= highest[0] + 1e-12
        misprint_held &= bool(error <= np.sqrt(2 / 3) * alpha[0] * ranking[0] + 1e-12)
    assert not misprint_held


@pytest.mark.parametrize("alpha", [0.2, 1.0, 30.0])
@pytest.mark.parametrize("ranking", [0.002, 0.02, 0.6])
def test_the_bounds_are_reached_by_the_extremal_rankings_of_the_proof(alpha: float, ranking: float) -> None:
    lowest, highest = detection_error_bounds(np.array([alpha]), np.array([ranking]))
    best = integral(alpha, lambda beta: (beta >= 1 - ranking).astype(float))  # Lemma 2
    assert lowest[0] == pytest.approx(1 - best, abs=1e-5)

    # Lemma 1: alpha g = max(0, sqrt(beta) c - beta), where c is such that g integrates to R_c.
    def worst(beta: np.ndarray) -> np.ndarray:
        product = alpha * ranking
        scale = 1.5 * (product + 0.5) if product >= 1 / 6 else (6 * product) ** 0.25
        return np.maximum(0, np.sqrt(beta) * scale - beta) / alpha

    assert float(worst((np.arange(10**6) + 0.5) / 10**6).mean()) == pytest.approx(ranking, rel=1e-4)
    assert highest[0] == pytest.approx(1 - integral(alpha, worst), abs=1e-4)


def test_a_class_without_objects_or_without_mistakes_has_no_ranking_error(
    write_files: Write, one_class: Json
) -> None:
    one_class["categories"].append({"id": 6, "name": "dog"})  # type: ignore[attr-defined]
    rows: list[Json] = [
        {"image_id": 1, "category_id": 5, "bbox": [0, 0, 40, 40], "score": 0.9},
        {"image_id": 1, "category_id": 6, "bbox": [0, 0, 40, 40], "score": 0.9},
    ]
    analysis = analyse_all(evaluate_coco(*write_files(one_class, rows), iou_types=BOX))["bbox"]
    assert np.isnan(analysis.ranking.ranking).all() and np.isnan(analysis.ranking.highest).all()
