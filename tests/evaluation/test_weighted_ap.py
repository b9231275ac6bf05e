"""Images that count as often as they were drawn: once, as files with copies, and by a literal bootstrap."""

import copy
from collections.abc import Callable

import numpy as np
import pytest

from detloss.comparison.metrics import Metric, measure, parse_metrics
from detloss.evaluation.average_precision import precision, recall
from detloss.evaluation.bootstrap import image_draws
from detloss.evaluation.coco import evaluate_coco
from detloss.evaluation.detections import read_detections
from detloss.evaluation.ground_truth import read_ground_truth
from detloss.evaluation.lvis import evaluate_lvis
from detloss.evaluation.match_table import MatchTable, Objects, match_table
from detloss.evaluation.matches import matches_of
from detloss.evaluation.olrp import olrp
from detloss.evaluation.rules import counting
from detloss.evaluation.weighted_ap import WeightedAP
from tests.evaluation.conftest import Files, Json, classes_of
from tests.evaluation.official_tools import hard_scene
from tests.reference.bootstrap import average_precision_of_draw, mean_of_classes

Write = Callable[..., Files]
METRICS = parse_metrics("AP,AP50,AP75,AP90,APs,APm,APl,APr,APc,APf,AR,oLRP", ("bbox",))


def table_of(files: Files, evaluator: str, cap: int) -> tuple[MatchTable, Objects]:
    ground_truth = read_ground_truth(files.annotations, masks=False)
    detections = read_detections(ground_truth, files.predictions, masks=False)
    objects, counted, lenient = counting(evaluator, ground_truth, detections, cap)
    return match_table(counted, objects, "bbox", categories=len(ground_truth.names), lenient=lenient), objects


def unlike(rows: list[Json], seed: int) -> list[Json]:
    """Return detections with scores that are all different: the order of equals in copies is the file's."""
    scores = np.random.default_rng(seed).permutation(np.linspace(0.01, 0.99, len(rows)))
    return [{**row, "score": score} for row, score in zip(rows, scores.tolist(), strict=True)]


def copied(scene: Json, rows: list[Json], weights: dict[int, int]) -> tuple[Json, list[Json]]:
    """Return files in which each image is there as often as its weight says, under ids of its own."""
    images, annotations, detections = [], [], []
    for image in sorted(scene["images"], key=lambda each: each["id"]):  # type: ignore[attr-defined]
        for _ in range(weights[image["id"]]):
            new = len(images) + 1
            images.append({**image, "id": new})
            for annotation in scene["annotations"]:  # type: ignore[attr-defined]
                if annotation["image_id"] == image["id"]:
                    annotations.append(copy.deepcopy(annotation) | {"image_id": new, "id": len(annotations) + 1})
            detections += [{**row, "image_id": new} for row in rows if row["image_id"] == image["id"]]
    return scene | {"images": images, "annotations": annotations}, detections


@pytest.mark.parametrize("evaluator", ["coco", "lvis"])
@pytest.mark.parametrize("seed", range(6))
def test_with_every_image_once_it_is_what_the_evaluator_measures(
    write_files: Write, evaluator: str, seed: int
) -> None:
    table, objects = table_of(write_files(*hard_scene(seed, crowds=True)), evaluator, 100)
    once = np.ones((2, 5), dtype=np.int32)
    for area in range(4):
        weighted = WeightedAP.of(table, objects, area=area)
        for ours, theirs in (
            (weighted.average_precision(once), precision(table)[..., area].mean(axis=1)),
            (weighted.recall(once), recall(table)[..., area]),
        ):
            expected = np.where(theirs < 0, np.nan, theirs)
            np.testing.assert_allclose(ours, [expected, expected], rtol=0, atol=1e-12)
    lowest = [np.nan if (error := olrp(each).error) is None else error for each in matches_of(table)]
    np.testing.assert_allclose(WeightedAP.of(table, objects).olrp(once), [lowest, lowest], rtol=0, atol=1e-12)


@pytest.mark.parametrize("evaluator", ["coco", "lvis"])
@pytest.mark.parametrize("seed", range(8))
def test_weights_are_copies_of_images(write_files: Write, evaluator: str, seed: int) -> None:
    scene, rows = hard_scene(seed, crowds=evaluator == "coco")
    rows = unlike(rows, seed)
    table, objects = table_of(write_files(scene, rows), evaluator, 6)
    ids = sorted(image["id"] for image in scene["images"])  # type: ignore[attr-defined]
    weights = np.random.default_rng(seed).permutation([0, 1, 2, 3, 2])
    categories = sorted(scene["categories"], key=lambda each: each["id"])  # type: ignore[attr-defined]
    groups = {each["id"]: each["frequency"] for each in categories}
    sets = {("bbox", area): WeightedAP.of(table, objects, area=area) for area in range(4)}
    ours, by_class = measure(METRICS, sets, list(groups.values()), weights[None].astype(np.int32))

    evaluate = evaluate_coco if evaluator == "coco" else evaluate_lvis
    files = write_files(*copied(scene, rows, dict(zip(ids, weights.tolist(), strict=True))))
    result = evaluate(*files, iou_types=("bbox",), groups=groups, max_detections=6)
    theirs = result.metrics["bbox"] | {"AR": result.metrics["bbox"]["AR6" if evaluator == "coco" else "AR@6"]}
    expected = [np.nan if (value := theirs[metric.name]) is None else value for metric in METRICS]
    np.testing.assert_allclose(ours[0], expected, rtol=0, atol=1e-12)
    expected = [np.nan if (value := row["bbox_AP"]) is None else value for row in result.per_class]
    np.testing.assert_allclose(by_class[0], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("evaluator", ["coco", "lvis"])
def test_draws_are_those_of_a_literal_bootstrap(
    write_files: Write, random_scene: Callable[..., tuple[Json, list[Json]]], evaluator: str
) -> None:
    scene, rows = random_scene(3, crowds=evaluator == "coco")
    rows = unlike(rows, 3)
    table, objects = table_of(write_files(scene, rows), evaluator, 300)
    draws = next(image_draws(12, 30, seed=5, at_once=30))
    sets = {("bbox", 0): WeightedAP.of(table, objects)}
    groups = ["r", "c", "f", "f", "r"]
    ours, _ = measure([Metric("bbox", "AP"), Metric("bbox", "APf")], sets, groups, draws)
    ids = sorted(image["id"] for image in scene["images"])  # type: ignore[attr-defined]
    for weights, (mean, frequent) in zip(draws, ours, strict=True):
        drawn = [ids[i] for i, number in enumerate(weights) for _ in range(number)]
        classes = {
            category: average_precision_of_draw(each.objects, each.found, drawn, each.not_exhaustive)
            for category, each in classes_of(scene, rows, 300 if evaluator == "lvis" else None).items()
        }
        assert mean == pytest.approx(mean_of_classes(classes), rel=0, abs=1e-12)
        of_group = {category: classes[category] for category in (9, 11)}
        assert frequent == pytest.approx(mean_of_classes(of_group), rel=0, abs=1e-12)
