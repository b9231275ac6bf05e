"""Runs that are compared: how they are grouped and named, what is said of them, and what is refused."""

import csv
import io
import json
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest

from detloss.compare import compare_runs
from detloss.comparison.files import csv_text, latex, markdown, write
from detloss.comparison.result import Comparison, Row
from detloss.errors import UserError
from detloss.evaluation.coco import evaluate_coco

Make = Callable[..., Path]
GROUPS = {2: "r", 5: "c", 9: "f"}


def verdicts(row: Row) -> set[str]:
    return {difference.verdict for difference in row.differences}


def value(comparison: Comparison, row: int, metric: str) -> float:
    names = [each.name for each in comparison.metrics]
    return comparison.rows[row].estimates[names.index(metric)].value


def test_estimates_are_the_evaluators_numbers(made_up_run: Make, tmp_path: Path) -> None:
    runs = [made_up_run("a", 0.4), made_up_run("b", 0.8, loss__name="ecm")]
    found = compare_runs(runs, metrics="AP,AP75,APs,APr,APf,oLRP", draws=20)
    for number, run in enumerate(runs):
        result = evaluate_coco(
            tmp_path / "instances_val.json", run / "predictions.json", iou_types=("bbox",), groups=GROUPS
        )
        for name in ("AP", "AP75", "APs", "APr", "APf", "oLRP"):
            assert value(found, number, name) == pytest.approx(result.metrics["bbox"][name], rel=0, abs=1e-12)
        if number:
            classes = {row["category_id"]: row["bbox_AP"] for row in result.per_class}
            assert {each.category_id: each.value for each in found.rows[1].classes} == pytest.approx(classes)


def test_identical_runs_are_said_to_be_so_and_better_ones_to_differ(made_up_run: Make) -> None:
    runs = [made_up_run("a", 0.5), made_up_run("b", 0.5), made_up_run("c", 0.9), made_up_run("d", 0.5, random=1)]
    base, same, better, other = compare_runs(runs, metrics="AP,AP50", draws=400).rows
    assert base.differences == () and verdicts(same) == {"identical"} and verdicts(better) == {"differs"}
    assert verdicts(other) == {"not distinguishable"}
    for difference in same.differences:
        assert (difference.value, difference.low, difference.high, difference.p) == (0, 0, 0, 1)
    for difference in better.differences:
        assert difference.value > difference.low > 0.2 and difference.p is not None
        assert difference.p == pytest.approx(6 * 2 / 401)  # the least p of 400 draws, times all six differences
    assert (base.method.name, better.method.name) == ("ce (a)", "ce (c)")


def test_the_baseline_changes_the_sign(made_up_run: Make) -> None:
    runs = [made_up_run("a", 0.5), made_up_run("b", 0.9, loss__name="ecm")]
    forth = compare_runs(runs, metrics="AP", draws=99).rows[1].differences[0]
    comparison = compare_runs(runs, metrics="AP", draws=99, baseline=runs[1])
    back = comparison.rows[0].differences[0]
    assert comparison.baseline == "ecm"
    assert (back.value, back.low, back.high) == pytest.approx((-forth.value, -forth.high, -forth.low))


def test_classes_are_sorted_from_the_largest_gain_to_the_largest_loss(made_up_run: Make) -> None:
    runs = [made_up_run("a", 0.5), made_up_run("b", 0.55, random=4, loss__name="ecm")]
    classes = compare_runs(runs, metrics="AP50", draws=99).rows[1].classes
    gains = [each.difference.value for each in classes]
    assert gains == sorted(gains, reverse=True) and {each.group for each in classes} == set("rcf")
    assert all(each.difference.low <= each.difference.value <= each.difference.high for each in classes)


