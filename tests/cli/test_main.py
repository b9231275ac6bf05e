"""The program: help, version, exit codes, and how little it imports."""

from collections.abc import Callable

HEAVY = {"torch", "torchvision", "hydra", "omegaconf", "numpy", "wandb", "lvis", "pycocotools"}
VERBS = ("train", "eval", "calibrate", "predict", "plot", "stats", "show", "list", "doctor")


def test_help_names_every_verb_and_imports_nothing_heavy(run_verbs: Callable) -> None:
    (result,), modules = run_verbs("--help")
    assert result.code == 0
    assert all(f" {verb} " in result.out for verb in (*VERBS, "compare", "bench"))
    assert not HEAVY & modules


def test_the_help_of_each_verb_shows_config_groups_and_two_examples(run_verbs: Callable) -> None:
    results, modules = run_verbs(*(f"{verb} --help" for verb in VERBS), "bench train --help")
    for verb, result in zip((*VERBS, "bench train"), results, strict=True):
        assert result.code == 0
        assert "Config groups" in result.out, verb
        assert result.out.split("Examples")[1].count(f"detloss {verb}") == 2, verb
    assert "fasterrcnn fcos maskrcnn retinanet" in results[0].out
    assert not HEAVY & modules


def test_the_version_is_that_of_the_package(run_verbs: Callable) -> None:
    from detloss import __version__

    assert run_verbs("--version").results[0].out == f"detloss {__version__}\n"


def test_an_unknown_verb_or_option_exits_with_2(run_verbs: Callable) -> None:
    results = run_verbs("trian", "stats --frobnicate").results
    assert [result.code for result in results] == [2, 2]
    assert "train" in results[0].err


def test_words_that_fit_no_verb_give_one_line_that_says_what_to_try(run_python: Callable) -> None:
    main = "from detloss.cli.main import main; main()"
    for words, expected in [
        (["trian"], "Did you mean 'train'?"),
        (["stats", "--foo"], "No such option: --foo"),
        (["bench"], "Missing command"),
        (["bench", "train", "--steps", "x"], "'--steps'"),
    ]:
        code, out, err = run_python(main, *words)
        assert (code, out) == (2, "")
        assert err.startswith("error: ") and err.count("\n") == 1 and expected in err


def test_without_words_the_help_is_shown(run_python: Callable) -> None:
    code, out, _ = run_python("from detloss.cli.main import main; main()")
    assert code == 0 and "train" in out


def test_the_entry_point_leaves_with_one_line_and_the_exit_code(run_python: Callable) -> None:
    code, out, err = run_python("from detloss.cli.main import main; main()", "list", "los")
    assert (code, out) == (2, "")
    assert err == "error: no config group 'los'; did you mean 'loss'? (see `detloss list`)\n"


def test_detloss_runs_as_a_module(run_python: Callable) -> None:
    code = "import runpy, sys; sys.argv[0] = 'detloss'; runpy.run_module('detloss', run_name='__main__')"
    assert run_python(code, "list").out.startswith("backbone")
