"""``detloss report`` as a user meets it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.html_page import Page
from tests.reported_runs import write_scene, write_whole_run


@pytest.fixture
def runs(tmp_path: Path) -> None:
    """Run folders ce and gol, and one that is not evaluated yet."""
    annotations = write_scene(tmp_path)
    for name in ("ce", "gol", "new"):
        write_whole_run(tmp_path / "runs" / name, annotations, loss__name=name)
    (tmp_path / "runs/new/predictions.json").unlink()


@pytest.mark.usefixtures("runs")
def test_a_page_is_written_where_it_is_asked_for_or_in_outputs(run_verbs: Callable, tmp_path: Path) -> None:
    (here, there), _ = run_verbs(
        "report runs/ce runs/go* --draws 20 --metric AP -o page.html", "report runs/gol --draws 20"
    )
    assert here.code == there.code == 0, here.err + there.err
    assert here.out.startswith("wrote page.html (0.") and here.out.endswith(" MB)\n")
    assert "wrote outputs/report.html" in there.out
    assert Page((tmp_path / "page.html").read_text()).headings[0] == (1, "ce, gol on coco")
    assert Page((tmp_path / "outputs/report.html").read_text()).headings[0] == (1, "gol on coco")
    assert "runs 2/2" in here.err


@pytest.mark.usefixtures("runs")
def test_wrong_words_are_one_line_and_leave_nothing(run_verbs: Callable, tmp_path: Path) -> None:
    commands = {
        "report": "no run to report on",
        "report runs/nothing*": "no folder of that pattern",
        "report runs/cee": "did you mean 'runs/ce'",
        "report runs/new": "let its training finish",
        "report runs/ce -o page.txt": "expected a name that ends in .html",
        "report runs/ce -o nowhere/page.html": "no such folder as nowhere",
        "report runs/ce --metric APx": "--metric APx: expected some of AP, AP50",
        "report runs/ce --baseline runs/gol": "not among the runs compared",
    }
    before = sorted(path.name for path in tmp_path.iterdir())
    results, _ = run_verbs(*commands)
    for result, expected in zip(results, commands.values(), strict=True):
        assert result.code == 2 and expected in result.err and result.err.count("\n") == 1, result
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_the_help_has_two_examples_and_imports_nothing_heavy(run_verbs: Callable) -> None:
    (result,), modules = run_verbs("report --help")
    assert result.code == 0 and result.out.split("Examples")[1].count("detloss report") == 2
    assert not {"torch", "numpy", "omegaconf", "matplotlib", "jinja2"} & modules
