"""What a user may mistype must be refused in one line before anything starts."""

from collections.abc import Iterator

import pytest
from hydra import compose, initialize_config_module

from detloss.errors import UserError
from detloss.settings import CHOICES, RULES, check_settings


@pytest.fixture(scope="module", autouse=True)
def hydra() -> Iterator[None]:
    with initialize_config_module("detloss.conf", version_base="1.3"):
        yield


@pytest.mark.parametrize("dataset", ["shapes", "coco", "lvis_v1"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_shipped_recipes_pass(dataset: str, optimizer: str) -> None:
    check_settings(compose("train", overrides=[f"dataset={dataset}", f"schedule.optimizer={optimizer}"]))


@pytest.mark.parametrize("key", RULES)
@pytest.mark.parametrize("value", ["abc", "-1", "nan", "true"])
def test_a_value_of_the_wrong_kind_names_its_key_and_what_was_expected(key: str, value: str) -> None:
    with pytest.raises(UserError, match=rf"{key}=.*: expected a "):
        check_settings(compose("train", overrides=[f"{key}={value}"]))


@pytest.mark.parametrize("key", CHOICES)
def test_an_unknown_choice_lists_the_known_ones(key: str) -> None:
    with pytest.raises(UserError, match=rf"{key}=nothing: expected {CHOICES[key][0]} or "):
        check_settings(compose("train", overrides=[f"{key}=nothing"]))


def test_steps_and_epochs_together_are_refused() -> None:
    with pytest.raises(UserError, match="give one of them"):
        check_settings(compose("train", overrides=["schedule.epochs=2"]))