def test_three_seeds_widen_the_intervals_and_two_are_said_not_to(made_up_run: Make) -> None:
    ce = [
        made_up_run(f"ce{seed}", quality, random=seed, seed=seed) for seed, quality in enumerate((0.4, 0.5, 0.6))
    ]
    ecm = [made_up_run(f"ecm{seed}", 0.6, random=seed, seed=seed, loss__name="ecm") for seed in range(3)]
    both = compare_runs([*ce, *ecm], metrics="AP", draws=400)
    assert [(row.method.name, len(row.method.runs)) for row in both.rows] == [("ce", 3), ("ecm", 3)]
    assert not any("Seeds" in note for note in both.notes)
    alone = [compare_runs([run], metrics="AP", draws=400).rows[0].estimates[0] for run in ce]
    estimate = both.rows[0].estimates[0]
    assert estimate.value == pytest.approx(statistics.mean(each.value for each in alone))
    assert estimate.deviation == pytest.approx(statistics.stdev(each.value for each in alone))
    # Over seeds alone it would be 4.303 deviations / sqrt(3) to each side.
    assert estimate.high - estimate.low > 2 * 4.303 * estimate.deviation / 3**0.5
    two = compare_runs([*ce, *ecm[:2]], metrics="AP", draws=400)
    assert any("Seeds are not in the intervals of ecm" in note for note in two.notes)
    narrow, wide = (each.rows[1].differences[0] for each in (two, both))
    assert narrow.high - narrow.low < (wide.high - wide.low) / 2
    none = compare_runs([*ce[:2], *ecm[:2]], metrics="AP", draws=99)
    assert any("Seeds are not in the intervals: that takes 3" in note for note in none.notes)


def test_methods_are_named_by_what_differs(made_up_run: Make) -> None:
    sampler = {"_target_": "detloss.data.samplers.RepeatFactor", "threshold": 0.001}
    runs = [
        made_up_run("a"),
        made_up_run("b", loss__name="ecm", loss__scores="sigmoid"),
        made_up_run("c", sampler=sampler),
        made_up_run("d", loss__name="ecm", loss__scores="softmax", sampler=sampler, trainer={"workers": 3}),
        made_up_run("e", backbone__depth=101),
    ]
    rows = compare_runs(runs, metrics="AP", draws=20).rows
    assert [row.method.name for row in rows] == [
        "ce sampler=Uniform",
        "ecm loss.scores=sigmoid sampler=Uniform",
        "ce sampler=RepeatFactor",
        "ecm loss.scores=softmax sampler=RepeatFactor",
        "ce",
    ]
    assert [row.method.backbone for row in rows] == ["ResNet-50"] * 4 + ["ResNet-101"]


def test_a_calibration_is_a_method_beside_its_run(made_up_run: Make) -> None:
    run, other = made_up_run("a", 0.5), made_up_run("b", 0.8)
    calibrated = run / "calibrated-norcal-gamma=0.6"
    calibrated.mkdir()
    (calibrated / "predictions.json").write_bytes((other / "predictions.json").read_bytes())
    rows = compare_runs([run, calibrated], metrics="AP", draws=99).rows
    assert [row.method.name for row in rows] == ["ce", "ce calibration=norcal-gamma=0.6"]
    assert verdicts(rows[1]) == {"differs"}


def test_runs_that_cannot_be_compared_are_refused(made_up_run: Make, tmp_path: Path) -> None:
    first = made_up_run("a")
    moved = json.loads((first / "stats.json").read_text())
    moved["fingerprints"]["val"] = "0" * 64
    refused = {
        "were validated on different sets": made_up_run("b"),
        "evaluator.max_detections is 300 and 100": made_up_run("c", evaluator__max_detections=300),
        "different frequency groups": made_up_run("d", images=[500, 50, 5]),
        "holds no predictions.npz or predictions.json": made_up_run("e"),
        "no fingerprint": made_up_run("f"),
        "no run in": tmp_path / "nowhere",
        "has no 'loss.name'": made_up_run("h", loss={}),
    }
    (tmp_path / "b" / "stats.json").write_text(json.dumps(moved))
    (tmp_path / "e" / "predictions.json").unlink()
    (tmp_path / "f" / "stats.json").write_text(json.dumps({**moved, "fingerprints": {}}))
    for message, run in refused.items():
        with pytest.raises(UserError, match=message) as error:
            compare_runs([first, run], draws=20)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"metric AP76: .*did you mean 'AP75'"):
        compare_runs([first], metrics="AP,AP76")
    with pytest.raises(UserError, match="not every run has masks; try bbox/AP"):
        compare_runs([first], metrics="segm/AP")
    with pytest.raises(UserError, match=r"--baseline .*nowhere: not among"):
        compare_runs([first], baseline=tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"dataset.train.annotations=gone: no such file \(or.*--annotations"):
        compare_runs([made_up_run("i", dataset__train={"annotations": "gone", "images": "gone"})])
    other = tmp_path / "other.json"
    other.write_text("{}")
    with pytest.raises(UserError, match="is not the file"):
        compare_runs([first], annotations=other)
    with pytest.raises(UserError, match="evaluator=voc"):
        compare_runs([made_up_run("g", evaluator__name="voc")], draws=20)


