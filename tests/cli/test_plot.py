"""The loss playground through its verb: figures, and one line for what cannot be drawn."""

from collections.abc import Callable
from pathlib import Path


def test_losses_are_drawn_with_their_options_and_those_that_rank_get_a_line(
    run_verbs: Callable, tmp_path: Path
) -> None:
    (result,), _ = run_verbs("plot loss=seesaw,focal,alrp counts=500,20,3 output=drawn")
    assert result.code == 0, result.err
    assert "alrp is not drawn" in result.out
    names = {path.name for path in (tmp_path / "drawn").iterdir()}
    assert names == {f"loss_{of}.{kind}" for of in ("value", "gradient") for kind in ("png", "svg")}
    text = (tmp_path / "drawn" / "loss_gradient.svg").read_text()
    assert text.startswith("<?xml")


def test_wrong_words_are_one_line(run_verbs: Callable, tmp_path: Path) -> None:
    commands = {
        "plot": "expected run=FOLDER, or loss=",
        "plot run=a loss=ce": "expected run=FOLDER, or loss=",
        "plot run=nowhere": "no run in nowhere",
        "plot run=a counts=3": "counts=3: a run is drawn as it was",
        "plot loss=ecn": "did you mean 'ecm'",
        "plot loss=ecm counts=3,x": "counts=3,x: expected",
        "plot loss=ecm loss.two_stage.gama=2": "no config key",
        "plot loss=ap,alrp counts=3": "no loss of single rows",
    }
    results, _ = run_verbs(*commands)
    for result, expected in zip(results, commands.values(), strict=True):
        assert result.code == 2 and expected in result.err and result.err.count("\n") == 1, result
    assert not list(tmp_path.iterdir())
