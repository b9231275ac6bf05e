"""The program as a user meets it: a process of its own, in an empty working directory."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

ONE_AFTER_ANOTHER = """
import contextlib, io, json, sys
from detloss.cli.main import main

results = []
for words in json.loads(sys.argv[1]):
    sys.argv = ["detloss", *words]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as leave:
            code = leave.code or 0
    results.append((code, out.getvalue(), err.getvalue()))
print(json.dumps({"results": results, "modules": sorted(sys.modules)}))
"""


class Result(NamedTuple):
    """The exit code and the two streams of a command."""

    code: int
    out: str
    err: str


class Results(NamedTuple):
    """What several commands gave, and the modules that were imported for them."""

    results: list[Result]
    modules: frozenset[str]


@pytest.fixture
def run_python(tmp_path: Path) -> Callable[..., Result]:
    """A function that runs Python code with arguments in ``tmp_path``."""

    def run(code: str, *arguments: str) -> Result:
        environment = {**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def run_verbs(run_python: Callable[..., Result]) -> Callable[..., Results]:
    """A function that runs several commands, one after another in one process (starting it is what takes time)."""

    def run(*commands: str) -> Results:
        code, out, err = run_python(ONE_AFTER_ANOTHER, json.dumps([command.split() for command in commands]))
        assert code == 0, err
        content = json.loads(out.splitlines()[-1])
        return Results([Result(*result) for result in content["results"]], frozenset(content["modules"]))

    return run
