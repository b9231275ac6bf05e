"""What W&B is shown is what the objects say, class by class and pixel by pixel."""

import numpy as np
import pytest

from detloss.evaluation.detections import Detections
from detloss.evaluation.ground_truth import Objects as Truth
from detloss.evaluation.outcomes import Outcomes
from detloss.evaluation.result import Evaluation
from detloss.gradients import ClassGradients
from detloss.picture import Objects
from detloss.plots.balance import Balance
from detloss.stats import ClassStats
from detloss.stats_table import Column, StatsTable
from detloss.wandb_media import (
    balance_table,
    class_table,
    mask_codes,
    mask_labels,
    precision_recall_charts,
    ratio_chart,
)

NAMES = ("rare thing", "frequent thing", "common thing")
GROUPS = ("r", "f", "c")
IMAGES = np.array([3, 300, 40])


def balance(windows: list[ClassGradients], names: tuple[str, ...] = NAMES) -> Balance:
    groups, images = (GROUPS, IMAGES) if names is NAMES else (("f",) * len(names), np.arange(len(names)))
    return Balance(
        [10 * (index + 1) for index in range(len(windows))], windows, names, groups, images, None, "a run"
    )


def window(own: list[float], others: list[float], background: list[float]) -> ClassGradients:
    return ClassGradients(np.array(own), np.array(others), np.array(background))


WINDOWS = [
    window([1.0, 8.0, 0.0], [2.0, 1.0, 1.0], [2.0, 1.0, 3.0]),
    window([0.0, 4.0, 2.0], [1.0, 1.0, 0.5], [1.0, 1.0, 0.5]),
]


def test_the_class_table_has_a_row_for_each_class_by_images_and_the_background_last() -> None:
    stats = ClassStats(NAMES, (1, 2, 3), 400, IMAGES * 2, IMAGES)
    margin = Column("ecm.gamma_plus", "gamma+", ".4f", np.array([0.9, 0.1, 0.5]), background=0.01)
    table = class_table(StatsTable.make(stats, [margin], thresholds=(10, 100)))
    assert table.columns == ["class", "group", "images", "instances", "ecm.gamma_plus"]
    assert table.data == [
        ["frequent thing", "f", 300, 600, 0.1],
        ["common thing", "c", 40, 80, 0.5],
        ["rare thing", "r", 3, 6, 0.9],
        ["background", "", None, None, 0.01],
    ]


def test_the_table_of_gradients_has_a_row_for_each_class_and_time_and_no_ratio_without_positives() -> None:
    table = balance_table(balance(WINDOWS))
    assert table.columns == ["step", "class", "group", "own", "others", "background", "ratio"]
    assert table.data == [
        [10, "frequent thing", "f", 8.0, 1.0, 1.0, 0.25],
        [10, "common thing", "c", 0.0, 1.0, 3.0, None],
        [10, "rare thing", "r", 1.0, 2.0, 2.0, 4.0],
        [20, "frequent thing", "f", 4.0, 1.0, 1.0, 0.5],
        [20, "common thing", "c", 2.0, 0.5, 0.5, 0.5],
        [20, "rare thing", "r", 0.0, 1.0, 1.0, None],
    ]


def test_as_many_classes_as_lvis_has_fit_into_the_rows_that_wandb_keeps_and_their_sums_stay_whole() -> None:
    generator = np.random.default_rng(0)
    windows = [ClassGradients(*generator.random((3, 1203))) for _ in range(200)]
    table = balance_table(balance(windows, tuple(f"class {index}" for index in range(1203))))
    assert 1203 < len(table.data) <= 10_000
    assert len({row[0] for row in table.data}) * 1203 == len(table.data)
    assert table.data[-1][0] == 2000
    own = sum(row[3] for row in table.data if row[1] == "class 7")
    assert own == pytest.approx(sum(each.own[7] for each in windows))


def test_the_chart_of_ratios_has_a_line_for_each_group_that_skips_times_without_positives() -> None:
    chart = ratio_chart(balance(WINDOWS))
    assert chart is not None
    lines = {
        name: [(step, value) for step, own, value in chart.table.data if own == name]
        for name in ("rare", "common", "frequent", "all classes")
    }
    assert lines["rare"] == [(10, 4.0)]
    assert lines["common"] == [(20, 0.5)]
    assert lines["frequent"] == [(10, 0.25), (20, 0.5)]
    assert lines["all classes"] == [(10, 10 / 9), (20, 5 / 6)]
    nothing = window([0.0] * 3, [1.0] * 3, [1.0] * 3)
    assert ratio_chart(balance([nothing])) is None


def test_precision_over_recall_is_the_mean_of_the_classes_with_objects() -> None:
    # Class 0: hit, mistake, hit of two objects. Class 1: a mistake, then a hit of one. Class 2: no object.
    category, found = np.array([0, 0, 0, 1, 1, 2]), np.array([0, -1, 1, -1, 2, -1])
    detections = Detections(
        np.zeros(6, int), category, np.linspace(0.9, 0.4, 6), np.zeros((6, 4)), np.zeros(6), np.arange(6), None
    )
    no = np.zeros(3, dtype=bool)
    objects = Truth(no * 0, np.array([0, 0, 1]), np.zeros((3, 4)), np.zeros(3), no, no, np.arange(3), None)
    outcomes = Outcomes(detections, objects, found, 3)
    rows = tuple({"group": group} for group in ("f", "r", "r"))
    charts = precision_recall_charts(Evaluation({}, rows, outcomes={"bbox": outcomes}))
    assert list(charts) == ["bbox/precision_recall"]
    data = charts["bbox/precision_recall"].table.data
    first = [1.0] * 51 + [2 / 3] * 50  # recalls 0 to 0.5, and above
    lines = {name: [value for _, own, value in data if own == name] for name in ("frequent", "rare", "all")}
    np.testing.assert_allclose(lines["frequent"], first)
    np.testing.assert_allclose(lines["rare"], [0.5] * 101)
    np.testing.assert_allclose(lines["all"], [(value + 0.5) / 2 for value in first])
    assert [step for step, own, _ in data if own == "rare"] == pytest.approx([index / 100 for index in range(101)])


def test_classes_of_the_truth_keep_their_number_in_masks_whatever_else_is_found() -> None:
    truths = [Objects(np.zeros((2, 4)), np.array([700, 3])), Objects(np.zeros((1, 4)), np.array([3]))]
    names = [f"class {index}" for index in range(1203)]
    codes = mask_codes(truths, 1203)
    assert (codes[3], codes[700], codes[4], codes[1202]) == (1, 2, 3, 3)
    assert mask_labels(codes, names) == {1: "class 3", 2: "class 700", 3: "another class"}
    everything = mask_codes([Objects(np.zeros((1203, 4)), np.arange(1203))], 1203)
    assert everything.min() == 1 and everything.max() == 127  # signed bytes
    assert mask_labels(mask_codes([Objects(np.zeros((3, 4)), np.arange(3))], 3), NAMES) == dict(
        enumerate(NAMES, 1)
    )
