"""The record of a run: metrics.jsonl and gradients.jsonl, and nothing else unless it is asked for."""

import json
from pathlib import Path

import numpy as np

from detloss.evaluation.result import Evaluation
from detloss.gradients import ClassGradients
from detloss.loggers import JsonLines


def test_a_resumed_log_drops_the_lines_that_are_written_again_and_a_line_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 3}\n{"step": 2, "loss": 2}\n{"step": 3, "lo')
    log = JsonLines(path, first_step=1)
    log.log(2, {"loss": float("nan")})
    log.finish(0)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"step": 1, "loss": 3},
        {"step": 2, "loss": None},
    ]


def test_gradients_by_class_have_a_file_of_their_own_and_an_evaluation_is_a_line(tmp_path: Path) -> None:
    log = JsonLines(tmp_path / "metrics.jsonl", first_step=0)
    log.log_gradients(3, {"gradient/ratio": 1.5}, ClassGradients(*np.array([[1.0, 0.0], [0.5, 2.0], [1.0, 1.0]])))
    log.log_evaluation(3, Evaluation({"bbox": {"AP": 0.25, "APr": None}, "segm": {"AP": 0.125}}, ()))
    log.finish(0)
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [
        {"step": 3, "gradient/ratio": 1.5},
        {"step": 3, "bbox/AP": 0.25, "bbox/APr": None, "segm/AP": 0.125},
    ]
    assert json.loads((tmp_path / "gradients.jsonl").read_text()) == {
        "step": 3,
        "own": [1, 0],
        "others": [0.5, 2],
        "background": [1, 1],
    }
