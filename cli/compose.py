"""The bridge to Hydra: words from the command line become configs, and Hydra's errors become one line."""

from __future__ import annotations  # omegaconf is imported where it is used: `detloss --help` stays quick

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from detloss.errors import UserError, nearest

from .config_groups import groups, losses_for

if TYPE_CHECKING:
    from omegaconf import DictConfig

CONFIG = "train"
HYDRA_SWITCHES = ("-m", "--multirun", "-r", "--run", "--resolve", "--hydra-help")
HYDRA_OPTIONS = ("-c", "--cfg", "-p", "--package", "-i", "--info", "-cd", "--config-dir")
"""What may stand beside overrides. ``--experimental-rerun`` may not: it unpickles a file."""


def compose(words: list[str]) -> DictConfig:
    """Return the config that ``words`` (overrides) make; what Hydra refuses is a `UserError`."""
    flags = [word for word in words if word.startswith("-")]
    if flags:
        raise UserError(f"no such option: {flags[0]}; expected group=option or key=value")
    words = [_with_quoted_path(word) for word in words]
    with _one_line_errors(words):
        cfg = _composed(words)
    settle_length(cfg, words)
    check_choices_fit(cfg)
    return cfg


def run_jobs(job: Callable[[DictConfig], float], words: list[str], program: str, sweep_root: Path) -> None:
    """Let Hydra call ``job`` with each config that ``words`` make: one, or with ``-m`` those of a sweep.

    Hydra's own flags (``--cfg job``, ``--info``), launchers and sweepers work: ``hydra.main`` reads them.
    Launchers may keep files under ``sweep_root``; what Hydra itself writes there is removed.
    """
    overrides, flags = _overrides_and_flags(words, program)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions come to us instead of being printed by Hydra
    import hydra

    scratch = sweep_root / ".sweep"
    # Flags last: Python's argparse refuses overrides on both sides of a flag.
    argv, sys.argv = sys.argv, [program, f"hydra.sweep.dir={_quoted(str(scratch))}", *overrides, *flags]
    try:
        with _one_line_errors(overrides):
            hydra.main(version_base="1.3", config_path="pkg://detloss.conf", config_name=CONFIG)(job)()
    finally:
        sys.argv = argv
        (scratch / "multirun.yaml").unlink(missing_ok=True)
        if scratch.is_dir() and not any(scratch.iterdir()):
            scratch.rmdir()


def resolved(cfg: DictConfig) -> dict[str, object]:
    """Return ``cfg`` as plain dicts and lists with every interpolation replaced by its value."""
    from omegaconf import OmegaConf

    with _one_line_errors([]):
        container = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def settle_length(cfg: DictConfig, words: list[str]) -> None:
    """Let a length in steps replace a recipe's in epochs, and the other way round."""
    named = {word.lstrip("+").partition("=")[0] for word in words}
    lengths = {"schedule": cfg.schedule, "schedule.first": cfg.schedule.get("first")}
    for name, schedule in lengths.items():
        for given, other in (("steps", "epochs"), ("epochs", "steps")):
            if f"{name}.{given}" in named and f"{name}.{other}" not in named:
                schedule[other] = None


def check_choices_fit(cfg: DictConfig) -> None:
    """Refuse a loss, a classifier or a schedule that does not fit the others (`UserError`)."""
    from detloss.settings import check_classifier_fits, check_decoupled

    stage = cfg.model.stage
    if stage not in cfg.loss:
        fitting = ", ".join(losses_for(stage))
        raise UserError(
            f"loss={cfg.loss.name} does not fit model={cfg.model.name} ({stage.replace('_', '-')}); "
            f"losses that do: {fitting}"
        )
    check_classifier_fits(cfg)
    check_decoupled(cfg)


def _overrides_and_flags(words: list[str], program: str) -> tuple[list[str], list[str]]:
    """Return the overrides among ``words``, and Hydra's flags with their values."""
    overrides: list[str] = []
    flags: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        flag = word.partition("=")[0] in HYDRA_OPTIONS or word in HYDRA_SWITCHES
        if flag or (before in HYDRA_OPTIONS and "=" not in word):
            flags.append(word)
        elif word.startswith("-"):
            hint = nearest(word, [*HYDRA_SWITCHES, *HYDRA_OPTIONS])
            raise UserError(f"no such option: {word}{hint} (see `{program} --help`)")
        elif "=" in word or word.startswith("~"):
            overrides.append(_with_quoted_path(word))
        else:
            raise UserError(f"'{word}' is not group=option or key=value (see `{program} --help`)")
    return overrides, flags


def _with_quoted_path(word: str) -> str:
    """Return ``word``, its value quoted for Hydra when it is an existing path, as run folders hold , and =."""
    key, _, value = word.partition("=")
    special = re.search(r"[^\w./+-]", value) and not value.startswith(("'", '"'))
    return f"{key}={_quoted(value)}" if special and Path(value).exists() else word


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _composed(words: list[str]) -> DictConfig:
    import hydra

    with hydra.initialize_config_module("detloss.conf", version_base="1.3"):
        return hydra.compose(CONFIG, overrides=words)


@contextmanager
def _one_line_errors(words: list[str]) -> Iterator[None]:
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_explanation(error, words)) from error


def _explanation(error: Exception, words: list[str]) -> str:
    """Return one line on what Hydra or OmegaConf refused, with the nearest name where there is one."""
    from hydra.core.override_parser.overrides_parser import OverrideParseException
    from hydra.errors import MissingConfigException

    text = str(error).strip() or type(error).__name__
    first = text.splitlines()[0]
    if isinstance(error, OverrideParseException):
        hint = """; quote a value with special characters twice: "key='a,b=c'\""""
        return f"'{error.override}' is not group=option or key=value ({first}{hint})"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        known = [str(name) for name in error.options or []]
        see = f"(see `detloss list {group}`)" if group in groups() else "(see `detloss list`)"
        return f"no option '{option}' in config group '{group}'{nearest(option, known)} {see}"
    refused = re.search(r"Could not (?:override|delete from config\.) *'?([^'\s]+)'", text)
    if refused:
        key = refused.group(1)
        swept = any("," in word and word.partition("=")[0] in groups() for word in words)
        hint = f"; what only the options of a sweep have is written ++{key}=..." if swept else ""
        return f"no config key '{key}'{nearest(key, _known_keys(words))} (see `detloss show`){hint}"
    if first.startswith("Ambiguous value"):
        return f"{first}; several values are for `detloss train -m`, a list is written key=[a,b]"
    full_key = re.search(r"full_key: (\S+)", text)
    return f"{full_key.group(1)}: {first}" if full_key else first


def _known_keys(words: list[str]) -> list[str]:
    """Return every key that may be set, given the groups that ``words`` choose."""
    from omegaconf import OmegaConf

    choices = [word for word in words if word.partition("=")[0] in groups() and "," not in word]
    return [*groups(), *_dotted_keys(OmegaConf.to_container(_composed(choices)))]


def _dotted_keys(node: object, prefix: str = "") -> Iterator[str]:
    if isinstance(node, dict):
        for key, child in node.items():
            yield f"{prefix}{key}"
            yield from _dotted_keys(child, f"{prefix}{key}.")
