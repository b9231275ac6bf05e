"""``detloss stats`` on the terminal and in files."""

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

TINY = "dataset=coco dataset.train.annotations=tiny/instances.json"

SMALL = (
    "dataset.train.images=tiny/images backbone=tiny schedule=quick schedule.batch_size=2 trainer.workers=0 "
    "trainer.device=cpu dataset.scales=[64] dataset.eval_scale=64 dataset.max_size=96"
)


def test_lvis_needs_no_files_and_no_torch(run_verbs: Callable, tmp_path: Path) -> None:
    (result, plain), modules = run_verbs(
        "stats dataset=lvis_v1 loss=ecm -o lvis.csv --figures figures",
        "stats dataset=lvis_v1 model=maskrcnn loss=ecm",
    )
    assert result.code == 0, result.err
    assert "1203 classes" in result.out and "... 1163 more (--all)" in result.out
    assert "background = 6.3313 x all instances" in result.out
    assert "sampler=rfs: what an epoch shows needs the annotation file" in result.out
    assert not {"torch", "torchvision"} & modules
    with (tmp_path / "lvis.csv").open() as file:
        rows = list(csv.DictReader(file))
    kinds = [row["kind"] for row in rows]
    assert (kinds.count("class"), kinds.count("background"), kinds.count("group")) == (1203, 1, 3)
    assert float(rows[-4]["ecm.weight_plus"]) == pytest.approx(2.586, abs=1e-3), "background, Fig. 7 of the paper"
    assert (tmp_path / "figures" / "class_frequency.svg").is_file()
    assert plain.code == 0 and "r not measured, as dataset=lvis_v1 has no images given" in plain.out
    assert "background = 6.3313 x all instances" in plain.out


def test_sampling_and_files_need_no_torch(run_verbs: Callable, tiny_coco: Callable, tmp_path: Path) -> None:
    tiny_coco()
    (rfs, seesaw), modules = run_verbs(
        f"stats {TINY} sampler=rfs sampler.threshold=0.9 -o all.csv --cooccurrence c.csv --figures f",
        f"stats {TINY} loss=seesaw sampler=class_aware --cooccurrence c.npz",
    )
    assert (rfs.code, seesaw.code) == (0, 0), rfs.err + seesaw.err
    assert not {"torch", "torchvision"} & modules
    assert "repeats" in rfs.out and "instances/epoch" in rfs.out and "gamma+" not in rfs.out
    assert "loss=ce: no margins or weights from class counts" in rfs.out
    assert "M as label" in seesaw.out and "repeats" not in seesaw.out
    assert "sampler=class_aware: 8 images an epoch, drawn from 8" in seesaw.out
    with (tmp_path / "c.csv").open() as file:
        table = np.array([row[1:] for row in list(csv.reader(file))[1:]], dtype=np.int64)
    with np.load(tmp_path / "c.npz") as content:
        assert np.array_equal(content["images"], table)
    assert (tmp_path / "f" / "cooccurrence.png").is_file() and (tmp_path / "f" / "sampling.svg").is_file()


def test_files_hold_every_loss_and_sampler_and_the_terminal_the_chosen_ones(
    run_verbs: Callable, tiny_coco: Callable, tmp_path: Path
) -> None:
    tiny_coco()
    (result,), _ = run_verbs(
        f"stats {TINY} loss=class_balanced loss.two_stage.beta=0.5 dataset.tail_fraction=0.4 sampler=rfs "
        "sampler.threshold=0.9 sampler.rounding=stochastic -o all.json"
    )
    assert result.code == 0, result.err
    rows = json.loads((tmp_path / "all.json").read_text())["classes"]
    names = {name.partition(".")[0] for name in rows[0] if "." in name}
    assert {"uniform", "rfs", "irfs", "class_aware", "ecm", "seesaw", "ldam", "iif", "bags", "acsl"} <= names
    counts = np.maximum([row["instances"] for row in rows], 1)
    weights = 0.5 / (1 - 0.5**counts)
    found = [row["class_balanced.weight"] for row in rows]
    np.testing.assert_allclose(found, weights / weights.mean(), rtol=1e-12)
    # Eight images: on fewer than 40% of the annotated ones, and repeated by sqrt(0.9 / share).
    assert [row["eql.tail"] for row in rows] == [int(row["images"] < 0.4 * 7) for row in rows]
    for row in rows:
        share = max(row["images"], 1) / 8
        assert row["rfs.repeat_factor"] == pytest.approx(max(1, (0.9 / share) ** 0.5))
        assert row["rfs.images"] >= row["images"] * row["rfs.repeat_factor"] - 1e-9
        assert row["uniform.images"] == row["images"]


