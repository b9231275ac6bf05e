"""``detloss stats`` on the terminal and in files."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

TINY = "dataset=coco dataset.train.annotations=tiny/instances.json"


def test_lvis_needs_no_files_and_no_torch(run_verbs: Callable, tmp_path: Path) -> None:
    (result,), modules = run_verbs("stats dataset=lvis_v1 loss=ecm -o lvis.csv")
    assert result.code == 0
    assert "1203 classes" in result.out and "... 1163 more (--all)" in result.out
    assert "background = 6.3313 x all instances" in result.out
    assert not {"torch", "torchvision"} & modules
    with (tmp_path / "lvis.csv").open() as file:
        kinds = [row["kind"] for row in csv.DictReader(file)]
    assert (kinds.count("class"), kinds.count("background"), kinds.count("group")) == (1203, 1, 3)


def test_a_data_set_of_ones_own_is_counted(run_verbs: Callable, tiny_coco: Callable, tmp_path: Path) -> None:
    tiny_coco()
    one_stage, ratio, missing = run_verbs(
        f"stats {TINY} model=fcos -o tiny.json",
        f"stats {TINY} loss=ecm loss.two_stage.background_ratio=2",
        "stats dataset=coco dataset.train.annotations=absent.json",
    ).results
    assert one_stage.code == 0 and "one-stage: no background class" in one_stage.out
    content = json.loads((tmp_path / "tiny.json").read_text())
    assert {row["category_id"] for row in content["classes"]} == {2, 3, 7, 8, 20}
    assert "class_20" in one_stage.out
    assert "background = 2 x all instances" in ratio.out
    assert missing.code == 2 and missing.err.count("\n") == 1 and "absent.json" in missing.err


def test_an_output_of_another_kind_is_refused(run_verbs: Callable) -> None:
    (result,), _ = run_verbs("stats -o table.xlsx")
    assert (result.code, result.err) == (2, "error: -o table.xlsx: expected a name that ends in .csv or .json\n")
