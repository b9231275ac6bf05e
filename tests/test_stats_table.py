"""The numbers of the statistics table, against the paper's code and a calculation by hand."""

import csv
import io
import json
import math

import numpy as np
import pytest

from detloss.stats import ClassStats
from detloss.stats_table import COLUMNS, StatsTable


@pytest.fixture
def small() -> StatsTable:
    stats = ClassStats(
        names=("cat", "dog", "yak", "emu"),
        category_ids=(2, 3, 7, 20),
        num_images=1000,
        instances=np.array([3, 96, 1, 0]),
        images=np.array([2, 50, 1, 0]),
    )
    return StatsTable.make(stats, background_ratio=None, thresholds=(1, 10), repeat_threshold=0.001)


def test_lvis_numbers_are_those_of_the_authors_code() -> None:
    """gamma+ 0.7863 (banana) to 0.9822; background gamma+ 0.387 and m 0.3147, at r = 6.3313."""
    table = StatsTable.make(
        ClassStats.lvis_v1(), background_ratio=6.3313, thresholds=(10, 100), repeat_threshold=0.001
    )
    by_margin = sorted(table.classes, key=lambda row: row.gamma_plus)
    assert by_margin[0].name == "banana"
    assert by_margin[0].gamma_plus == pytest.approx(0.7863, abs=5e-5)
    assert by_margin[-1].gamma_plus == pytest.approx(0.9822, abs=5e-5)
    assert table.background is not None
    assert table.background.gamma_plus == pytest.approx(0.387, abs=5e-4)
    assert table.background.detection_weight == pytest.approx(0.3147, abs=5e-5)
    assert {row.group: row.classes for row in table.groups} == {"r": 337, "c": 461, "f": 405}


def test_a_row_is_what_a_calculation_by_hand_gives(small: StatsTable) -> None:
    """cat: n+ = 3, and n- = 96 + 1 + 1 = 98, as the class that never occurs counts as 1."""
    cat = next(row for row in small.classes if row.name == "cat")
    alpha = 98 / 3
    gamma_plus = 98**0.25 / (98**0.25 + 3**0.25)
    assert (cat.category_id, cat.group, cat.images, cat.instances) == (2, "c", 2, 3)
    assert cat.alpha == pytest.approx(alpha)
    assert cat.gamma_plus == pytest.approx(gamma_plus) and cat.gamma_minus == pytest.approx(1 - gamma_plus)
    assert cat.weight_plus == pytest.approx(1 / gamma_plus)
    assert cat.weight_minus == pytest.approx(1 / (1 - gamma_plus))
    assert cat.logit_shift == pytest.approx(0.25 * math.log(3 / 98))
    assert cat.detection_weight == pytest.approx(alpha * math.log((1 + alpha) / alpha))


def test_a_rare_class_is_repeated_by_the_rule_of_rfs() -> None:
    stats = ClassStats(("a", "b"), (1, 2), 10_000, np.array([1, 9000]), np.array([1, 8000]))
    table = StatsTable.make(stats, background_ratio=None, thresholds=None, repeat_threshold=0.001)
    factors = {row.name: row.repeat_factor for row in table.classes}
    assert factors == {"a": pytest.approx(math.sqrt(0.001 / 0.0001)), "b": 1.0}


def test_rows_fall_by_images_and_a_class_without_any_is_shown_as_zero_and_stays_finite(small: StatsTable) -> None:
    assert [row.name for row in small.classes] == ["dog", "cat", "yak", "emu"]
    emu = small.classes[-1]
    assert (emu.images, emu.instances) == (0, 0)
    numbers = [value for row in small.rows() for value in vars(row).values() if isinstance(value, float)]
    assert all(math.isfinite(value) for value in numbers)


def test_groups_hold_means_over_their_classes(small: StatsTable) -> None:
    rare, common, frequent = small.groups
    assert (rare.name, rare.classes, rare.images, rare.instances) == ("rare", 2, 0.5, 0.5)
    assert (common.classes, common.instances) == (1, 3)
    assert frequent.gamma_plus == small.classes[0].gamma_plus


def test_one_stage_heads_have_no_background_row(small: StatsTable) -> None:
    assert small.background is None
    assert {row.kind for row in small.rows()} == {"class", "group"}


def test_csv_and_json_hold_every_row(small: StatsTable) -> None:
    rows = list(csv.DictReader(io.StringIO(small.to_csv())))
    assert len(rows) == 4 + 3 and tuple(rows[0]) == COLUMNS
    assert float(rows[1]["gamma_plus"]) == small.classes[1].gamma_plus
    content = json.loads(json.dumps(small.to_json()))
    assert [row["name"] for row in content["classes"]] == ["dog", "cat", "yak", "emu"]
    assert content["background"] is None and len(content["groups"]) == 3
