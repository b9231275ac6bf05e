"""The numbers of the statistics table, against the paper's code and a calculation by hand."""

import csv
import io
import json
import math

import numpy as np
import pytest

from detloss.loss_columns import ecm, focal_ecm
from detloss.sampler_columns import repeat_columns
from detloss.stats import ClassStats
from detloss.stats_table import Column, StatsTable


@pytest.fixture
def stats() -> ClassStats:
    return ClassStats(
        names=("cat", "dog", "yak", "emu"),
        category_ids=(2, 3, 7, 20),
        num_images=1000,
        instances=np.array([3, 96, 1, 0]),
        images=np.array([2, 50, 1, 0]),
    )


@pytest.fixture
def small(stats: ClassStats) -> StatsTable:
    return StatsTable.make(stats, focal_ecm(stats), thresholds=(1, 10))


def test_lvis_numbers_are_those_of_the_authors_code() -> None:
    """gamma+ 0.7863 (banana) to 0.9822; background gamma+ 0.387 and m 0.3147, at r = 6.3313."""
    stats = ClassStats.lvis_v1()
    columns = ecm(stats, background_ratio=6.3313)
    table = StatsTable.make(stats, columns, thresholds=(10, 100), background_instances=6.3313 * 1_270_141)
    by_margin = sorted(table.classes, key=lambda row: row.values["gamma_plus"])
    assert by_margin[0].name == "banana"
    assert by_margin[0].values["gamma_plus"] == pytest.approx(0.7863, abs=5e-5)
    assert by_margin[-1].values["gamma_plus"] == pytest.approx(0.9822, abs=5e-5)
    assert table.background is not None
    assert table.background.values["gamma_plus"] == pytest.approx(0.387, abs=5e-4)
    assert table.background.values["detection_weight"] == pytest.approx(0.3147, abs=5e-5)
    assert table.background.values["images"] == 100_170
    assert {row.group: row.classes for row in table.groups} == {"r": 337, "c": 461, "f": 405}


def test_a_row_is_what_a_calculation_by_hand_gives(small: StatsTable) -> None:
    """cat: n+ = 3, and n- = 96 + 1 + 1 = 98, as the class that never occurs counts as 1."""
    cat = next(row for row in small.classes if row.name == "cat")
    alpha = 98 / 3
    gamma_plus = 98**0.25 / (98**0.25 + 3**0.25)
    assert (cat.category_id, cat.group, cat.classes) == (2, "c", 1)
    expected = {
        "images": 2,
        "instances": 3,
        "alpha": alpha,
        "gamma_plus": gamma_plus,
        "gamma_minus": 1 - gamma_plus,
        "weight_plus": 1 / gamma_plus,
        "weight_minus": 1 / (1 - gamma_plus),
        "logit_shift": 0.25 * math.log(3 / 98),
        "detection_weight": alpha * math.log((1 + alpha) / alpha),
    }
    assert cat.values == pytest.approx(expected)


def test_a_rare_class_is_repeated_by_the_rule_of_rfs() -> None:
    stats = ClassStats(("a", "b"), (1, 2), 10_000, np.array([1, 9000]), np.array([1, 8000]))
    (column,) = repeat_columns("rfs", "detloss.data.samplers.RepeatFactor", 0.001, stats, 10_000)
    assert column.values.tolist() == [pytest.approx(math.sqrt(0.001 / 0.0001)), 1.0]


def test_rows_fall_by_images_and_a_class_without_any_is_shown_as_zero_and_stays_finite(small: StatsTable) -> None:
    assert [row.name for row in small.classes] == ["dog", "cat", "yak", "emu"]
    emu = small.classes[-1]
    assert (emu.values["images"], emu.values["instances"]) == (0, 0)
    assert all(math.isfinite(value) for row in small.rows() for value in row.values.values())


def test_groups_hold_means_over_their_classes(small: StatsTable) -> None:
    rare, common, frequent = small.groups
    assert (rare.name, rare.classes, rare.values["images"], rare.values["instances"]) == ("rare", 2, 0.5, 0.5)
    assert (common.classes, common.values["instances"]) == (1, 3)
    assert frequent.values["gamma_plus"] == small.classes[0].values["gamma_plus"]


def test_one_stage_heads_have_no_background_row(small: StatsTable) -> None:
    assert small.background is None
    assert {row.kind for row in small.rows()} == {"class", "group"}


def test_the_background_has_numbers_only_where_they_mean_something(stats: ClassStats) -> None:
    columns = [
        Column("a.weight", "weight", ".1f", np.arange(4.0), 1.0),
        Column("b.margin", "margin", ".1f", np.arange(4.0)),
    ]
    table = StatsTable.make(stats, columns, thresholds=None)
    assert table.background is not None
    nothing = {"images": None, "instances": None, "b.margin": None}
    assert table.background.values == {**nothing, "a.weight": 1.0}
    rows = list(csv.DictReader(io.StringIO(table.to_csv())))
    assert [(row["a.weight"], row["b.margin"]) for row in rows if row["kind"] == "background"] == [("1.0", "")]


def test_csv_and_json_hold_every_row(small: StatsTable) -> None:
    rows = list(csv.DictReader(io.StringIO(small.to_csv())))
    fields = ["kind", "category_id", "name", "group", "classes", "images", "instances", "alpha"]
    assert len(rows) == 4 + 3 and list(rows[0])[:8] == fields
    assert float(rows[1]["gamma_plus"]) == small.classes[1].values["gamma_plus"]
    assert rows[1]["images"] == "2", "a count is a whole number"
    content = json.loads(json.dumps(small.to_json()))
    assert [row["name"] for row in content["classes"]] == ["dog", "cat", "yak", "emu"]
    assert content["background"] is None and len(content["groups"]) == 3
