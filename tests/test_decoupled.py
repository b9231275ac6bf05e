"""Two-step training: what moves in stage 2, where it starts, and that neither stage is done twice."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf

from detloss import build, checkpoint, run_folder
from detloss.data.files import dataset_files
from detloss.decoupled import first_stage
from detloss.errors import TrainingFailed, UserError
from detloss.evaluate import evaluate_run
from detloss.evaluation.predictions import read_predictions
from detloss.launch import launch
from detloss.losses.coder import Sigmoid, Softmax
from detloss.models.second_stage import DisAlign, LearnableScaling

SMALL = (
    "dataset=coco",
    "backbone=tiny",
    "backbone.channels=32",
    "schedule.batch_size=4",
    "schedule.lr=0.01",
    "schedule.warmup_steps=0",
    "dataset.scales=null",
    "dataset.eval_scale=64",
    "dataset.score_threshold=0",
    "trainer.workers=0",
    "trainer.log_every=1",
    "trainer.device=cpu",
    "logger=jsonl",
)
SECOND = ("schedule=decoupled", "schedule.decay=step")
CLASSIFIER = "roi_heads.box_predictor.cls_score"
LEARNS = {
    "crt": {"weight", "bias"},
    "lws": {"scale"},
    "disalign": {"scale", "bias", "confidence.weight", "confidence.bias"},
}


@pytest.fixture
def data(tiny_coco: Callable[..., tuple[Path, Path]]) -> tuple[str, ...]:
    return words_of(*tiny_coco(8))


def words_of(annotations: Path, images: Path) -> tuple[str, ...]:
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


def run(folder: Path, *words: str) -> DictConfig:
    """Train in ``folder`` and leave the config there, as the command line does."""
    cfg = config(*SMALL, *words)
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text("# detloss\n" + OmegaConf.to_yaml(cfg, resolve=True))
    launch(cfg, folder)
    return cfg


def first_run(folder: Path, *words: str) -> Path:
    run(folder, "schedule=quick", "schedule.steps=2", *words)
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(checkpoint.load(folder / "last.ckpt").model)


def scores(folder: Path) -> list[tuple[object, ...]]:
    rows = read_predictions(folder / "predictions.npz")
    return [(row["image_id"], row["category_id"], row["score"]) for row in rows]


@pytest.mark.parametrize("method", LEARNS)
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_only_what_the_method_learns_moves(tmp_path: Path, data: tuple[str, ...], method: str, norm: str) -> None:
    words = (*data, "model=maskrcnn", f"backbone.norm={norm}")
    first = first_run(tmp_path / "first", *words)
    run(tmp_path / "second", *words, *SECOND, "schedule.steps=2", f"schedule.method={method}", f"init={first}")
    before, after = weights(first), weights(tmp_path / "second")
    if method != "crt":
        before = {name.replace("cls_score.", "cls_score.classifier."): value for name, value in before.items()}
    moved = {name for name in after if name not in before or not torch.equal(before[name], after[name])}
    assert moved == {f"{CLASSIFIER}.{name}" for name in LEARNS[method]}
    gone = {name.rpartition(".")[2] for name in before.keys() - after.keys()}
    assert gone == ({"num_batches_tracked"} if norm == "batch" else set())
    saved = checkpoint.load(tmp_path / "second" / "last.ckpt")
    assert len(saved.optimizer["param_groups"][0]["params"]) == len(LEARNS[method])  # type: ignore[index]
    if method != "crt":  # what it learns did move from its start
        scale = after[f"{CLASSIFIER}.scale"]
        assert not torch.equal(scale, torch.ones_like(scale))


@pytest.mark.parametrize("method", LEARNS)
def test_stage_2_starts_from_the_scores_of_stage_1_and_crt_from_a_new_classifier(
    tmp_path: Path, data: tuple[str, ...], method: str
) -> None:
    words = (*data, "model=fasterrcnn", "backbone.norm=group", "dataset.classifier=cosine")
    first = first_run(tmp_path / "first", *words)
    cfg = config(*SMALL, *words, *SECOND, f"schedule.method={method}", f"init={first}")
    stats = checkpoint.load(first / "last.ckpt").stats
    torch.manual_seed(1)
    begun = build.detector(cfg, stats).eval()
    ended = build.detector(run_folder.load_config(first), stats, load=False).eval()
    ended.load_state_dict(weights(first))
    image = build.validation_set(cfg, dataset_files(cfg.dataset))[0][0] / 255
    (found,), (expected,) = begun([image]), ended([image])
    same = {name: torch.equal(found[name], expected[name]) for name in ("boxes", "labels", "scores")}
    assert all(same.values()) == (method != "crt"), same


def test_batch_norm_goes_on_as_it_predicted_in_stage_1(tmp_path: Path, data: tuple[str, ...]) -> None:
    first = first_run(tmp_path / "first", *data, "model=fasterrcnn", "backbone.norm=batch")
    cfg = config(*SMALL, *data, "model=fasterrcnn", *SECOND, "backbone.norm=batch", f"init={first}")
    stats = checkpoint.load(first / "last.ckpt").stats
    begun = build.detector(cfg, stats).train()
    ended = build.detector(run_folder.load_config(first), stats, load=False).eval()
    ended.load_state_dict(weights(first))
    images = torch.rand(2, 3, 64, 64)
    ours, theirs = begun.get_submodule("backbone")(images), ended.get_submodule("backbone")(images)
    for level in theirs:
        torch.testing.assert_close(ours[level], theirs[level], rtol=1e-4, atol=1e-5)


def test_without_init_stage_1_is_trained_once_by_its_own_loss_and_sampler(
    tmp_path: Path, data: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    words = (*data, "model=fasterrcnn", *SECOND, "schedule.method=disalign", "loss=grw", "sampler=class_aware")
    words = (*words, "schedule.first.steps=2")
    run(tmp_path / "run", *words, "schedule.steps=1")
    stage1 = tmp_path / "run" / "stage1"
    assert checkpoint.load(stage1 / "last.ckpt").progress.step == 2
    cfg = run_folder.load_config(stage1)
    assert (cfg.loss.name, cfg.sampler._target_, "method" in cfg.schedule) == (
        "ce", "detloss.data.samplers.Uniform", False,
    )  # fmt: skip
    apart = first_run(tmp_path / "apart", *data, "model=fasterrcnn", "schedule.decay=step")
    ours, theirs = weights(stage1), weights(apart)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)

    written = (stage1 / "last.ckpt").stat().st_mtime_ns
    capsys.readouterr()
    (tmp_path / "run" / "last.ckpt").unlink()  # as if stopped before stage 2 saved anything
    run(tmp_path / "run", *words, "schedule.steps=1")
    assert (stage1 / "last.ckpt").stat().st_mtime_ns == written
    run(tmp_path / "run", *words, "schedule.steps=2")  # longer: stage 2 alone goes on
    assert (stage1 / "last.ckpt").stat().st_mtime_ns == written
    assert checkpoint.load(tmp_path / "run" / "last.ckpt").progress.step == 2


def test_a_stopped_stage_1_goes_on(tmp_path: Path, data: tuple[str, ...]) -> None:
    words = (*data, "model=fasterrcnn", *SECOND, "schedule.steps=1")
    run(tmp_path / "whole", *words, "schedule.first.steps=3")
    run(tmp_path / "parts", *words, "schedule.first.steps=1")
    stage1 = tmp_path / "parts" / "stage1"
    # As if it had been stopped after its first step of three.
    (stage1 / run_folder.FINISHED).unlink()
    (tmp_path / "parts" / "last.ckpt").unlink()
    text = (stage1 / "config.yaml").read_text()
    assert "\n  steps: 1\n" in text
    (stage1 / "config.yaml").write_text(text.replace("\n  steps: 1\n", "\n  steps: 3\n"))
    run(tmp_path / "parts", *words, "schedule.first.steps=3")
    for folder in ("stage1", "."):
        whole, parts = weights(tmp_path / "whole" / folder), weights(tmp_path / "parts" / folder)
        assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.parametrize("method", LEARNS)
def test_stage_2_resumed_equals_one_that_never_stopped_bit_by_bit(
    tmp_path: Path, data: tuple[str, ...], method: str
) -> None:
    first = first_run(tmp_path / "first", *data, "model=fasterrcnn")
    words = (*data, "model=fasterrcnn", *SECOND, f"schedule.method={method}", f"init={first}")
    run(tmp_path / "whole", *words, "schedule.steps=3")
    run(tmp_path / "parts", *words, "schedule.steps=1")
    run(tmp_path / "parts", *words, "schedule.steps=3")
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    evaluate_run(tmp_path / "parts", [], checkpoint_name="last", predictions=None)
    assert scores(tmp_path / "parts" / "eval") == scores(tmp_path / "whole")


def test_two_ranks_train_both_stages(tmp_path: Path, data: tuple[str, ...]) -> None:
    words = (*data, "model=fasterrcnn", *SECOND, "schedule.method=disalign", "loss=grw", "trainer.devices=2")
    words = (*words, "schedule.steps=2", "schedule.first.steps=2")
    run(tmp_path / "run", *words)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2]
    assert checkpoint.load(tmp_path / "run" / "stage1" / "last.ckpt").progress.step == 2


def test_overwrite_throws_stage_1_away_too(tmp_path: Path, data: tuple[str, ...]) -> None:
    words = (*data, "model=fasterrcnn", *SECOND, "schedule.steps=1", "schedule.first.steps=1")
    cfg = run(tmp_path / "run", *words)
    content = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(content, dict)
    plain = {str(key): value for key, value in content.items()}
    run_folder.prepare(tmp_path / "run", plain, overwrite=True)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.yaml"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["schedule.method=ctr"], r"schedule\.method=ctr: expected crt or lws or disalign; did you mean 'crt'"),
        (["schedule.method=null"], r"schedule\.method=None: expected crt"),
        (["model=fcos"], r"two-stage models, and model=fcos is one-stage; try model=fasterrcnn"),
        (
            ["schedule.method=lws", "dataset.classifier=tde"],
            r"dataset\.classifier=tde .* try schedule\.method=crt",
        ),
        (["schedule.first.steps=0"], r"schedule\.first\.steps=0: expected a whole number"),
        (["schedule.first.epochs=2"], r"schedule\.first\.steps=400 and epochs=2: give one of them"),
    ],
)
def test_wrong_words_are_refused_before_anything_starts(tmp_path: Path, words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        launch(config("schedule=decoupled", *words), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_start_that_does_not_fit_is_refused(
    tmp_path: Path, data: tuple[str, ...], tiny_coco: Callable[..., tuple[Path, Path]]
) -> None:
    first = first_run(tmp_path / "first", *data, "model=fasterrcnn")
    lws = ("model=fasterrcnn", *SECOND, "schedule.method=lws", "schedule.steps=1")
    with pytest.raises(UserError, match=r"logits are for Softmax and not.*Sigmoid; try schedule\.method=crt"):
        run(tmp_path / "other loss", *data, *lws, "loss=bce", f"init={first}")
    with pytest.raises(UserError, match=r"stage 1, whose scores are softmax and not.*sigmoid"):
        run(tmp_path / "other first loss", *data, *lws, "loss=bce")
    with pytest.raises(UserError, match=r"stage 1 with loss@schedule\.first\.loss=bags, .*GroupedSoftmax"):
        bags = ("loss=bags", "loss@schedule.first.loss=bags", "schedule.first.loss.two_stage.bins=[1,2]")
        run(tmp_path / "other first loss", *data, *lws, *bags)
    assert not (tmp_path / "other first loss" / "stage1").exists()
    run(tmp_path / "crt", *data, *lws, "loss=bce", "schedule.method=crt", f"init={first}")

    run(tmp_path / "lws", *data, *lws, f"init={first}")
    with pytest.raises(UserError, match=r"lacks .*cls_score\.weight.*goes on from an ordinary run"):
        run(tmp_path / "twice", *data, *lws, f"init={tmp_path / 'lws'}")

    annotations, images = tiny_coco(4, folder="other")
    content = json.loads(annotations.read_text())
    content["categories"].append({"id": 99, "name": "another"})
    annotations.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"5 other classes than the 6 of this training set"):
        run(tmp_path / "other classes", *words_of(annotations, images), *lws, f"init={first}")


def test_a_refused_stage_1_leaves_nothing(tmp_path: Path, data: tuple[str, ...]) -> None:
    words = (*data, "model=fasterrcnn", *SECOND, "schedule.steps=1", "schedule.first.steps=1")
    with pytest.raises(UserError, match="split evenly"):
        run(tmp_path / "run", *words, "trainer.accumulate=3")
    assert not (tmp_path / "run" / "stage1").exists()
    with pytest.raises(TrainingFailed):
        run(tmp_path / "run", *words, "schedule.lr=1e30", "schedule.first.steps=9", "schedule.clip_norm=null")
    assert (tmp_path / "run" / "stage1" / "config.yaml").exists()


def test_disalign_is_its_formula_on_the_columns_of_the_classes() -> None:
    torch.manual_seed(0)
    for coder in (Softmax(3), Sigmoid(3)):
        classifier = torch.nn.Linear(5, coder.num_logits).double()
        layer = DisAlign(classifier, coder, 5).double()
        features = torch.randn(4, 5, dtype=torch.float64)
        assert torch.equal(layer(features), classifier(features))
        for parameter in (layer.scale, layer.bias, layer.confidence.weight):
            torch.nn.init.normal_(parameter)
        logits = layer(features)
        for row, z in enumerate(classifier(features).tolist()):
            inner = features[row] @ layer.confidence.weight[0] + layer.confidence.bias[0]
            trust = 1 / (1 + torch.exp(-inner)).item()
            for column in range(3):
                aligned = layer.scale[column].item() * z[column] + layer.bias[column].item()
                z[column] = trust * aligned + (1 - trust) * z[column]
            assert logits[row].tolist() == pytest.approx(z, rel=1e-10)


def test_scaling_multiplies_every_logit() -> None:
    layer = LearnableScaling(torch.nn.Identity(), Softmax(2))
    logits = torch.tensor([[1.0, -2.0, 3.0]])
    assert torch.equal(layer(logits), logits)
    with torch.no_grad():
        layer.scale.copy_(torch.tensor([2.0, 3.0, 0.5]))
    assert layer(logits).tolist() == [[2.0, -6.0, 1.5]]


@pytest.mark.parametrize(("first", "second"), [("ce", "loce"), ("loce", "ce")])
def test_stage_1_gets_the_feature_memory_of_its_own_loss(first: str, second: str) -> None:
    words = [*SECOND, "model=fasterrcnn", f"loss={second}", f"loss@schedule.first.loss={first}"]
    cfg = compose("train", overrides=words)
    assert (cfg.model.detector.feature_memory is None) == (second == "ce")
    assert (first_stage(cfg).model.detector.feature_memory is None) == (first == "ce")
