"""What the figures of an evaluation show is what was measured, and there is one whatever is missing."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from detloss.evaluation.analysis import Analysis, analyse_all
from detloss.evaluation.coco import evaluate_coco
from detloss.evaluation.error_types import TYPES
from detloss.evaluation.result import Evaluation
from detloss.plots.errors import confusion_of_the_worst, errors_by_group, ranking_and_detection_error
from detloss.plots.evaluation import ap_by_frequency, draw_figures, precision_recall, score_histograms
from detloss.stats import ClassStats
from tests.evaluation.conftest import Files, Json
from tests.evaluation.crowded_scenes import crowded_scene

Write = Callable[..., Files]
BOX = ("bbox",)
GROUPS = {3: "r", 4: "f", 9: "f", 40: "r"}
STATS = ClassStats(("a", "b", "c", "d"), (3, 4, 9, 40), 100, np.array([5, 90, 80, 0]), np.array([5, 60, 50, 0]))


@pytest.fixture
def evaluated(write_files: Write) -> tuple[Evaluation, Analysis]:
    scene = crowded_scene(0, lvis=False)
    evaluation = evaluate_coco(*write_files(scene.ground_truth, scene.rows), iou_types=BOX, groups=GROUPS)
    return evaluation, analyse_all(evaluation)["bbox"]


def labels(figure: Figure) -> str:
    return " ".join(text.get_text() for axes in figure.axes for text in axes.get_legend().get_texts())


def test_curves_and_means_are_those_of_the_metrics(evaluated: tuple[Evaluation, Analysis]) -> None:
    evaluation, analysis = evaluated
    metrics = evaluation.metrics["bbox"]
    curves = precision_recall(analysis).axes[0].get_lines()
    assert len(curves) == 3
    assert curves[0].get_ydata().mean() == pytest.approx(metrics["AP50"], abs=1e-12)
    ap = np.array(
        [np.nan if row["bbox_AP"] is None else row["bbox_AP"] for row in evaluation.per_class], dtype=float
    )
    text = labels(ap_by_frequency(analysis, ap, STATS))
    assert metrics["APf"] is not None and metrics["APr"] is not None
    assert text == f"rare: {100 * metrics['APr']:.1f} frequent: {100 * metrics['APf']:.1f}"


def test_every_class_with_objects_is_a_point_at_its_training_images(
    evaluated: tuple[Evaluation, Analysis],
) -> None:
    _, analysis = evaluated
    axes = ap_by_frequency(analysis, np.array([0.1, 0.2, 0.4, np.nan]), STATS).axes[0]
    points = np.concatenate([each.get_offsets() for each in axes.collections])
    assert sorted(points.tolist()) == [[5, 10], [50, 40], [60, 20]]


def test_histograms_count_hits_and_mistakes(evaluated: tuple[Evaluation, Analysis]) -> None:
    _, analysis = evaluated
    hits, total = int(analysis.outcomes.hits.sum()), len(analysis.outcomes.hits)
    words = labels(score_histograms(analysis)).split()
    shown = [sum(int(n) for n, word in zip(words[::2], words[1::2], strict=True) if word == name)
             for name in ("hits", "mistakes")]  # fmt: skip
    assert shown == [hits, total - hits]


def test_bars_are_the_costs_and_shares_of_the_types(evaluated: tuple[Evaluation, Analysis]) -> None:
    _, analysis = evaluated
    lost, shares = errors_by_group(analysis).axes
    everything = [container[0].get_width() for container in lost.containers]
    assert everything == pytest.approx((100 * np.nanmean(analysis.lost, axis=1)).tolist(), abs=1e-9)
    assert len(everything) == len(TYPES)
    assert sum(container[0].get_width() for container in shares.containers) == pytest.approx(100)


def test_rows_of_the_confusion_matrix_are_all_objects_of_a_class(evaluated: tuple[Evaluation, Analysis]) -> None:
    _, analysis = evaluated
    matrix = confusion_of_the_worst(analysis, STATS).axes[0].images[0].get_array()
    sums = np.asarray(matrix).sum(axis=1)
    assert matrix.shape == (4, 6)
    assert sums.tolist() == pytest.approx([100, 100, 100, 0])  # the last class has no objects


def test_points_lie_between_the_bounds(evaluated: tuple[Evaluation, Analysis]) -> None:
    _, analysis = evaluated
    detection, ranking = ranking_and_detection_error(analysis).axes
    bars = {round(s[0][0], 9): s[:, 1] for each in detection.collections for s in each.get_segments()}
    points = [p for line in detection.get_lines() if line.get_marker() == "o" for p in line.get_xydata()]
    assert len(bars) == len(points) == 3
    assert all(bars[round(x, 9)][0] < y < bars[round(x, 9)][1] for x, y in points)
    dots = [p for line in ranking.get_lines() if line.get_marker() == "o" for p in line.get_xydata()]
    assert len(dots) == 3 and all(y <= x for x, y in dots)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("left_out", ["objects", "detections", "both", "groups"])
def test_whatever_is_missing_there_are_figures(
    write_files: Write, tmp_path: Path, one_object: tuple[Json, list[Json]], left_out: str
) -> None:
    scene, rows = one_object
    if left_out in ("objects", "both"):
        scene["annotations"] = []
    if left_out in ("detections", "both"):
        rows = []
    groups = None if left_out == "groups" else {5: "r"}
    evaluation = evaluate_coco(*write_files(scene, rows), iou_types=BOX, groups=groups)
    stats = ClassStats(("cat",), (5,), 3, np.array([2]), np.array([2]))
    written = draw_figures(tmp_path / "figures", evaluation, analyse_all(evaluation), stats)
    assert sorted(written) == sorted((tmp_path / "figures").iterdir())
    assert len(written) == 14 and all(path.stat().st_size > 1000 for path in written)


@pytest.fixture
def one_object() -> tuple[Json, list[Json]]:
    """One image, one class, one object, found."""
    annotation = {"id": 1, "image_id": 1, "category_id": 5, "bbox": [0, 0, 40, 40], "area": 1600, "iscrowd": 0}
    scene: Json = {
        "images": [{"id": 1, "width": 100, "height": 100, "file_name": "1.png"}],
        "categories": [{"id": 5, "name": "cat"}],
        "annotations": [annotation],
    }
    return scene, [{"image_id": 1, "category_id": 5, "bbox": [0, 0, 40, 40], "score": 0.5}]
