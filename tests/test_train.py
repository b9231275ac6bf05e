"""Runs, small ones: what they compute must not depend on interruptions, accumulation or the number of ranks."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf

from detloss import checkpoint
from detloss.errors import TrainingFailed, UserError
from detloss.evaluate import evaluate_run
from detloss.evaluation.predictions import read_predictions
from detloss.launch import launch

# Everything small, every proposal taken, no statistics of the batch in the norm.
SMALL = (
    "dataset=coco",
    "backbone=tiny",
    "backbone.norm=group",
    "backbone.channels=32",
    "schedule=quick",
    "schedule.batch_size=4",
    "schedule.lr=0.001",
    "schedule.warmup_steps=0",
    "dataset.scales=null",
    "dataset.eval_scale=64",
    "trainer.workers=0",
    "trainer.log_every=1",
    "trainer.device=cpu",
    "logger=jsonl",
)
ALL_PROPOSALS = (
    "model.detector.rpn_batch_per_image=100000",
    "model.detector.rpn_positive_fraction=1.0",
    "model.detector.box_batch_per_image=100000",
    "model.detector.box_positive_fraction=1.0",
)


@pytest.fixture
def data(tiny_coco: Callable[..., tuple[Path, Path]]) -> tuple[str, ...]:
    """Words that name a data set of eight images."""
    annotations, images = tiny_coco(8)
    return tuple(
        f"dataset.{part}.{kind}={path}"
        for part in ("train", "val")
        for kind, path in (("annotations", annotations), ("images", images))
    )


@pytest.fixture(scope="module", autouse=True)
def hydra() -> Iterator[None]:
    with initialize_config_module("detloss.conf", version_base="1.3"):
        yield


def config(*words: str) -> DictConfig:
    return compose("train", overrides=list(words))


def run(folder: Path, *words: str) -> dict[str, dict[str, float | None]]:
    folder.mkdir(exist_ok=True)
    return launch(config(*words), folder)


def losses(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {key: line[key] for key in line if "loss" in key or "state" in key} for line in lines if "loss" in line
    ]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(checkpoint.load(folder / "last.ckpt").model)


@pytest.mark.parametrize("words", [("model=maskrcnn", "loss=ecm"), ("model=fcos", "loss=ecm")])
def test_a_run_resumed_in_the_middle_of_an_epoch_equals_one_that_never_stopped_bit_by_bit(
    tmp_path: Path, data: tuple[str, ...], words: tuple[str, ...]
) -> None:
    words = (*SMALL, *data, *words, "schedule.decay=step")
    run(tmp_path / "whole", *words, "schedule.steps=3")
    run(tmp_path / "parts", *words, "schedule.steps=1")  # half of an epoch of eight images
    run(tmp_path / "parts", *words, "schedule.steps=3")
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")


def test_accumulating_two_micro_batches_equals_one_batch(tmp_path: Path, data: tuple[str, ...]) -> None:
    # Every image has its own weight in RetinaNet's loss, so that micro batches add up.
    words = (*SMALL, *data, "model=retinanet", "schedule.steps=2")
    run(tmp_path / "one", *words)
    run(tmp_path / "two", *words, "trainer.accumulate=2")
    for one, two in zip(losses(tmp_path / "one"), losses(tmp_path / "two"), strict=True):
        assert one == pytest.approx(two, abs=1e-5)


@pytest.mark.parametrize(
    "words",
    [("model=maskrcnn", "loss=ecm", *ALL_PROPOSALS), ("model=fcos", "loss=focal")],
)
def test_two_ranks_equal_one_with_the_same_global_batch(
    tmp_path: Path, data: tuple[str, ...], words: tuple[str, ...]
) -> None:
    words = (*SMALL, *data, *words, "schedule.steps=3")
    run(tmp_path / "one", *words)
    run(tmp_path / "two", *words, "trainer.devices=2")
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == len(two) == 3
    for first, second in zip(one, two, strict=True):
        ratios = [values.pop("state/background_ratio", None) for values in (first, second)]
        assert ratios[0] == ratios[1]
        assert first == pytest.approx(second, abs=1e-5)


@pytest.mark.slow
def test_the_quick_recipe_on_two_ranks_has_the_mean_loss_of_one_within_five_percent(tmp_path: Path) -> None:
    words = ("loss=ecm", "schedule.steps=50", "trainer.device=cpu", "trainer.workers=1", "logger=jsonl")
    means = []
    for devices in (1, 2):
        folder = tmp_path / str(devices)
        run(folder, *words, f"trainer.devices={devices}", "trainer.log_every=10")
        values = [line["loss"] for line in losses(folder)]
        means.append(sum(values) / len(values))
    print(f"mean loss of 50 steps: {means[0]:.4f} on one rank, {means[1]:.4f} on two")
    assert means[0] == pytest.approx(means[1], rel=0.05)


def test_the_rate_of_the_last_log_line_is_the_schedules(tmp_path: Path, data: tuple[str, ...]) -> None:
    run(tmp_path / "run", *SMALL, *data, "model=fasterrcnn", "schedule.steps=4", "schedule.batch_size=2")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    # Half a cosine, three quarters through: (1 + cos(3 pi / 4)) / 2 = 0.146447; half of the reference batch.
    assert [line["lr"] for line in lines if "lr" in line][3] == pytest.approx(0.001 / 2 * 0.146447, rel=1e-5)


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_batch(tmp_path: Path, data: tuple[str, ...]) -> None:
    with pytest.raises(TrainingFailed, match=r"step \d+.*not finite"):
        run(tmp_path / "run", *SMALL, *data, "model=retinanet", "schedule.steps=9", "schedule.lr=1e9",
            "schedule.clip_norm=null")  # fmt: skip
    (kept,) = (tmp_path / "run").glob("nonfinite_batch*")
    batch = torch.load(kept, weights_only=True)
    assert len(batch["images"]) == len(batch["targets"]) == 4


def test_early_stop_and_best_checkpoint_follow_the_evaluations(tmp_path: Path, data: tuple[str, ...]) -> None:
    run(tmp_path / "run", *SMALL, *data, "model=fasterrcnn", "schedule.steps=9", "schedule.lr=0",
        "trainer.evaluate_every=1", "trainer.patience=2")  # fmt: skip
    # A rate of 0 cannot improve on the first evaluation: it is the best, and two more exhaust the patience.
    assert checkpoint.load(tmp_path / "run" / "best.ckpt").progress.step == 1
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert max(steps) == 3


def test_both_ranks_predict_with_the_statistics_that_the_checkpoint_holds(
    tmp_path: Path, data: tuple[str, ...]
) -> None:
    words = (*SMALL, *data, "backbone.norm=batch", "model=fcos", "schedule.steps=3", "schedule.lr=0.01")
    run(tmp_path / "run", *words, "dataset.score_threshold=0", "trainer.devices=2")
    cfg = config(*words, "dataset.score_threshold=0")
    (tmp_path / "run" / "config.yaml").write_text(OmegaConf.to_yaml(cfg, resolve=True))
    evaluate_run(tmp_path / "run", [], checkpoint_name="last", predictions=None)
    found = [read_predictions(tmp_path / "run" / name) for name in ("predictions.npz", "eval/predictions.npz")]
    scores = [sorted(row["score"] for row in rows) for rows in found]  # type: ignore[type-var]
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)


def test_the_official_lvis_layout_trains_by_its_recipe(
    tmp_path: Path, tiny_coco: Callable[..., tuple[Path, Path]]
) -> None:
    annotations, images = tiny_coco(6)
    content = json.loads(annotations.read_text())
    root = tmp_path / "lvis"
    (root / "annotations").mkdir(parents=True)
    (root / "train2017").symlink_to(images)
    for image in content["images"]:
        image["coco_url"] = f"http://images.cocodataset.org/train2017/{image.pop('file_name')}"
        image |= {"neg_category_ids": [20], "not_exhaustive_category_ids": []}
    for category in content["categories"]:
        category |= {"frequency": "r", "image_count": 1, "instance_count": 1}
    content["annotations"] = [row for row in content["annotations"] if not row.pop("iscrowd")]
    for part in ("train", "val"):
        (root / "annotations" / f"lvis_v1_{part}.json").write_text(json.dumps(content))
    words = [word for word in SMALL if word != "dataset=coco"]
    words += [f"dataset.root={root}", "backbone.weights=null", "schedule.steps=2", "dataset.warmup_steps=1"]
    metrics = run(tmp_path / "run", "dataset=lvis_v1", "model=maskrcnn", "loss=ecm", *words)
    assert metrics["bbox"].keys() == metrics["segm"].keys() >= {"AP", "APr", "APc", "APf"}
    assert metrics["bbox"]["APf"] is None  # nothing is frequent
    # Six images, one of them empty: the recipe drops it, and every class is rarer than 1e-3 of nothing.
    assert checkpoint.load(tmp_path / "run" / "last.ckpt").stats.num_images == 6
    assert "roi_heads.box_predictor.cls_score.weight" in weights(tmp_path / "run")


def test_fixed_ap_of_a_finished_run_lifts_its_limit_of_detections_per_image(
    tmp_path: Path, data: tuple[str, ...]
) -> None:
    annotations = Path(next(word.partition("=")[2] for word in data if ".annotations=" in word))
    content = json.loads(annotations.read_text())
    for image in content["images"]:
        image |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    annotations.write_text(json.dumps(content))
    words = (
        *SMALL,
        *data,
        "model=maskrcnn",
        "schedule.steps=1",
        "dataset.detections=2",
        "dataset.score_threshold=0",
    )
    run(tmp_path / "run", *words)
    (tmp_path / "run" / "config.yaml").write_text(OmegaConf.to_yaml(config(*words), resolve=True))
    metrics = evaluate_run(tmp_path / "run", ["evaluator=lvis_fixed"], checkpoint_name="last", predictions=None)
    assert metrics["segm"].keys() >= {"AP", "AP_fixed", "AP_fixed_r", "AP_pool"}
    before, after = (
        Counter(row["image_id"] for row in read_predictions(tmp_path / "run" / name))
        for name in ("predictions.npz", "eval/predictions.npz")
    )
    assert set(before.values()) == {2} and min(after.values()) > 2


def test_eval_tells_what_is_behind_ap_and_draws_it(tmp_path: Path, data: tuple[str, ...]) -> None:
    words = (*SMALL, *data, "model=fasterrcnn", "schedule.steps=1", "dataset.score_threshold=0")
    run(tmp_path / "run", *words)
    assert not (tmp_path / "run" / "errors.json").exists()  # which training does not take the time for
    (tmp_path / "run" / "config.yaml").write_text(OmegaConf.to_yaml(config(*words), resolve=True))
    figures = tmp_path / "figures"
    evaluate_run(tmp_path / "run", [], checkpoint_name="last", predictions=None, figures=figures)
    assert (figures / "bbox_errors.svg").exists()
    errors = tmp_path / "run" / "eval" / "errors.json"
    from_checkpoint = errors.read_text()
    errors.unlink()
    evaluate_run(tmp_path / "run", [], checkpoint_name="last", predictions=tmp_path / "run" / "predictions.npz")
    assert errors.read_text() == from_checkpoint
    with pytest.raises(UserError, match="figures=: the official tools"):
        evaluate_run(
            tmp_path / "run",
            ["evaluator.engine=official"],
            checkpoint_name="last",
            predictions=None,
            figures=figures,
        )


def test_init_takes_all_but_the_class_sized_layers_of_a_run_on_other_classes(
    tmp_path: Path,
    data: tuple[str, ...],
    tiny_coco: Callable[..., tuple[Path, Path]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(tmp_path / "first", *SMALL, *data, "model=fasterrcnn", "schedule.steps=1")
    annotations, images = tiny_coco(4, folder="other")
    content = json.loads(annotations.read_text())
    content["categories"].append({"id": 99, "name": "another"})
    annotations.write_text(json.dumps(content))
    other = [f"dataset.{part}.{kind}={path}" for part in ("train", "val")
             for kind, path in (("annotations", annotations), ("images", images))]  # fmt: skip
    run(tmp_path / "second", *SMALL, *other, "model=fasterrcnn", "schedule.steps=1", "schedule.lr=0",
        f"init={tmp_path / 'first'}")  # fmt: skip
    assert "roi_heads.box_predictor.cls_score.weight" in capsys.readouterr().out
    first, second = weights(tmp_path / "first"), weights(tmp_path / "second")
    same = {
        name
        for name in first
        if first[name].shape == second[name].shape and torch.equal(first[name], second[name])
    }
    assert {name.split(".")[2] for name in first.keys() - same} == {"cls_score", "bbox_pred"}


def test_a_checkpoint_of_another_model_is_refused_by_the_names_of_its_keys(
    tmp_path: Path, data: tuple[str, ...]
) -> None:
    run(tmp_path / "run", *SMALL, *data, "model=fasterrcnn", "schedule.steps=1")
    with pytest.raises(UserError, match=r"does not fit this model.*such as \w+"):
        run(tmp_path / "run", *SMALL, *data, "model=retinanet", "schedule.steps=1")


def test_batches_that_cannot_be_shared_evenly_are_refused(tmp_path: Path, data: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match="split evenly"):
        run(tmp_path / "run", *SMALL, *data, "model=fasterrcnn", "schedule.steps=1", "trainer.accumulate=3")


def test_a_workers_user_error_reaches_the_parent_as_the_same_line(
    tmp_path: Path, data: tuple[str, ...], tiny_coco: Callable[..., tuple[Path, Path]]
) -> None:
    annotations, images = tiny_coco(4, folder="damaged")
    for image in images.iterdir():
        image.write_bytes(image.read_bytes()[:200])
    words = [f"dataset.train.annotations={annotations}", f"dataset.train.images={images}"]
    with pytest.raises(UserError, match=r"\d\.png: damaged or not an image"):
        run(tmp_path / "run", *SMALL, *data, *words, "model=fcos", "schedule.steps=2", "trainer.devices=2")


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "detloss", "train", *words, f"output_dir={folder}"]
    # A session of its own, so that a signal can be sent to all its processes, as a terminal does.
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True
    )


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_killed_worker_ends_the_run_in_one_line_and_its_checkpoint_resumes(
    tmp_path: Path, data: tuple[str, ...]
) -> None:
    folder = tmp_path / "run"
    words = (*SMALL, *data, "model=retinanet", "trainer.checkpoint_every=1", "trainer.devices=2")
    process = start(folder, *words, "schedule.steps=500")
    wait_for((folder / "last.ckpt").exists, process)
    os.kill(descendants(process.pid, "spawn_main")[-1], signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1, errors
    complaints = [line for line in errors.splitlines() if line.startswith("error:")]
    assert len(complaints) == 1 and "SIGKILL" in complaints[0]
    assert "Traceback" not in errors
    step = checkpoint.load(folder / "last.ckpt").progress.step
    run(folder, *words, f"schedule.steps={step + 1}", "trainer.devices=1")
    assert checkpoint.load(folder / "last.ckpt").progress.step == step + 1


@pytest.mark.parametrize("devices", [1, 2])
def test_ctrl_c_saves_and_leaves_with_130(tmp_path: Path, data: tuple[str, ...], devices: int) -> None:
    folder = tmp_path / "run"
    process = start(folder, *SMALL, *data, "model=retinanet", "schedule.steps=500", f"trainer.devices={devices}")
    lines = folder / "metrics.jsonl"
    wait_for(lambda: lines.exists() and lines.read_text().count("\n") > 1, process)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert checkpoint.load(folder / "last.ckpt").progress.step >= 2


def descendants(parent: int, word: str) -> list[int]:
    """Return the processes below ``parent`` whose command line holds ``word``, oldest first."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            status = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_text()
        except OSError:
            continue
        if int(status[1]) == parent:
            found += [int(entry.name)] if word in command else []
            found += descendants(int(entry.name), word)
    return sorted(found)