def test_a_data_set_of_ones_own_is_counted(run_verbs: Callable, tiny_coco: Callable, tmp_path: Path) -> None:
    tiny_coco()
    one_stage, focal_ecm, ratio, missing = run_verbs(
        f"stats {TINY} model=fcos -o tiny.json",
        f"stats {TINY} model=fcos loss=ecm",
        f"stats {TINY} loss=ecm loss.two_stage.background_ratio=2",
        "stats dataset=coco dataset.train.annotations=absent.json",
    ).results
    assert one_stage.code == 0 and "r not measured, as dataset=coco has no images given" in one_stage.out
    assert "one-stage: no background class" in focal_ecm.out and "gamma+" in focal_ecm.out
    content = json.loads((tmp_path / "tiny.json").read_text())
    assert {row["category_id"] for row in content["classes"]} == {2, 3, 7, 8, 20}
    assert content["background"] is None and "seesaw.as_label_mean" not in content["classes"][0]
    assert "class_20" in one_stage.out
    assert "background = 2 x all instances" in ratio.out
    assert missing.code == 2 and missing.err.count("\n") == 1 and "absent.json" in missing.err


def test_a_model_that_is_named_has_its_background_measured(run_verbs: Callable, tiny_coco: Callable) -> None:
    tiny_coco()
    two_stage, one_stage, wrong = run_verbs(
        f"stats {TINY} {SMALL} model=fasterrcnn loss=ecm --batches 2",
        f"stats {TINY} {SMALL} model=retinanet --batches 1",
        f"stats {TINY} {SMALL} model=fasterrcnn schedule.batch_size=0",
    ).results
    assert two_stage.code == 0, two_stage.err
    (line,) = (line for line in two_stage.out.splitlines() if line.startswith("model=fasterrcnn: r = "))
    measured = float(line.split()[3])
    assert line.endswith("background proposals for a foreground one, measured on 2 x 2 images") and measured > 1
    assert f"background = {measured:.6g} x" in two_stage.out and "(measured on 2 batches)" in two_stage.out
    assert "anchors or locations for a foreground one, measured on 1 x 2 images" in one_stage.out, one_stage.err
    assert (wrong.code, wrong.err.count("\n")) == (2, 1) and "schedule.batch_size=0" in wrong.err


def test_words_that_cannot_be_followed_are_one_line(run_verbs: Callable, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.csv").mkdir()
    refusals = {
        "-o table.xlsx": "-o table.xlsx: expected a name that ends in .csv or .json",
        "-o absent/table.csv": "-o absent/table.csv: no such folder as absent",
        "-o folder.csv": "-o folder.csv: is a folder; give a file",
        "--cooccurrence c.json": "--cooccurrence c.json: expected a name that ends in .csv or .npz",
        "--figures file/inside": "--figures file/inside: file is a file; give a folder",
        "dataset=lvis_v1 sampler.threshold=few": "sampler.threshold=few: expected a number of at least 0",
        "dataset=lvis_v1 dataset.groups=[9,1]": "dataset.groups=[9, 1]: expected 0 <= a <= b",
        "dataset=lvis_v1 loss=ldam loss.two_stage.max_margin=wide": (
            "loss.two_stage.max_margin=wide: expected a number"
        ),
        "dataset=lvis_v1 loss=ecm loss.two_stage.background_ratio=-1": (
            "loss.two_stage.background_ratio=-1: expected a number above 0, or null"
        ),
        "dataset=lvis_v1 --cooccurrence c.npz": "--cooccurrence needs the annotation file; give dataset.root=DIR",
    }
    results, _ = run_verbs(*(f"stats {words}" for words in refusals))
    assert [(result.code, result.err) for result in results] == [
        (2, f"error: {line}\n") for line in refusals.values()
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused(run_verbs: Callable, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    (result,), _ = run_verbs("stats -o closed/table.csv")
    assert result.code == 2 and "cannot be written" in result.err
