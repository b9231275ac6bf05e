"""Figures of a run: what is drawn is what the lines say, whatever is missing."""

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from detloss.errors import UserError
from detloss.gradients import ClassGradients
from detloss.plots import balance
from detloss.plots.balance import Balance, draw_classes, draw_heat_map, draw_ratios
from detloss.plots.history import Line, draw_average_precision, draw_history
from detloss.plots.run import plot_run

IMAGES = [3, 300, 40]
NAMES = ("rare thing", "frequent thing", "common thing")
CONFIG = """
dataset: {name: shapes, groups: [10, 100]}
model: {name: maskrcnn, stage: two_stage}
loss: {name: ecm, two_stage: {background_ratio: null}}
"""


def window(own: list[float], others: list[float], background: list[float]) -> ClassGradients:
    return ClassGradients(np.array(own), np.array(others), np.array(background))


WINDOWS = [
    window([1.0, 8.0, 0.0], [2.0, 1.0, 1.0], [2.0, 1.0, 3.0]),
    window([0.0, 4.0, 2.0], [1.0, 1.0, 0.5], [1.0, 1.0, 0.5]),
]


def made(windows: list[ClassGradients]) -> Balance:
    steps = [10 * (index + 1) for index in range(len(windows))]
    return Balance(steps, windows, NAMES, ("r", "f", "c"), np.array(IMAGES), None, "a run")


def drawn(figure: Figure, panel: int) -> dict[str, tuple[list[float], list[float]]]:
    lines = figure.axes[panel].get_lines()
    return {str(line.get_label()): (list(line.get_xdata()), list(line.get_ydata())) for line in lines}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text(CONFIG)
    stats = {"num_images": 400, "category_ids": [1, 2, 3], "names": NAMES, "images": IMAGES, "instances": IMAGES}
    (tmp_path / "stats.json").write_text(json.dumps(stats))
    lines = [
        {"step": 10, "loss": 2.0, "loss_classifier": 1.5, "lr": 0.01, "state/background_ratio": 2.0},
        {"step": 10, "gradient/ratio_min": 0.25, "gradient/ratio_max": 3.5, "gradient/box_norm": 0.1},
        {"step": 20, "loss": 1.0, "loss_classifier": 0.5, "lr": 0.0, "gradient/ratio_min": None},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = "".join(
        json.dumps({"step": 10 * (index + 1), **one.to_lists()}) + "\n" for index, one in enumerate(WINDOWS)
    )
    (tmp_path / "gradients.jsonl").write_text(text)
    return tmp_path


def test_a_runs_figures_are_png_and_svg(run: Path) -> None:
    paths = plot_run(run, run / "plot")
    names = {"history", "gradient_ratio", "gradient_heat_map", "gradient_classes"}
    assert {(path.stem, path.suffix) for path in paths} == {
        (name, kind) for name in names for kind in (".png", ".svg")
    }
    for path in paths:
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG" if path.suffix == ".png" else b"<?xml")


def test_ratios_are_by_group_and_go_on_where_a_group_has_no_positives() -> None:
    lines = drawn(draw_ratios(made(WINDOWS), []), 0)
    assert lines["rare"] == ([10], [4.0])
    assert lines["frequent"] == ([10, 20], [2 / 8, 2 / 4])
    assert lines["common"] == ([20], [0.5])
    assert lines["all classes"] == ([10, 20], [10 / 9, 5 / 6])


def test_rates_are_written_as_alrp_does(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    title = draw_ratios(made(WINDOWS), lines).axes[0].get_title()
    assert title == "a run; single steps from 1/4.000 to 3.500"


def test_the_heat_map_has_the_most_frequent_class_on_top_and_hides_what_is_undefined() -> None:
    figure = draw_heat_map(made(WINDOWS))
    shown = figure.axes[0].collections[0].get_array().reshape(3, 2)
    assert shown.mask.tolist() == [[False, False], [True, False], [False, True]]
    assert shown[0].tolist() == pytest.approx([0.25, 0.5])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [NAMES[1], NAMES[2], NAMES[0]]


def test_a_name_with_dollars_is_no_mathematics() -> None:
    one = Balance([1], WINDOWS[:1], ("$\\frac$", "b", "c"), ("r", "f", "c"), np.array(IMAGES), None, "$\\oops$")
    for figure in (draw_heat_map(one), draw_ratios(one, []), draw_classes(one)):
        figure.draw_without_rendering()


def test_many_windows_and_many_classes_are_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balance, "TIMES", 2)
    monkeypatch.setattr(balance, "ROWS", 2)
    one = made([*WINDOWS, WINDOWS[1]])
    steps, sums = one.over_time(2)
    assert steps == [20, 30]
    assert sums[0].own.tolist() == [1.0, 12.0, 2.0]
    shown = draw_heat_map(one).axes[0].collections[0].get_array().reshape(2, 2)
    # The frequent class shares its row with the common one: (2 + 2 + 4 + 1) / (8 + 4 + 2).
    assert shown[0, 0] == pytest.approx(9 / 14)


def test_sums_by_class_are_of_the_whole_run_beside_the_margins_of_ecm(run: Path) -> None:
    one = made(WINDOWS)
    figure = draw_classes(one)
    assert drawn(figure, 0)["own positives (pull)"][1] == [12.0, 2.0, 1.0]
    assert drawn(figure, 1)["measured"][1] == pytest.approx([4 / 12, 5 / 2, 6.0])
    assert not any("ECM" in label for label in drawn(figure, 1))


def test_the_history_has_every_term_and_the_rate() -> None:
    lines = [{"step": 1, "loss": 2.0, "loss_box_reg": 1.5, "lr": 0.1}, {"step": 2, "bbox/AP": 0.1, "loss": None}]
    figure = draw_history(lines, "a run")
    assert drawn(figure, 0) == {"sum": ([1.0], [2.0]), "box reg": ([1.0], [1.5])}
    assert next(iter(drawn(figure, 1).values())) == ([1.0], [0.1])


def test_a_run_without_a_probe_has_its_history(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "gradients.jsonl").unlink()
    assert {path.stem for path in plot_run(run, run / "plot")} == {"history"}
    assert "trainer.probe.every=null" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "{", "[1]\n", '{"loss": 1}\n'])
