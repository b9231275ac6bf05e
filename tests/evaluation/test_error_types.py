"""Types of errors, their cost and confusions: against literal loops, by hand, and against tidecv's numbers."""

from collections.abc import Callable

import numpy as np
import pytest

from detloss.evaluation.analysis import Analysis, analyse_all
from detloss.evaluation.coco import evaluate_coco
from detloss.evaluation.error_types import TYPES
from detloss.evaluation.lvis import evaluate_lvis
from tests.evaluation.conftest import Files, Json
from tests.evaluation.crowded_scenes import CATEGORIES, crowded_scene
from tests.reference import error_types as reference

Write = Callable[..., Files]
BOX = ("bbox",)


def analysis_of(write_files: Write, ground_truth: Json, rows: list[Json], *, lvis: bool = False) -> Analysis:
    evaluate = evaluate_lvis if lvis else evaluate_coco
    return analyse_all(evaluate(*write_files(ground_truth, rows), iou_types=BOX))["bbox"]


def scene_of_cats_and_dogs(rows: list[tuple[str, list[float], float]]) -> tuple[Json, list[Json]]:
    """A cat at the upper left, a dog at the upper right, a cat and a dog below them, each of 40 x 40."""
    places = [("cat", 0, 0), ("dog", 50, 0), ("cat", 0, 50), ("dog", 50, 50)]
    ids = {"cat": 1, "dog": 2}
    lists = {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    scene: Json = {
        "images": [{"id": 1, "width": 100, "height": 100, "file_name": "1.png"} | lists],
        "categories": [{"id": number, "name": name, "frequency": "r"} for name, number in ids.items()],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": ids[name], "bbox": [x, y, 40, 40], "area": 1600, "iscrowd": 0}
            for i, (name, x, y) in enumerate(places, start=1)
        ],
    }
    return scene, [{"image_id": 1, "category_id": ids[name], "bbox": b, "score": s} for name, b, s in rows]


ONE_OF_EACH = [
    ("cat", [0, 0, 40, 40], 0.9),
    ("cat", [0, 0, 40, 38], 0.8),  # the same cat again
    ("cat", [50, 0, 40, 40], 0.7),  # the dog beside it
    ("cat", [0, 50, 40, 16], 0.6),  # IoU 0.4 with the other cat
    ("cat", [50, 50, 40, 16], 0.5),  # IoU 0.4 with the other dog
    ("dog", [92, 92, 6, 6], 0.4),
]


def test_one_error_of_each_type_and_its_cost_by_hand(write_files: Write) -> None:
    analysis = analysis_of(write_files, *scene_of_cats_and_dogs(ONE_OF_EACH))
    # A dog taken for a cat is an error of the class of dogs.
    expected = {"localisation": [1, 0], "classification": [0, 1], "duplicate": [1, 0]}
    expected |= {"background": [0, 1], "both": [1, 0], "missed": [0, 1]}
    assert dict(zip(TYPES, analysis.errors.tolist(), strict=True)) == expected
    # The cat that is placed better is the second hit at rank 4: 50 of the 101 recalls get 1/2. The dog that is
    # named correctly is the first hit of its class, of two: 51 recalls get 1. Other mistakes are below the hits.
    lost = dict(zip(TYPES, analysis.lost, strict=True))
    assert lost.pop("localisation") == pytest.approx([25 / 101, 0], abs=1e-12)
    assert lost.pop("classification") == pytest.approx([0, 51 / 101], abs=1e-12)
    assert all(values == pytest.approx([0, 0], abs=1e-12) for values in lost.values())


