"""quickstart and test, in an environment whose pip, detloss and tools only note how they are called."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PYTHON = """#!/bin/sh
if [ "$1" = -c ]; then exec {python} "$@"; fi
echo "$@" >>{log}
case "$*" in *"-m pytest"*) exit 3;; esac
"""


@pytest.fixture
def run_script(tmp_path: Path) -> Callable[..., tuple[int, list[str]]]:
    """A function that runs a script from elsewhere and returns its exit code and the calls so far."""
    binaries, log = tmp_path / "environment" / "bin", tmp_path / "log"
    binaries.mkdir(parents=True)
    for name, text in (("python", PYTHON), ("detloss", "#!/bin/sh\necho detloss $@ >>{log}\n")):
        (binaries / name).write_text(text.format(python=sys.executable, log=log))
        (binaries / name).chmod(0o755)

    def run(script: str, *arguments: str) -> tuple[int, list[str]]:
        environment = {**os.environ, "DETLOSS_VENV": str(binaries.parent)}
        done = subprocess.run(
            [str(ROOT / script), *arguments], cwd=tmp_path, env=environment, capture_output=True, timeout=60
        )
        return done.returncode, log.read_text().splitlines()

    return run


def installs(calls: list[str]) -> list[str]:
    return [call.split()[-1] for call in calls if "pip install" in call]


def test_quickstart_installs_once_and_trains_each_time(run_script: Callable) -> None:
    run_script("scripts/quickstart")
    code, calls = run_script("scripts/quickstart", "seed=1")
    assert code == 0
    assert installs(calls) == ["."]
    trained = [call for call in calls if call.startswith("detloss")]
    assert trained == ["detloss train loss=ecm model=maskrcnn", "detloss train loss=ecm model=maskrcnn seed=1"]


def test_the_tests_install_their_tools_too_and_pass_on_arguments_and_exit_code(run_script: Callable) -> None:
    code, calls = run_script("scripts/test", "-k", "ecm")
    assert code == 3
    assert installs(calls) == [".[dev]"]
    assert calls[-3:] == ["-m ruff check", "-m mypy detloss cli", "-m pytest -k ecm"]
    assert installs(run_script("scripts/quickstart")[1]) == [".[dev]"]  # what is there is reused


def test_continuous_integration_runs_the_tests(run_script: Callable) -> None:
    assert run_script(".ci/run")[1][-1] == "-m pytest"
