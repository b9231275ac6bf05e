"""W&B holds what the run folder holds: the same values, and tables and pictures of them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from detloss import checkpoint, margins
from detloss.margins import OFFICIAL_BACKGROUND_RATIO
from tests.conftest import TinyCoco, write_tiny_coco
from tests.reference.wandb_file import WandbRun, offline_runs
from tests.weights_and_biases.conftest import SMALL, said, train, values

CLOCK = ("data_seconds", "step_seconds")
"""What differs from run to run."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, hydra: None) -> tuple[Path, TinyCoco]:
    """A run of Mask R-CNN with ECM, four steps and two evaluations, in a sweep."""
    root = tmp_path_factory.mktemp("wandb")
    data = write_tiny_coco(root / "tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        words = ("model=maskrcnn", "loss=ecm", "schedule.steps=4", "trainer.evaluate_every=2")
        return train(root / "run", data, *words, sweep="my-sweep"), data


@pytest.fixture(scope="module")
def logged(trained: tuple[Path, TinyCoco]) -> WandbRun:
    (run,) = offline_runs(trained[0])
    return run


def test_an_offline_run_holds_the_curves_with_exactly_the_values_of_metrics_jsonl(
    trained: tuple[Path, TinyCoco], logged: WandbRun
) -> None:
    expected = values(trained[0])
    found = {
        (row["_step"], name): value
        for row in logged.history
        for name, value in row.items()
        if isinstance(value, int | float) and (row["_step"], name) in expected
    }
    assert found == expected
    for name in ("loss", "lr", "loss_classifier", "gradient/ratio", "gradient/ratio_f", "state/background_ratio"):
        assert logged.curve(name).keys() <= {1, 2, 3, 4} and len(logged.curve(name)) > 1, name
    for name in ("bbox/AP", "segm/AP", "bbox/APf", "segm/oLRP"):
        assert logged.curve(name).keys() == {2, 4}


def test_the_run_is_in_the_sweeps_group_with_tags_config_and_its_end(
    trained: tuple[Path, TinyCoco], logged: WandbRun
) -> None:
    assert logged.groups == {"my-sweep"}
    assert logged.tags == {"a", "b"}
    assert logged.exit_codes == [0]
    assert logged.ids == {(trained[0] / "wandb.id").read_text()}
    assert logged.config["loss"]["name"] == "ecm"
    assert logged.config["schedule"]["steps"] == 4
    assert logged.summaries["loss*"] >= {"min"} and logged.summaries["bbox/A*"] >= {"max"}


def test_the_class_table_says_what_the_equations_say_of_the_counts(
    trained: tuple[Path, TinyCoco], logged: WandbRun
) -> None:
    rows = json.loads(trained[1].annotations.read_text())["annotations"]
    counts = [
        sum(r["category_id"] == c and not r["iscrowd"] and r["area"] > 0 for r in rows) for c in (2, 3, 7, 8, 20)
    ]
    table = logged.table(first(logged, "classes/table", 0))
    assert table["class"][-1] == "background"
    by_name = dict(zip(table["class"], table["instances"], strict=True))
    assert [by_name[f"class_{c}"] for c in (2, 3, 7, 8, 20)] == counts
    positive, negative = margins.class_counts(np.array(counts), OFFICIAL_BACKGROUND_RATIO)
    gamma = dict(zip(table["class"], table["ecm.gamma_plus"], strict=True))
    expected = margins.margins(positive, negative)[0]
    assert [gamma[f"class_{c}"] for c in (2, 3, 7, 8, 20)] == pytest.approx(expected[:5].tolist())
    assert gamma["background"] == pytest.approx(expected[5])
    assert picture(logged, "classes/chart", 0).size[0] > 300


def test_the_heat_map_is_drawn_at_each_evaluation_and_its_table_is_what_gradients_jsonl_holds(
    trained: tuple[Path, TinyCoco], logged: WandbRun
) -> None:
    maps = [np.asarray(picture(logged, "gradient/heat_map", step).convert("RGB")) for step in (2, 4)]
    assert all(len(np.unique(each.reshape(-1, 3), axis=0)) > 10 for each in maps)
    table = logged.table(first(logged, "gradient/table", 4))
    windows = [json.loads(line) for line in (trained[0] / "gradients.jsonl").read_text().splitlines()]
    for window in windows:
        rows = [index for index, step in enumerate(table["step"]) if step == window["step"]]
        place = {table["class"][index]: index for index in rows}
        for number, category in enumerate((2, 3, 7, 8, 20)):
            index = place[f"class_{category}"]
            assert table["own"][index] == window["own"][number]
            assert table["others"][index] == window["others"][number]
            negative = window["others"][number] + window["background"][number]
            own = window["own"][number]
            assert table["ratio"][index] == (pytest.approx(negative / own) if own else None)


def test_precision_over_recall_has_the_area_that_metrics_jsonl_calls_ap50(
    trained: tuple[Path, TinyCoco], logged: WandbRun
) -> None:
    expected = values(trained[0])
    for step in (2, 4):
        for kind in ("bbox", "segm"):
            table = logged.table(first(logged, f"{kind}/precision_recall_table", step))
            own = [
                value
                for value, name in zip(table["lineVal"], table["lineKey"], strict=True)
                if name in ("all", "all classes")
            ]
            assert len(own) == 101
            assert np.mean(own) == pytest.approx(expected[step, f"{kind}/AP50"], abs=1e-12)


def test_examples_show_the_annotated_objects_and_what_was_found_with_masks(
    trained: tuple[Path, TinyCoco], logged: WandbRun
) -> None:
    content = json.loads(trained[1].annotations.read_text())
    classes = {each["category_id"] for each in content["annotations"] if not each["iscrowd"] and each["area"]}
    for step in (2, 4):
        (row,) = (row for row in logged.history if row["_step"] == step)
        shown = list(zip(row["examples/captions"], row["examples/all_boxes"], strict=True))
        assert len(shown) == row["examples/count"] == len(classes)
        for caption, layers in shown:
            image = int(caption.removeprefix("image "))
            said = json.loads((logged.folder / "files" / layers["ground_truth"]["path"]).read_text())
            expected = [
                [x, y, x + width, y + height]
                for each in content["annotations"]
                if each["image_id"] == image and not each["iscrowd"] and each["area"]
                for x, y, width, height in [each["bbox"]]
            ]
            sides = ("minX", "minY", "maxX", "maxY")
            assert [[box["position"][side] for side in sides] for box in said["box_data"]] == expected
            assert said["class_labels"]["0"] == "class_2"
            found = json.loads((logged.folder / "files" / layers["predictions"]["path"]).read_text())["box_data"]
            assert len(found) <= 30 and all(box["scores"]["score"] >= 0.05 for box in found)
        assert any("ground_truth" in layers for layers in row["examples/all_masks"])


def test_weights_are_the_same_bit_by_bit_with_wandb_and_without_it(
    trained: tuple[Path, TinyCoco], tmp_path: Path
) -> None:
    words = ("model=maskrcnn", "loss=ecm", "schedule.steps=4", "trainer.evaluate_every=2", "logger=jsonl")
    without = train(tmp_path / "without", trained[1], *words)
    assert not (without / "wandb").exists()
    first, second = (checkpoint.load(folder / "last.ckpt").model for folder in (trained[0], without))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    with_wandb, plain = ({k: v for k, v in values(f).items() if k[1] not in CLOCK} for f in (trained[0], without))
    assert with_wandb == plain


def test_a_resumed_run_goes_on_in_its_wandb_run(tmp_path: Path) -> None:
    data = write_tiny_coco(tmp_path / "tiny")
    train(tmp_path / "run", data, "model=fasterrcnn", "schedule.steps=1")
    train(tmp_path / "run", data, "model=fasterrcnn", "schedule.steps=2")
    earlier, later = offline_runs(tmp_path / "run")
    assert earlier.ids == later.ids and len(later.ids) == 1
    assert earlier.curve("loss").keys() == {1} and later.curve("loss").keys() == {2}


def test_what_another_program_measured_has_its_numbers_and_no_curves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_tiny_coco(tmp_path / "tiny")
    run = train(tmp_path / "run", data, "model=retinanet", "evaluator.engine=official", "schedule.steps=1")
    (logged,) = offline_runs(run)
    assert said(capsys) == []
    assert logged.curve("bbox/AP").keys() == {1}
    keys = {key for row in logged.history for key in row}
    assert not any("precision_recall" in key or "examples" in key for key in keys)
    assert "gradient/heat_map/path" in keys and "gradient/groups_table/path" in keys


def test_the_runs_of_a_sweep_are_one_group_and_each_has_its_own(tmp_path: Path) -> None:
    out = run_program(tmp_path, "-m", "logger=wandb", "schedule.steps=1,2", f"output_dir={tmp_path / 'sweep'}")
    assert "2 runs, 0 failed" in out
    runs = [logged for folder in (tmp_path / "sweep").iterdir() for logged in offline_runs(folder)]
    runs.sort(key=lambda logged: len(logged.curve("loss")))
    assert [logged.curve("loss").keys() for logged in runs] == [{1}, {1, 2}]
    assert runs[0].groups == runs[1].groups != {""}
    assert runs[0].ids != runs[1].ids


def test_logging_to_files_imports_no_wandb_and_no_matplotlib(tmp_path: Path) -> None:
    out = run_program(tmp_path, "logger=jsonl", "schedule.steps=1", f"output_dir={tmp_path / 'run'}")
    assert out.splitlines()[-1] == "imported []"


def run_program(folder: Path, *words: str) -> str:
    """Train as a user does, in a process of its own, and return what it printed; the modules come last."""
    data = write_tiny_coco(folder / "tiny")
    paths = [f"dataset.{part}.annotations={data.annotations}" for part in ("train", "val")]
    paths += [f"dataset.{part}.images={data.images}" for part in ("train", "val")]
    code = (
        "import sys\nfrom detloss.cli.main import main\n"
        f"sys.argv = {['detloss', 'train', *SMALL, *paths, 'model=fasterrcnn', *words]!r}\n"
        "try:\n    main()\nfinally:\n"
        "    print('imported', sorted({'wandb', 'matplotlib'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def first(logged: WandbRun, name: str, step: int) -> dict[str, Any]:
    """Return what the row of a step says of a medium."""
    (row,) = (row for row in logged.history if row["_step"] == step)
    return {key.removeprefix(f"{name}/"): value for key, value in row.items() if key.startswith(f"{name}/")}


def picture(logged: WandbRun, name: str, step: int) -> Image.Image:
    return Image.open(logged.folder / "files" / first(logged, name, step)["path"])