def test_damaged_metrics_are_one_line(run: Path, text: str) -> None:
    (run / "metrics.jsonl").write_text(text)
    with pytest.raises(UserError, match=r"metrics\.jsonl"):
        plot_run(run, run / "plot")
    assert not (run / "plot").exists()


@pytest.mark.parametrize(
    "text", ["", "{", '{"step": 1}\n', '{"step": 1, "own": [1], "others": [1], "background": [1]}\n']
)
def test_damaged_gradients_are_one_line(run: Path, text: str) -> None:
    (run / "gradients.jsonl").write_text(text)
    with pytest.raises(UserError, match=r"gradients\.jsonl"):
        plot_run(run, run / "plot")
    assert not (run / "plot").exists()


def test_average_precision_is_drawn_at_the_evaluations_by_group_and_not_at_all_without_one() -> None:
    lines: list[Line] = [
        {"step": 10, "loss": 2.0},
        {"step": 10, "bbox/AP": 0.25, "bbox/APr": None, "bbox/APf": 0.5},
        {"step": 20, "bbox/AP": 0.5, "bbox/APr": 0.125, "bbox/APf": 0.75},
    ]
    figure = draw_average_precision(lines, "a run")
    assert figure is not None and len(figure.axes) == 1
    assert drawn(figure, 0) == {
        "all classes": ([10, 20], [25, 50]),
        "rare": ([20], [12.5]),
        "frequent": ([10, 20], [50, 75]),
    }
    assert draw_average_precision(lines[:1], "a run") is None
    masks: list[Line] = [{"step": 20, "segm/AP": 0.5}]
    both = draw_average_precision([*lines, *masks], "a run")
    assert both is not None and drawn(both, 1) == {"all classes": ([20], [50])}
