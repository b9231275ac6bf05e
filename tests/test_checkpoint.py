"""Checkpoints: what may be resumed, and where a run stands."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from detloss import checkpoint
from detloss.checkpoint import Progress, RunState
from detloss.errors import UserError
from detloss.stats import ClassStats

STATS = ClassStats(("a", "b"), (1, 7), 10, np.array([5, 1]), np.array([4, 1]))


def state(stats: ClassStats = STATS, width: int = 3) -> RunState:
    torch.manual_seed(0)
    model = nn.Linear(width, 2)
    return RunState(
        model, torch.optim.SGD(model.parameters(), 0.1), torch.amp.GradScaler("cpu", enabled=False), stats
    )


def test_a_saved_state_comes_back_with_its_progress_and_generator(tmp_path: Path) -> None:
    first = state()
    first.progress.step, first.progress.best = 7, 0.5
    first.save(tmp_path / "a.ckpt")
    expected = torch.rand(3)
    second = state()
    second.resume(tmp_path / "a.ckpt")
    assert torch.equal(torch.rand(3), expected)
    assert (second.progress.step, second.progress.best) == (7, 0.5)


def test_other_annotations_are_refused_though_the_shapes_fit(tmp_path: Path) -> None:
    state().save(tmp_path / "a.ckpt")
    other = dataclasses.replace(STATS, instances=np.array([5, 2]))
    with pytest.raises(UserError, match="other annotations"):
        state(other).resume(tmp_path / "a.ckpt")


def test_a_model_of_another_shape_is_refused_by_key(tmp_path: Path) -> None:
    state().save(tmp_path / "a.ckpt")
    with pytest.raises(UserError, match="such as weight"):
        state(width=4).resume(tmp_path / "a.ckpt")


@pytest.mark.parametrize("content", [torch.zeros(3), {"model": 3, "meta": "{}"}, [1], {}])
def test_files_that_are_no_checkpoints_are_refused_in_one_line(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "x.ckpt")
    with pytest.raises(UserError, match=r"x\.ckpt"):
        checkpoint.load(tmp_path / "x.ckpt")


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "ran",)  # type: ignore[return-value]

    torch.save({"model": Payload()}, tmp_path / "x.ckpt")
    with pytest.raises(UserError, match="damaged, or not a file"):
        checkpoint.load(tmp_path / "x.ckpt")
    assert not (tmp_path / "ran").exists()


def test_an_evaluation_is_due_once_a_period_and_not_at_the_end() -> None:
    progress, due = Progress(), []
    for step in range(13):
        progress.step = step
        if progress.is_due(4, total=12):
            due.append(step)
            assert progress.note_score(0.1) == (step == 4)
            assert not progress.is_due(4, total=12)
    assert due == [4, 8]
    assert not progress.is_out_of(None) and progress.is_out_of(1) and not progress.is_out_of(2)