def test_too_few_draws_for_the_correction_are_noted_and_enough_are_taken(made_up_run: Make) -> None:
    runs = [made_up_run("a"), made_up_run("b", loss__name="ecm")]
    assert any("try --draws 240" in note for note in compare_runs(runs, draws=200).notes)
    assert "95% intervals from 1000 draws of images" in compare_runs(runs).notes


@pytest.fixture
def comparison(made_up_run: Make) -> Comparison:
    runs = [
        made_up_run("a", 0.5),
        made_up_run("b", 0.9, loss__name="bce_x|y"),
        made_up_run("c", 0.5, random=1, model__name="retinanet"),
        made_up_run("d", 0.5, random=2, seed=1),
    ]
    return compare_runs(runs, metrics="APr,AP,AP50,oLRP", draws=400)


def test_the_tables_have_the_shape_of_ecms_table_1(comparison: Comparison) -> None:
    lines = markdown(comparison).splitlines()
    assert lines[0] == "| Framework | Backbone | Method | AP_r | mAP_bbox | AP50 | oLRP |"
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + 3 and all(line.replace(r"\|", "").count("|") == 8 for line in table)
    assert table[2].startswith("| Faster R-CNN | ResNet-50 | ce | ") and " ± " in table[2]
    assert table[3].startswith(r"|  |  | bce_x\|y | ") and r"\* [" in table[3]
    assert table[4].startswith("| RetinaNet | ResNet-50 | ce | ")

    text = latex(comparison)
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert [row.count("&") - row.count(r"\&") for row in rows] == [6] * 4
    assert r"AP$_\mathrm{r}$ & mAP$_\mathrm{bbox}$ & AP$_\mathrm{50}$ & oLRP" in rows[0]
    assert r"bce\_x|y" in rows[2] and "$^*$ {" in rows[2] and r"$\pm$" in rows[1]
    assert text.count(r"\midrule") == 2 and text.count("{") == text.count("}") and "±" not in text


def test_runs_with_masks_have_the_columns_of_ecms_table_1(made_up_run: Make, tmp_path: Path) -> None:
    runs = [made_up_run(name, 0.6, model__name="maskrcnn", model__masks=True, loss__name=name) for name in "ab"]
    found = compare_runs(runs, draws=20)
    head = markdown(found).splitlines()[0]
    assert head == "| Framework | Backbone | Method | mAP_segm | AP_r | AP_c | AP_f | mAP_bbox |"
    result = evaluate_coco(tmp_path / "instances_val.json", runs[0] / "predictions.json", groups=GROUPS).metrics
    expected = [result["segm"][name] for name in ("AP", "APr", "APc", "APf")] + [result["bbox"]["AP"]]
    values = [each.value for each in found.rows[0].estimates]
    assert values == pytest.approx(expected, rel=0, abs=1e-12) and values[0] != values[4]
    boundary = compare_runs(runs, metrics="boundary/AP,AP50,bbox/AP50", draws=20)
    assert "| mAP_boundary | AP50_segm | AP50_bbox |" in markdown(boundary)


def test_what_no_object_can_measure_is_undefined(made_up_run: Make) -> None:
    runs = [made_up_run("a"), made_up_run("b", loss__name="ecm")]
    found = compare_runs(runs, metrics="AP,APl", draws=20)
    assert [verdict.verdict for verdict in found.rows[1].differences] == ["identical", "undefined"]
    assert markdown(found).splitlines()[2].endswith(" | - |")
    (line,) = [row for row in csv.DictReader(io.StringIO(csv_text(found))) if row["verdict"] == "undefined"]
    assert line["value"] == line["low"] == line["high"] == ""


def test_the_csv_has_every_number(comparison: Comparison, tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text(comparison))))
    kinds = [row["what"] for row in rows]
    assert (kinds.count("estimate"), kinds.count("difference"), kinds.count("class difference")) == (12, 8, 6)
    estimate = next(row for row in rows if row["what"] == "estimate" and row["metric"] == "AP")
    assert float(estimate["value"]) == value(comparison, 0, "AP") and estimate["baseline"] == ""
    differing = next(row for row in rows if row["what"] == "difference" and row["method"].startswith("bce"))
    assert differing["verdict"] == "differs" and differing["baseline"] == comparison.baseline
    assert {row["class"] for row in rows if row["what"] == "class difference"} == {"rare", "common", "frequent"}
    write(comparison, tmp_path / "all.csv")
    assert (tmp_path / "all.csv").read_text() == csv_text(comparison)