@pytest.mark.parametrize(
    ("rows", "kind", "category", "lost"),
    [
        # Between two hits: without it 50 of 101 recalls get 1 in place of 2/3.
        ([("cat", [0, 0, 40, 40], 0.9), ("cat", [0, 0, 40, 39], 0.8), ("cat", [0, 50, 40, 40], 0.7)],
         "duplicate", 0, (1 - 2 / 3) * 50 / 101),
        # Above a hit: without it 51 recalls get 1 in place of 1/2.
        ([("cat", [92, 92, 6, 6], 0.9), ("cat", [0, 0, 40, 40], 0.8)], "background", 0, 51 / 101 / 2),
        ([("cat", [50, 0, 40, 16], 0.9), ("cat", [0, 0, 40, 40], 0.8)], "both", 0, 51 / 101 / 2),
        # One of two cats was found; without the other all are.
        ([("cat", [0, 0, 40, 40], 0.8)], "missed", 0, 50 / 101),
        # No dog was found: nothing is left to find.
        ([("cat", [0, 0, 40, 40], 0.8)], "missed", 1, 1),
        # IoU exactly 0.1 with the cat below: its place is wrong; exactly 0.5 with a dog: its class.
        ([("cat", [0, 50, 40, 4], 0.5)], "localisation", 0, 51 / 101),
        ([("cat", [50, 0, 40, 20], 0.5)], "classification", 1, 51 / 101),
    ],
)  # fmt: skip
def test_the_cost_of_a_type_by_hand(
    write_files: Write, rows: list[tuple[str, list[float], float]], kind: str, category: int, lost: float
) -> None:
    analysis = analysis_of(write_files, *scene_of_cats_and_dogs(rows))
    assert analysis.lost[TYPES.index(kind), category] == pytest.approx(lost, abs=1e-12)


@pytest.mark.parametrize(
    ("scores", "first", "best"),
    [((0.9, 0.8), 0, "localisation"), ((0.8, 0.9), 0, "classification"),
     ((0.9, 0.9), 0, "localisation"), ((0.9, 0.9), 1, "classification")],
)  # fmt: skip
def test_of_several_errors_about_an_object_only_the_best_becomes_a_hit(
    write_files: Write, scores: tuple[float, float], first: int, best: str
) -> None:
    # Both are about one dog; to put the other right only takes it away. Of equals the first in the file counts.
    rows = [("dog", [50, 0, 40, 16], scores[0]), ("cat", [50, 0, 40, 40], scores[1])]
    analysis = analysis_of(write_files, *scene_of_cats_and_dogs(rows[::-1] if first else rows))
    for kind in ("localisation", "classification"):
        assert analysis.lost[TYPES.index(kind), 1] == pytest.approx(51 / 101 if kind == best else 0)


