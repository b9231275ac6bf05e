"""The names of run folders."""

import re

from hypothesis import given
from hypothesis import strategies as st

from detloss.run_name import folder_name

CHOICES = {"dataset": "shapes", "model": "maskrcnn", "loss": "ecm", "backbone": "tiny"}


def test_a_name_is_the_choices_and_then_the_other_overrides_sorted() -> None:
    words = ["seed=0", "loss=ecm", "model=maskrcnn", "backbone=resnet18"]
    assert folder_name(CHOICES, words) == "shapes-maskrcnn-ecm,backbone=resnet18,seed=0"
    assert folder_name(CHOICES, reversed(words)) == folder_name(CHOICES, words)


def test_a_name_does_not_tell_where_a_run_computes() -> None:
    words = ["trainer.devices=2", "trainer.workers=0", "logger=wandb", "logger.project=x", "output_dir=/tmp/a"]
    assert folder_name(CHOICES, [*words, "+overwrite=true"]) == "shapes-maskrcnn-ecm"
    assert folder_name(CHOICES, ["trainer.precision=bf16"]) == "shapes-maskrcnn-ecm,trainer.precision=bf16"


@given(st.lists(st.text(), max_size=5))
def test_no_override_makes_a_name_that_leaves_the_folder_or_is_too_long(words: list[str]) -> None:
    name = folder_name(CHOICES, words)
    assert re.fullmatch(r"shapes-maskrcnn-ecm[A-Za-z0-9_.=+,-]*", name)
    assert len(name) <= 120


def test_long_names_that_differ_at_their_ends_stay_different() -> None:
    long = "x" * 200
    first, second = (folder_name(CHOICES, [f"init={long}{end}"]) for end in "ab")
    assert first != second and len(first) == len(second) == 120
