"""What a user may mistype must be refused in one line before anything starts."""

from collections.abc import Iterator, Sequence
from typing import Literal

import pytest
from hydra import compose, initialize_config_module

from detloss.errors import UserError
from detloss.settings import CHOICES, RULES, check_settings, misfit

EVALUATOR = {"evaluator.interpolation": "voc", "evaluator.group_of_weight": "openimages"}
"""The evaluators of settings that the default one does not have."""


def refuse(key: str, value: str) -> None:
    check_settings(compose("train", overrides=[f"evaluator={EVALUATOR.get(key, 'coco')}", f"{key}={value}"]))


@pytest.fixture(scope="module", autouse=True)
def hydra() -> Iterator[None]:
    with initialize_config_module("detloss.conf", version_base="1.3"):
        yield


@pytest.mark.parametrize("dataset", ["shapes", "coco", "lvis_v1"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_shipped_recipes_pass(dataset: str, optimizer: str) -> None:
    check_settings(compose("train", overrides=[f"dataset={dataset}", f"schedule.optimizer={optimizer}"]))


@pytest.mark.parametrize("evaluator", ["coco", "lvis", "lvis_fixed", "voc", "openimages"])
def test_the_shipped_evaluators_pass(evaluator: str) -> None:
    check_settings(compose("train", overrides=[f"evaluator={evaluator}"]))


def test_an_interpolation_may_be_a_number_as_yaml_reads_it() -> None:
    check_settings(compose("train", overrides=["evaluator=voc", "evaluator.interpolation=11"]))


@pytest.mark.parametrize("key", RULES)
@pytest.mark.parametrize("value", ["abc", "-1", "nan", "true"])
def test_a_value_of_the_wrong_kind_names_its_key_and_what_was_expected(key: str, value: str) -> None:
    with pytest.raises(UserError, match=rf"{key}=.*: expected a "):
        refuse(key, value)


@pytest.mark.parametrize("key", CHOICES)
def test_an_unknown_choice_lists_the_known_ones(key: str) -> None:
    with pytest.raises(UserError, match=rf"{key}=nothing: expected {CHOICES[key][0]} or "):
        refuse(key, "nothing")


def test_steps_and_epochs_together_are_refused() -> None:
    with pytest.raises(UserError, match="give one of them"):
        check_settings(compose("train", overrides=["schedule.epochs=2"]))


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        ("x", float, "a number"),
        (True, float, "a number"),
        (2, float, None),
        (2.5, int, "a whole number"),
        (None, float, "a number"),
        (None, float | None, None),
        ("x", float | None, "a number or null"),
        ("median", Literal["images", "instances"], "images | instances"),
        ("images", Literal["images", "instances"], None),
        ("x", Sequence[int], None),
        ("x", bool, "true or false"),
    ],
)
def test_a_value_is_compared_with_the_annotation_of_its_parameter(
    value: object, annotation: object, expected: str | None
) -> None:
    assert misfit(value, annotation) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=retinanet", "loss=focal", "dataset.classifier=tde"], "is one-stage"),
        (["loss=bags", "dataset.classifier=tde"], "grouped softmax.*try loss=ce"),
        (["dataset.jitter=[0.1,2.0]"], "dataset.crop=None belong together.*dataset.crop=1024"),
        (["dataset.crop=512"], "dataset.jitter=None and dataset.crop=512 belong together"),
        (["dataset.jitter=[2,1]", "dataset.crop=512"], r"dataset.jitter=\[2, 1\]: expected two factors"),
        (["dataset.jitter=[0,1]", "dataset.crop=512"], "expected two factors above 0"),
        (["dataset.jitter=3", "dataset.crop=512"], "expected two factors above 0"),
        (["loss=seesaw", "schedule=decoupled", "schedule.method=lws"], "first.loss=seesaw"),
    ],
)
def test_what_does_not_fit_together_is_refused_with_what_would(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_settings(compose("train", overrides=words))
