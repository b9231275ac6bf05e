"""Words become configs: recipes, what wins over what, and Hydra's refusals in one line."""

from collections.abc import Callable
from pathlib import Path

import hydra
import pytest
import yaml
from omegaconf import OmegaConf

CONF = Path(__file__).parents[2] / "conf"
OPTIONS = sorted(f"{path.parent.name}={path.stem}" for path in CONF.glob("*/*.yaml"))


def composed(*words: str) -> dict:
    with hydra.initialize_config_module("detloss.conf", version_base="1.3"):
        return OmegaConf.to_container(hydra.compose("train", overrides=list(words)), resolve=True)


@pytest.mark.parametrize("word", OPTIONS)
def test_every_option_composes_and_resolves(word: str) -> None:
    group, option = word.split("=")
    assert group == "experiment" or composed(word)[group].get("name", option) in (option, "default")


def test_lvis_brings_the_recipe_of_the_ecm_paper() -> None:
    """ECM (ECCV 2022), supplement F, and the authors' configuration of Mask R-CNN R-50 1x."""
    cfg = composed("dataset=lvis_v1", "model=maskrcnn", "loss=ecm")
    assert (cfg["backbone"]["depth"], cfg["backbone"]["weights"]) == (50, "imagenet")
    detector, schedule = cfg["model"]["detector"], cfg["schedule"]
    assert (detector["classifier"], detector["temperature"]) == ("cosine", 20)
    assert (detector["score_threshold"], detector["detections_per_image"]) == (1e-4, 300)
    assert cfg["sampler"]["threshold"] == 1e-3 and "RepeatFactor" in cfg["sampler"]["_target_"]
    assert (schedule["optimizer"], schedule["lr"], schedule["reference_batch"]) == ("sgd", 0.02, 16)
    assert (schedule["epochs"], schedule["clip_norm"], schedule["warmup_steps"]) == (12, 5, 10_000)
    assert cfg["dataset"]["scales"] == [640, 672, 704, 736, 768, 800]
    assert cfg["evaluator"]["name"] == "lvis"


@pytest.mark.parametrize("model", ["fasterrcnn", "maskrcnn", "retinanet", "fcos"])
def test_fixed_ap_lifts_the_detectors_limit_of_detections_per_image(model: str) -> None:
    words = ("dataset=lvis_v1", f"model={model}")
    assert composed(*words)["model"]["detector"]["detections_per_image"] == 300
    cfg = composed(*words, "evaluator=lvis_fixed")
    assert cfg["model"]["detector"]["detections_per_image"] == 10_000
    assert (cfg["evaluator"]["name"], cfg["evaluator"]["max_detections"]) == ("lvis_fixed", 10_000)


def test_the_command_line_wins_over_the_recipe_of_a_dataset() -> None:
    cfg = composed("dataset=lvis_v1", "backbone=resnet18", "sampler=uniform", "dataset.score_threshold=0.01")
    assert cfg["backbone"]["depth"] == 18
    assert "Uniform" in cfg["sampler"]["_target_"]
    assert cfg["model"]["detector"]["score_threshold"] == 0.01


def test_an_experiment_wins_over_the_defaults_and_loses_to_the_command_line() -> None:
    cfg = composed("experiment=ecm_table2", "model=retinanet", "loss=ecm")
    assert (cfg["dataset"]["name"], cfg["model"]["name"]) == ("lvis_v1", "retinanet")


def test_the_rate_follows_the_model_and_the_optimizer() -> None:
    assert composed("dataset=coco", "model=retinanet")["schedule"]["lr"] == 0.01
    assert composed("dataset=coco", "schedule.optimizer=adamw")["schedule"]["weight_decay"] == 0.05


def test_show_prints_the_resolved_config_without_torch(run_verbs: Callable) -> None:
    (result,), modules = run_verbs("show dataset=lvis_v1 model=maskrcnn loss=ecm")
    assert result.code == 0
    assert yaml.safe_load(result.out) == composed("dataset=lvis_v1", "model=maskrcnn", "loss=ecm")
    assert "torch" not in modules


def test_wrong_words_give_one_line_with_the_nearest_name(run_verbs: Callable) -> None:
    expected = {
        "show loss=emc": "no option 'emc' in config group 'loss'; did you mean 'ecm'? (see `detloss list loss`)",
        "show los=ecm": "no config key 'los'; did you mean 'loss'? (see `detloss show`)",
        "show schedule.stpes=3": "no config key 'schedule.stpes'; did you mean 'schedule.steps'?",
        "show loss=ecm loss.two_stage.measure_step=3": "did you mean 'loss.two_stage.measure_steps'?",
        "show ~sede": "no config key 'sede'; did you mean 'seed'?",
        "show seed=[": "'seed=[' is not group=option or key=value",
        "show loss": "'loss' is not group=option or key=value",
        "show loss=ce,ecm": "several values are for `detloss train -m`",
        "show schedule.optimizer=adam": "schedule.lr: Interpolation key 'default_lr.adam' not found",
        "show model=retinanet loss=ce": "loss=ce does not fit model=retinanet (one-stage); losses that do: alrp, ",
        "show schedule=decoupled model=fcos": "model=fcos is one-stage; try model=fasterrcnn",
        "show schedule=decoupled schedule.method=ctr": "expected crt or lws or disalign; did you mean 'crt'?",
        "train loss=emc": "did you mean 'ecm'?",
        "train -m loss=ce,emc": "did you mean 'ecm'?",
        "train -m loss=ce,alrp loss.proposals=9": "of a sweep have is written ++loss.proposals=...",
        "train --multirum loss=ce": "no such option: --multirum; did you mean '--multirun'?",
        "train --experimental-rerun=x.pickle": "no such option: --experimental-rerun=x.pickle",
    }
    results, modules = run_verbs(*expected)
    for (command, message), result in zip(expected.items(), results, strict=True):
        assert result.code == 2, command
        assert result.err.startswith("error: ") and result.err.count("\n") == 1, (command, result.err)
        assert message in result.err, command
    assert "torch" not in modules


def test_hydras_own_flags_work(run_verbs: Callable, tmp_path: Path) -> None:
    config, searchpath = run_verbs("train loss=ecm --cfg job", "train --info searchpath").results
    assert yaml.safe_load(config.out)["loss"]["name"] == "ecm"
    assert "pkg://detloss.conf" in searchpath.out
    assert list(tmp_path.iterdir()) == []