@pytest.mark.parametrize(
    "words",
    [("data.cache=ram", "trainer.workers=2"), ("data.cache=disk",), ("data.on_error=skip",)],
    ids=lambda words: words[0],
)
def test_how_images_are_read_changes_nothing_that_is_learnt(
    tmp_path: Path, data: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("DETLOSS_CACHE", str(tmp_path / "cache"))
    recipe = (*SMALL, *data, "model=fcos", "loss=focal", "dataset.jitter=[0.5,2]", "dataset.crop=64")
    recipe += ("dataset.copy_paste=0.5", "schedule.steps=3")
    run(tmp_path / "plain", *recipe)
    run(tmp_path / "other", *recipe, *words)
    plain, other = weights(tmp_path / "plain"), weights(tmp_path / "other")
    assert all(torch.equal(plain[name], other[name]) for name in plain)


def test_damaged_images_are_skipped_and_counted_up_to_a_limit(
    tmp_path: Path, data: tuple[str, ...], two_of_eight_damaged: tuple[str, ...]
) -> None:
    """The run that stopped goes on in its folder: how images are read is no part of its config."""
    words = (*SMALL, *data, *two_of_eight_damaged)
    with pytest.raises(UserError, match="damaged or not an image"):
        run(tmp_path / "run", *words)
    with pytest.raises(UserError, match=r"2 images cannot be read, more than data\.error_limit=1"):
        run(tmp_path / "run", *words, "data.on_error=skip", "data.error_limit=1")
    run(tmp_path / "run", *words, "data.on_error=skip", "data.error_limit=2")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    counts = [line["skipped_images"] for line in lines if "skipped_images" in line]
    assert counts[-1] == 2 and counts == sorted(counts)


def test_ranks_stop_together_over_the_limit_of_damaged_images(
    tmp_path: Path, data: tuple[str, ...], two_of_eight_damaged: tuple[str, ...]
) -> None:
    words = (*SMALL, *data, *two_of_eight_damaged, "data.on_error=skip", "data.error_limit=1", "trainer.devices=2")
    with pytest.raises(UserError, match=r"2 images cannot be read, more than data\.error_limit=1"):
        run(tmp_path / "run", *words)


@pytest.fixture
def two_of_eight_damaged(tiny_coco: Callable[..., tuple[Path, Path]]) -> tuple[str, ...]:
    """Words that train two steps of four, in which each of eight images is shown once."""
    annotations, images = tiny_coco(8, folder="damaged")
    for name in ("0003.png", "0006.png"):
        (images / name).write_bytes(b"not a picture")
    files = (f"dataset.train.annotations={annotations}", f"dataset.train.images={images}")
    return (*files, "model=fcos", "loss=focal", "schedule.steps=2")
