"""``detloss train`` around a training that is made up: folders, sweeps, exit codes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

MADE_UP_TRAINING = """
import json, sys, types
from detloss.errors import TrainingFailed, UserError

def launch(cfg, folder, *, sweep=None):
    print(f"LAUNCHED seed={cfg.seed} sweep={sweep}")
    if cfg.seed == 1:
        raise UserError("there is no seed 1")
    if cfg.seed == 2:
        raise TrainingFailed("the loss is not finite")
    if cfg.seed == 3:
        raise KeyboardInterrupt
    if cfg.seed == 4:
        raise ZeroDivisionError("a defect")
    metrics = {"bbox": {"AP": 0.25, "APr": None}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return metrics

sys.modules["detloss.launch"] = types.SimpleNamespace(launch=launch)
sys.argv[0] = "detloss"
from detloss.cli.main import main
main()
"""


@pytest.fixture
def train(run_python: Callable) -> Callable:
    def run(*words: str) -> tuple[int, str, str]:
        return run_python(MADE_UP_TRAINING, "train", *words)

    return run


def test_a_run_writes_its_config_and_ends_with_its_metrics(train: Callable, tmp_path: Path) -> None:
    code, out, _ = train("loss=ecm", "seed=7", "trainer.devices=1")
    folder = Path("outputs/shapes-maskrcnn-ecm,seed=7")
    assert code == 0
    assert out.splitlines()[-1] == f"{folder}: bbox AP 0.250"
    text = (tmp_path / folder / "config.yaml").read_text()
    assert "# detloss train loss=ecm seed=7 trainer.devices=1" in text.splitlines()
    assert yaml.safe_load(text)["seed"] == 7
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outputs"]  # nothing of Hydra's


def test_the_same_command_again_says_how_to_go_on(train: Callable, tmp_path: Path) -> None:
    train()
    code, out, _ = train()
    assert code == 0
    assert "LAUNCHED" not in out
    assert "is finished; add overwrite=true to start again" in out
    assert "output_dir=outputs/shapes-maskrcnn-ce schedule.steps=800 to train longer" in out
    assert out.splitlines()[-1] == "outputs/shapes-maskrcnn-ce: bbox AP 0.250"
    assert "LAUNCHED" in train("output_dir=outputs/shapes-maskrcnn-ce", "schedule.steps=800")[1]


def test_a_run_folder_as_detloss_names_it_needs_no_quotes(train: Callable, tmp_path: Path) -> None:
    train("seed=7", "loss=bce")
    folder = "outputs/shapes-maskrcnn-bce,seed=7"
    assert train("seed=8", f"init={folder}")[0] == 0
    saved = next((tmp_path / "outputs").glob("shapes-maskrcnn-ce*/config.yaml"))
    assert yaml.safe_load(saved.read_text())["init"] == folder


def test_another_config_in_the_folder_is_refused_with_the_difference(train: Callable, tmp_path: Path) -> None:
    train("output_dir=here")
    code, out, err = train("output_dir=here", "loss=bce", "schedule.clip_norm=1")
    assert (code, out) == (2, "")
    assert "loss.name: ce -> bce" in err and "schedule.clip_norm: 5.0 -> 1" in err
    assert err.count("\n") == 1
    assert "LAUNCHED" in train("output_dir=here", "loss=bce", "schedule.clip_norm=1", "overwrite=true")[1]


def test_a_run_refused_at_its_start_can_be_mended_in_its_folder(train: Callable) -> None:
    assert train("output_dir=here", "seed=1")[0] == 2
    assert "LAUNCHED" in train("output_dir=here", "seed=0")[1]


def test_a_sweep_goes_on_after_failed_runs_and_exits_with_the_worst_code(train: Callable, tmp_path: Path) -> None:
    code, out, err = train("-m", "seed=1,2,0,4", "output_dir=all")
    assert code == 2
    assert [f"LAUNCHED seed={seed} sweep=seed=1_2_0_4" in out for seed in (1, 2, 0, 4)] == [False] * 4
    assert [f"LAUNCHED seed={seed} sweep=seed=1,2,0,4" in out for seed in (1, 2, 0, 4)] == [True] * 4
    assert "error: seed=1 output_dir=all: there is no seed 1" in err
    assert "4 runs, 3 failed" in out
    assert "  all/shapes-maskrcnn-ce,seed=0: bbox AP 0.250" in out.splitlines()
    assert (tmp_path / "all/shapes-maskrcnn-ce,seed=0/metrics.json").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all"]
    assert all(path.name.startswith("shapes-") for path in (tmp_path / "all").iterdir())


def test_a_run_that_fails_exits_with_1_in_one_line(train: Callable) -> None:
    code, _, err = train("seed=2")
    assert (code, err) == (1, "error: the loss is not finite\n")


def test_an_interrupted_run_exits_with_130_and_ends_the_sweep(train: Callable) -> None:
    code, out, _ = train("loss=ce", "-m", "seed=3,0")
    assert code == 130
    assert "LAUNCHED seed=0" not in out


def test_a_loss_that_does_not_fit_is_refused_before_any_work(train: Callable, tmp_path: Path) -> None:
    code, out, err = train("model=retinanet", "loss=ce")
    assert code == 2
    assert "losses that do: alrp, ap, bce, class_balanced, dr, ecm, efl, focal, ndcg, qfl, ranksort, vfl" in err
    assert "LAUNCHED" not in out and list(tmp_path.iterdir()) == []


def test_another_rank_of_torchrun_does_not_touch_the_folder(
    train: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train("seed=2")  # fails, and leaves a folder to resume in
    before = sorted(path.name for path in tmp_path.rglob("*"))
    monkeypatch.setenv("RANK", "1")
    assert "LAUNCHED" in train("seed=2")[1]
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_metrics_on_the_way_do_not_make_a_run_finished(train: Callable, tmp_path: Path) -> None:
    train("seed=2")
    metrics = tmp_path / "outputs/shapes-maskrcnn-ce,seed=2/metrics.json"
    metrics.write_text(json.dumps({"bbox": {"AP": 0.1}}))
    assert "LAUNCHED" in train("seed=2")[1]
