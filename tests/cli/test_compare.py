"""``detloss compare`` as a user meets it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.comparison.made_up_runs import scene, write_run


@pytest.fixture
def runs(tmp_path: Path) -> None:
    """Run folders ce and ecm, with a better detector, and a copy of ce."""
    annotations = tmp_path / "instances_val.json"
    annotations.write_text(json.dumps(scene(np.random.default_rng(0))))
    write_run(tmp_path / "runs/ce", annotations, 0.4, 0, {})
    write_run(tmp_path / "runs/ecm", annotations, 0.9, 0, {"loss__name": "ecm"})
    write_run(tmp_path / "runs/copy", annotations, 0.4, 0, {})


@pytest.mark.usefixtures("runs")
def test_runs_are_compared_on_the_terminal_and_in_files(run_verbs: Callable, tmp_path: Path) -> None:
    (differs, same, one), modules = run_verbs(
        "compare runs/ce runs/ecm --metric AP,APr --draws 99 --classes -o table.tex",
        "compare runs/c* --metric AP --draws 99 --baseline runs/copy",
        "compare runs/ecm --draws 99",
    )
    assert differs.code == same.code == one.code == 0, differs.err + same.err + one.err
    assert "differs" in differs.out and "AP of classes, ecm less ce" in differs.out
    assert "wrote table.tex" in differs.out and (tmp_path / "table.tex").read_text().startswith(r"\begin{table}")
    assert "identical" in same.out and "less ce (copy)" in same.out
    assert "95% intervals" in one.out and "less" not in one.out
    assert not {"torch", "torchvision", "hydra"} & modules


@pytest.mark.usefixtures("runs")
def test_wrong_words_are_one_line(run_verbs: Callable, tmp_path: Path) -> None:
    commands = {
        "compare": "no run to compare",
        "compare runs/nothing*": "no folder of that pattern",
        "compare runs/ce runs/emc": "did you mean 'runs/ecm'",
        "compare runs/ce --metric APx": "--metric APx: expected some of AP, AP50",
        "compare runs/ce -o table.txt": "expected a name that ends in .csv",
        "compare runs/ce --baseline runs/ecm": "not among the runs compared",
    }
    results, _ = run_verbs(*commands)
    for result, expected in zip(results, commands.values(), strict=True):
        assert result.code == 2 and expected in result.err and result.err.count("\n") == 1, result
    assert sorted(path.name for path in tmp_path.iterdir()) == ["instances_val.json", "runs"]


def test_the_help_has_two_examples_and_imports_nothing_heavy(run_verbs: Callable) -> None:
    (result,), modules = run_verbs("compare --help")
    assert result.code == 0 and result.out.split("Examples")[1].count("detloss compare") == 2
    assert not {"torch", "numpy", "omegaconf"} & modules
