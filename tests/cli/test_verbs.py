"""The words of ``detloss eval`` and ``detloss predict`` reach the functions behind them."""

import json
from collections.abc import Callable

import pytest

RECORDED_CALL = """
import json, sys, types

def record(*arguments, **options):
    print(json.dumps([[str(argument) for argument in arguments], {k: str(v) for k, v in options.items()}]))

sys.modules["detloss.evaluate"] = types.SimpleNamespace(evaluate_run=record)
sys.modules["detloss.predict"] = types.SimpleNamespace(predict_images=record)
bench = lambda cfg, **options: record(cfg.loss.name, **options)
sys.modules["detloss.bench_train"] = types.SimpleNamespace(bench_train=bench)
from detloss.cli.main import main
main()
"""


@pytest.fixture
def call(run_python: Callable) -> Callable:
    def run(*words: str) -> list:
        code, out, err = run_python(RECORDED_CALL, *words)
        assert code == 0, err
        return json.loads(out)

    return run


def test_eval_separates_its_own_words_from_overrides(call: Callable) -> None:
    arguments, options = call(
        "eval", "run=outputs/x", "evaluator=coco", "predictions=p.json", "checkpoint=last", "figures=f"
    )
    assert arguments == ["outputs/x", "['evaluator=coco']"]
    assert options == {"checkpoint_name": "last", "predictions": "p.json", "figures": "f"}


def test_predict_writes_beside_the_run_unless_told_otherwise(call: Callable) -> None:
    arguments, options = call("predict", "run=outputs/x", "images=a.jpg", "score=0.5")
    assert arguments == ["outputs/x", "a.jpg", "outputs/x/predict"]
    assert (options["score"], options["checkpoint_name"], options["annotations"]) == ("0.5", "best", "None")


def test_bench_gets_the_composed_config(call: Callable) -> None:
    assert call("bench", "train", "loss=ecm") == [["ecm"], {"steps": "20", "against": "None"}]
    assert call("bench", "train", "--steps", "7", "loss=bce") == [["bce"], {"steps": "7", "against": "None"}]


def test_bench_composes_the_config_to_compare_with(call: Callable) -> None:
    words = ("loss=ecm", "trainer.workers=0", "--against", "loss=bce", "--against", "seed=3")
    loss, options = call("bench", "train", *words)
    assert loss == ["ecm"]
    assert "'name': 'bce'" in options["against"] and "'seed': 3" in options["against"]
    assert "'workers': 0" in options["against"]


def test_missing_and_malformed_words_are_named(run_verbs: Callable) -> None:
    results = run_verbs(
        "eval", "eval outputs/x", "predict run=outputs/x", "predict run=a images=b score=high"
    ).results
    assert [result.code for result in results] == [2, 2, 2, 2]
    messages = [
        "run= is missing",
        "'outputs/x' is not a key=value word",
        "images= is missing",
        "score=high: expected",
    ]
    assert all(message in result.err for message, result in zip(messages, results, strict=True))
