"""What may be resumed in a run folder, and whom it is closed to."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from detloss import run_folder
from detloss.errors import UserError
from detloss.run_folder import State, locked, prepare, state


def config(steps: int | None = 400, **changes: object) -> dict[str, object]:
    return {
        "seed": 0,
        "loss": {"name": "ecm"},
        "schedule": {"steps": steps, "epochs": None},
        "trainer": {"devices": 1, "accumulate": 1},
        "logger": {"name": "auto"},
        "output_dir": None,
        "overwrite": False,
        **changes,
    }


def finish(folder: Path) -> None:
    (folder / "metrics.json").write_text('{"bbox": {"AP": 0.25, "APr": null}}')
    run_folder.mark_finished(folder)


def test_a_new_run_writes_its_config_with_a_header(tmp_path: Path) -> None:
    assert prepare(tmp_path, config(), overwrite=False, command="detloss train\nloss=ecm") is State.NEW
    text = (tmp_path / "config.yaml").read_text()
    assert text.startswith("# detloss ") and "# detloss train loss=ecm\n" in text
    assert yaml.safe_load(text) == config()


def test_the_same_config_resumes_wherever_it_computes(tmp_path: Path) -> None:
    prepare(tmp_path, config(), overwrite=False)
    elsewhere = config(trainer={"devices": 4, "accumulate": 1}, logger={"name": "jsonl"}, output_dir="x")
    assert state(tmp_path, elsewhere) is State.RESUME


def test_another_config_is_refused_with_keys_and_values(tmp_path: Path) -> None:
    prepare(tmp_path, config(), overwrite=False)
    with pytest.raises(UserError, match=r"loss\.name: ecm -> ce, seed: 0 -> 1\)"):
        state(tmp_path, config(seed=1, loss={"name": "ce"}))
    with pytest.raises(UserError, match=r"new: \(absent\) -> 1"):
        state(tmp_path, config(new=1))
    with pytest.raises(UserError, match=r"schedule\.steps: 400 -> 300"):
        state(tmp_path, config(steps=300))


def test_only_a_marked_run_is_finished_and_a_longer_schedule_goes_on(tmp_path: Path) -> None:
    prepare(tmp_path, config(), overwrite=False)
    (tmp_path / "metrics.json").write_text("{}")
    assert state(tmp_path, config()) is State.RESUME
    finish(tmp_path)
    assert state(tmp_path, config()) is State.FINISHED
    assert prepare(tmp_path, config(steps=800), overwrite=False) is State.RESUME
    assert state(tmp_path, config(steps=800)) is State.RESUME  # no longer finished
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["schedule"]["steps"] == 800


def test_a_refused_run_leaves_no_folder_and_a_begun_one_keeps_its_own(tmp_path: Path) -> None:
    with locked(tmp_path / "refused"):
        pass
    assert not (tmp_path / "refused").exists()
    (tmp_path / "mine").mkdir()
    with locked(tmp_path / "mine"):
        pass
    assert (tmp_path / "mine").is_dir()
    with locked(tmp_path / "begun"):
        (tmp_path / "begun" / "config.yaml").touch()
    assert (tmp_path / "begun" / "config.yaml").exists()


def test_overwrite_deletes_what_detloss_writes_and_nothing_else(tmp_path: Path) -> None:
    prepare(tmp_path, config(), overwrite=False)
    finish(tmp_path)
    for name in ("last.ckpt", "best.ckpt", "metrics.jsonl", "per_class.csv", "predictions.npz", "stats.json"):
        (tmp_path / name).write_text("ours")
    (tmp_path / "predictions.rank0").mkdir()
    (tmp_path / "predictions.rank0" / "score").write_text("ours, cut off")
    (tmp_path / "thesis.tex").write_text("not ours")
    (tmp_path / "pretrained.ckpt").write_text("not ours")
    assert prepare(tmp_path, config(seed=1), overwrite=True) is State.NEW
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "pretrained.ckpt", "thesis.tex"]


def test_a_folder_with_results_of_unknown_origin_is_refused(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_text("whose?")
    with pytest.raises(UserError, match=r"holds last\.ckpt but no config\.yaml"):
        state(tmp_path, config())


def test_a_file_cannot_be_a_run_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write in the run folder"), locked(tmp_path / "file"):
        pass
    with pytest.raises(UserError, match="is a file"):
        state(tmp_path / "file", config())


def test_two_processes_cannot_train_in_one_folder(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from detloss.errors import UserError\n"
        "from detloss.run_folder import locked\n"
        "try:\n"
        "    with locked(Path(sys.argv[1])): print('free')\n"
        "except UserError as error: print(error)"
    )

    def other_process() -> str:
        return subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
        ).stdout

    with locked(tmp_path):
        assert "another training is writing in" in other_process()
    assert other_process() == "free\n"


def test_a_saved_config_comes_back(tmp_path: Path) -> None:
    saved = config(rate=1e-05, text="1e5", scales=[640, 800], nothing=None)
    prepare(tmp_path, saved, overwrite=False)
    assert run_folder.load_config(tmp_path) == saved


def test_a_missing_run_names_the_nearest_one(tmp_path: Path) -> None:
    prepare_in = tmp_path / "shapes-maskrcnn-ecm"
    prepare_in.mkdir()
    prepare(prepare_in, config(), overwrite=False)
    with pytest.raises(UserError, match=r"did you mean '.*/shapes-maskrcnn-ecm'\?"):
        run_folder.load_config(tmp_path / "shapes-maskrcn-ecm")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: ${oc.env:HOME}", "expected plain values"),
        ("a: {b: [1, '${oc.env:HOME}']}", "expected plain values"),
        ("seed: !!python/object/apply:os.system ['true']", "not a plain YAML file"),
        ("seed: [", "not a plain YAML file"),
        ("- 1", "holds a list"),
    ],
)
def test_a_strangers_config_can_neither_run_code_nor_read_the_environment(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        run_folder.load_config(tmp_path)


def test_metrics_that_are_missing_or_broken_are_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        run_folder.read_metrics(tmp_path)
    finish(tmp_path)
    assert run_folder.read_metrics(tmp_path) == {"bbox": {"AP": 0.25, "APr": None}}