@pytest.mark.parametrize("lvis", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_types_costs_and_confusions_are_those_of_literal_loops(write_files: Write, seed: int, lvis: bool) -> None:
    scene = crowded_scene(seed, lvis=lvis)
    analysis = analysis_of(write_files, scene.ground_truth, scene.rows, lvis=lvis)
    objects, detections = scene.objects, scene.detections
    found = reference.matched(objects, detections, scene.lenient)
    errors, missed = reference.errors_of(objects, detections, found)
    counts = np.zeros((len(TYPES), len(CATEGORIES)), dtype=int)
    for index, error in errors.items():
        blamed = objects[error.about] if error.kind == "classification" else detections[index]
        counts[TYPES.index(error.kind), CATEGORIES.index(blamed.category)] += 1
    for number in missed:
        counts[TYPES.index("missed"), CATEGORIES.index(objects[number].category)] += 1
    assert analysis.errors.tolist() == counts.tolist()
    for place, category in enumerate(CATEGORIES):
        before = reference.ap50_without(None, objects, detections, found, category)
        for kind, lost in zip(TYPES, analysis.lost[:, place], strict=True):
            after = reference.ap50_without(kind, objects, detections, found, category)
            assert lost == pytest.approx(np.nan if before is None else after - before, abs=1e-12, nan_ok=True)
    pairs = zip(analysis.confusion.object_class.tolist(), analysis.confusion.detection_class.tolist(), strict=True)
    named = [tuple(None if c == len(CATEGORIES) else CATEGORIES[c] for c in pair) for pair in pairs]
    ours = dict(zip(named, analysis.confusion.counts.tolist(), strict=True))
    assert ours == reference.confusions(objects, detections, found)


@pytest.mark.parametrize(
    ("seed", "counts", "lost"),
    [
        (0, [9, 6, 7, 19, 5, 1], [0.106553512, 0.088682769, 0.004821911, 0.020366322, 0.224132303, 0.003771806]),
        (3, [20, 4, 2, 18, 4, 9], [0.272334739, 0.007771378, 0.003423324, 0.0413745, 0.003423324, 0.036284136]),
        (5, [17, 6, 5, 12, 5, 3], [0.15800094, 0.055518937, 0.011532344, 0.0781828, 0.012297658, 0.025817225]),
    ],
)
def test_counts_and_costs_are_those_of_tidecv(
    write_files: Write, seed: int, counts: list[int], lost: list[float]
) -> None:
    """Numbers of tidecv 1.0.1, ``TIDE().evaluate`` and ``fix_main_errors(progressive=False)``, in mode BOX."""
    scene = crowded_scene(seed, lvis=True)
    rows = [row | {"score": (place * 37 % 211 + 1) / 212} for place, row in enumerate(scene.rows)]  # no two alike
    rows = [row for row in rows if row["category_id"] != 40]  # tidecv averages over classes without objects, too
    analysis = analysis_of(write_files, scene.ground_truth, rows)
    assert analysis.errors.sum(axis=1).tolist() == counts
    assert np.nanmean(analysis.lost, axis=1) == pytest.approx(lost, abs=1e-8)


def test_the_crowded_scenes_have_errors_of_every_type() -> None:
    kinds: set[str] = set()
    for seed in range(8):
        scene = crowded_scene(seed, lvis=True)
        found = reference.matched(scene.objects, scene.detections, scene.lenient)
        errors, missed = reference.errors_of(scene.objects, scene.detections, found)
        kinds |= {error.kind for error in errors.values()} | ({"missed"} if missed else set())
    assert kinds == set(TYPES)


def test_the_worst_confusions_are_the_most_frequent_and_a_matrix_adds_up(write_files: Write) -> None:
    rows = [("cat", [50, 0, 40, 40], 0.9), ("dog", [50, 0, 40, 40], 0.8), ("cat", [50, 50, 40, 40], 0.7)]
    analysis = analysis_of(
        write_files, *scene_of_cats_and_dogs([*rows, ("dog", [0, 0, 40, 40], 0.2), ("dog", [92, 92, 6, 6], 0.1)])
    )
    # Nothing is on the second cat, and only the detection of a small dog is on nothing.
    assert (analysis.confusion.undetected, analysis.confusion.on_background) == (1, 1)
    worst = analysis.confusion.worst(1)
    assert (worst.object_class.tolist(), worst.detection_class.tolist(), worst.counts.tolist()) == ([1], [0], [2])
    # Rows cat and dog; as cat, as dog, as another class, not at all.
    assert analysis.confusion.matrix(np.array([0, 1])).tolist() == [[0, 1, 0, 1], [2, 0, 0, 0]]
    assert analysis.confusion.matrix(np.array([1])).tolist() == [[0, 2, 0]]


def test_detections_that_lvis_ignores_are_no_errors(write_files: Write) -> None:
    rows = [("cat", [92, 92, 6, 6], 0.9), ("dog", [92, 92, 6, 6], 0.8)]
    scene, found = scene_of_cats_and_dogs(rows)
    scene["images"][0]["not_exhaustive_category_ids"] = [1]  # type: ignore[index]
    scene["categories"].append({"id": 3, "name": "elk", "frequency": "c"})  # type: ignore[attr-defined]
    elk: Json = {"image_id": 1, "category_id": 3, "bbox": [0, 0, 40, 40], "score": 0.99}  # nobody looked for elks
    analysis = analysis_of(write_files, scene, [*found, elk], lvis=True)
    assert analysis.errors[TYPES.index("background")].tolist() == [0, 1, 0]
    assert analysis.errors.sum() == 1 + 4  # and the four that are missed
