"""W&B is never a reason for a training to stop, or to wait for long."""

import errno
import socket
import time
from pathlib import Path
from threading import Event

import pytest

from detloss import weights_and_biases
from tests.conftest import write_tiny_coco
from tests.reference.wandb_file import offline_runs
from tests.weights_and_biases.conftest import finished_without_wandb, said, train


def test_a_disabled_wandb_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    run = finished_without_wandb(tmp_path)
    assert not (run / "wandb").exists() and not (run / "wandb.id").exists()


def test_a_run_that_does_not_finish_takes_in_nothing_of_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_tiny_coco(tmp_path / "tiny")
    with monkeypatch.context() as patch:
        patch.setattr(weights_and_biases.wandb.Run, "finish", full_disk)
        train(tmp_path / "first", data, "model=fasterrcnn", "schedule.steps=1")
    second = train(tmp_path / "second", data, "model=fasterrcnn", "schedule.steps=1")
    (logged,) = offline_runs(second)
    assert logged.curve("loss").keys() == {1}
    assert logged.ids == {(second / "wandb.id").read_text()}


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def hang(*_: object, **__: object) -> None:
    Event().wait(600)


def test_a_wandb_that_cannot_start_leaves_the_numbers_and_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(weights_and_biases.wandb, "init", full_disk)
    finished_without_wandb(tmp_path)
    assert said(capsys) == ["W&B is off: [Errno 28] No space left on device"]


def test_a_run_that_cannot_be_finished_is_marked_for_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(weights_and_biases.wandb.Run, "finish", full_disk)
    run = finished_without_wandb(tmp_path)
    (line,) = said(capsys)
    assert line == f"W&B: [Errno 28] No space left on device; `detloss sync run={run}` sends the rest"
    assert len(list(run.glob("wandb/offline-run-*/unsent"))) == 1


@pytest.mark.parametrize("name", ["log", "define_metric"])
def test_a_wandb_that_fails_later_is_said_once_and_the_run_is_whole(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(weights_and_biases.wandb.Run, name, full_disk)
    finished_without_wandb(tmp_path)
    (line,) = said(capsys)
    assert line.startswith("W&B: [Errno 28] No space left on device; the training goes on")


@pytest.mark.parametrize(
    "name", ["figure_image", "example_image", "telling_images", "read_balance", "class_table"]
)
def test_a_picture_that_cannot_be_drawn_costs_only_itself(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(weights_and_biases, name, full_disk)
    run = finished_without_wandb(tmp_path)
    assert len(said(capsys)) == 1
    (logged,) = offline_runs(run)
    assert logged.exit_codes == [0]
    assert logged.curve("bbox/AP").keys() == {2}
    assert "bbox/precision_recall_table/path" in {key for row in logged.history for key in row}


def test_a_wandb_that_does_not_finish_holds_the_end_of_a_training_for_a_bounded_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(weights_and_biases.wandb.Run, "finish", hang)
    monkeypatch.setattr(weights_and_biases, "FINISH_TIMEOUT", -9.0)
    finished_without_wandb(tmp_path)
    (line,) = said(capsys)
    assert "did not finish within" in line


@pytest.mark.parametrize("server", ["refuses", "says nothing"])
def test_a_server_that_does_not_answer_holds_the_start_for_a_bounded_time_and_the_run_is_offline(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if server == "says nothing":
            listener.listen()
        go_online(monkeypatch, f"http://127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setattr(weights_and_biases, "INIT_TIMEOUT", 2.0)
        start = time.monotonic()
        run = finished_without_wandb(tmp_path)
    assert time.monotonic() - start < 40
    (line,) = said(capsys)
    assert line.startswith("W&B is offline: ") and f"`detloss sync run={run}`" in line
    (logged,) = offline_runs(run)
    assert logged.exit_codes == [0] and logged.curve("loss").keys() == {1, 2}


def test_a_malformed_key_means_an_offline_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    go_online(monkeypatch, "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "short")
    run = finished_without_wandb(tmp_path)
    (line,) = said(capsys)
    assert line.startswith("W&B is offline: ")
    assert len(offline_runs(run)) == 1


def go_online(monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    """Let W&B try a server anew: it keeps the environment of its first run."""
    weights_and_biases.wandb.teardown()
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", server)
