"""``detloss sync`` as a user meets it, with a stand-in for ``wandb sync`` where something is to be uploaded."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.cli.conftest import Result

STUB = """
import json, os, sys
from pathlib import Path

folder = Path(sys.argv[-1])
with open(os.environ["STUB_LOG"], "a") as log:
    log.write(json.dumps([sys.argv[1:], os.environ["WANDB_MODE"]]) + "\\n")
print("wandb: Syncing 1 run(s):")
if "refused" in folder.name:
    print("wandb: ERROR 403 forbidden", file=sys.stderr)
else:
    (file,) = folder.glob("*.wandb")
    file.with_suffix(".wandb.synced").touch()
"""
"""Like the real one it leaves with 0 whatever happens, and marks what it has sent."""

SETUP = """
import os
from types import SimpleNamespace

def setup():
    return SimpleNamespace(settings=SimpleNamespace(base_url=os.environ["WANDB_BASE_URL"]))

def teardown():
    pass
"""


class NotFound(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    """The address of a server that knows nothing, but answers."""
    with HTTPServer(("127.0.0.1", 0), NotFound) as listening:
        Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()


def made_run(folder: Path, *offline: str) -> Path:
    """Write a run folder with offline runs of names."""
    folder.mkdir()
    (folder / "config.yaml").write_text("# detloss 0.1\nseed: 0\n")
    for name in offline:
        (folder / "wandb" / f"offline-run-{name}" / "files").mkdir(parents=True)
        (folder / "wandb" / f"offline-run-{name}" / f"run-{name}.wandb").write_bytes(bytes(2_500_000))
    return folder


def detloss(folder: Path, *words: str, **environment: str) -> Result:
    """Run ``detloss sync`` with a key, in offline mode; empty values are taken out of the environment."""
    given = {"WANDB_API_KEY": "0" * 40, "WANDB_MODE": "offline", "NETRC": str(folder / "no_netrc"), **environment}
    kept = {name: value for name, value in {**os.environ, **given}.items() if value}
    done = subprocess.run(
        [sys.executable, "-m", "detloss", "sync", *words],
        cwd=folder, env=kept, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    return Result(done.returncode, done.stdout, done.stderr)


def with_stub(folder: Path, *words: str, server: str) -> Result:
    package = folder / "stub" / "wandb"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").write_text(SETUP)
    (package / "__main__.py").write_text(STUB)
    return detloss(
        folder, *words, PYTHONPATH=str(package.parent), STUB_LOG=str(folder / "log"), WANDB_BASE_URL=server
    )


def uploads(folder: Path) -> list[tuple[list[str], str]]:
    """Return the words and the mode of each call of the stand-in."""
    log = folder / "log"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def test_every_offline_run_is_uploaded_in_its_order_and_none_of_them_twice(tmp_path: Path, server: str) -> None:
    made_run(tmp_path / "a", "20260102_000000-x", "20260101_000000-x")
    made_run(tmp_path / "b", "20260103_000000-y")
    made_run(tmp_path / "none")
    code, out, err = with_stub(tmp_path, "run=a", "run=b", "none", server=server)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "none: no offline W&B run",
        "a: offline-run-20260101_000000-x, 2.5 MB ...",
        "a: offline-run-20260101_000000-x uploaded",
        "a: offline-run-20260102_000000-x, 2.5 MB ...",
        "a: offline-run-20260102_000000-x uploaded",
        "b: offline-run-20260103_000000-y, 2.5 MB ...",
        "b: offline-run-20260103_000000-y uploaded",
    ]
    assert [(words[0], mode) for words, mode in uploads(tmp_path)] == [("sync", "online")] * 3
    assert all("--no-include-synced" in words for words, _ in uploads(tmp_path))
    code, out, _ = with_stub(tmp_path, "run=[ab]", server=server)
    assert code == 0 and out.splitlines() == ["a: uploaded before", "b: uploaded before"]
    assert len(uploads(tmp_path)) == 3
    assert all(any(folder.glob("*.wandb")) for folder in tmp_path.glob("?/wandb/*"))  # nothing is deleted


def test_an_online_run_is_uploaded_only_where_its_server_was_lost(tmp_path: Path, server: str) -> None:
    run = made_run(tmp_path / "a", "20260102_000000-x")
    for name in ("run-20260101_000000-x", "run-20260103_000000-x"):
        (run / "wandb" / name).mkdir()
        (run / "wandb" / name / "run-x.wandb").write_bytes(bytes(100))
    (run / "wandb" / "run-20260101_000000-x" / "unsent").touch()
    (run / "wandb" / "latest-run").symlink_to("run-20260101_000000-x")
    code, out, _ = with_stub(tmp_path, "run=a", server=server)
    assert code == 0
    assert [line.split()[1] for line in out.splitlines() if line.endswith("uploaded")] == [
        "run-20260101_000000-x",
        "offline-run-20260102_000000-x",
    ]
    assert "--include-online" in uploads(tmp_path)[0][0]


def test_a_refused_upload_says_why_and_the_other_runs_are_uploaded(tmp_path: Path, server: str) -> None:
    made_run(tmp_path / "a", "1-refused", "2-x")
    made_run(tmp_path / "b", "3-y")
    code, out, err = with_stub(tmp_path, "a", "b", server=server)
    assert code == 1
    assert err.splitlines() == ["error: a: offline-run-1-refused not uploaded: wandb: ERROR 403 forbidden"]
    assert "b: offline-run-3-y uploaded" in out and "2-x uploaded" not in out  # parts go in their order


def test_no_server_is_one_line_and_nothing_is_tried(tmp_path: Path) -> None:
    made_run(tmp_path / "a", "1-x")
    code, _, err = detloss(tmp_path, "run=a", WANDB_BASE_URL="http://127.0.0.1:9")
    assert code == 1
    (line,) = err.splitlines()
    assert line.startswith("error: nothing uploaded: http://127.0.0.1:9 does not answer")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no run to upload"),
        (["run="], "no run to upload"),
        (["run=nowhere"], "no run in nowhere"),
        (["run=empty"], "no run in empty"),
        (["run=x*"], "no folder of that pattern"),
        (["run=none"], "none holds no offline W&B run"),
    ],
)
def test_words_that_name_nothing_to_upload_are_refused_in_one_line(
    words: list[str], said: str, tmp_path: Path
) -> None:
    made_run(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    code, out, err = detloss(tmp_path, *words)
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert said in line


def test_without_a_key_nobody_is_asked_for_one(tmp_path: Path) -> None:
    made_run(tmp_path / "a", "1-x")
    code, _, err = detloss(tmp_path, "run=a", WANDB_API_KEY="")
    assert code == 2
    assert err.splitlines() == ["error: W&B has no key; run `wandb login`, or set WANDB_API_KEY"]


def test_a_run_that_is_still_training_is_not_uploaded(tmp_path: Path, server: str) -> None:
    run = made_run(tmp_path / "a", "1-x")
    code = "import sys\nfrom pathlib import Path\nfrom detloss.run_folder import locked\n"
    code += "with locked(Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as training:
        assert training.stdout is not None and training.stdout.readline()
        code_of_sync, _, err = with_stub(tmp_path, "run=a", server=server)
        training.communicate()
    assert code_of_sync == 2
    assert "another training is writing in a" in err
    assert uploads(tmp_path) == []
