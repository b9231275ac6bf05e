"""What the ranking losses are measured against, and the plot of it."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from detloss.bench_ranking import LOSSES, Problem, bench_ranking, loop, measure
from detloss.losses import ranking

CPU = torch.device("cpu")


@pytest.mark.parametrize("delta", [0.25, 1.0])
def test_the_loop_is_the_ranking_error_with_its_gradient(delta: float) -> None:
    logits, targets = Problem(20, 300, delta).tensors(CPU)
    expected, _ = ranking.rank_sort(logits, targets, delta)
    value = loop(logits, targets, delta)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=0.0)
    (gradient,), (wanted,) = (torch.autograd.grad(each, logits) for each in (value, expected))
    torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-7)


def test_a_problem_has_its_positives_first_and_as_many_negatives() -> None:
    logits, targets = Problem(2000, 8000, 0.5).tensors(CPU)
    assert (targets[:2000] > 0).all() and not targets[2000:].any() and logits.requires_grad
    assert logits[:2000].mean().item() == pytest.approx(0, abs=0.1)
    assert logits[2000:].mean().item() == pytest.approx(-3, abs=0.1)


def test_the_loop_is_left_out_at_the_hard_step_that_it_does_not_know() -> None:
    for delta, names in ((1.0, {"focal", "loop", *LOSSES}), (0.0, {"focal", *LOSSES})):
        problem = Problem(5, 50, delta)
        assert measure(problem, *problem.tensors(CPU), 1).keys() == names


def test_table_and_plot_are_made_for_every_combination(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    problems = [Problem(p, n, d) for p in (5, 10) for n in (50, 100) for d in (0.25, 1.0)]
    picture = tmp_path / "new" / "plot.png"
    bench_ranking(problems, repeats=1, device=CPU, picture=picture)
    rows = [line for line in capsys.readouterr().out.splitlines() if "RS" in line and "│" in line]
    assert len(rows) == len(problems)
    assert Image.open(picture).size[0] > 500
