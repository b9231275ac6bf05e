"""What the command line may choose from: the config groups of ``detloss.conf``, read without Hydra."""

from __future__ import annotations  # omegaconf is imported where it is used

from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING

from detloss.errors import UserError, nearest

if TYPE_CHECKING:
    from omegaconf import DictConfig

STAGES = ("two_stage", "one_stage")


def groups() -> list[str]:
    """Return the names of the config groups, in alphabetical order."""
    return sorted(entry.name for entry in _root().iterdir() if entry.is_dir() and _options(entry))


def options(group: str) -> list[str]:
    """Return the options of ``group``; a name that is no group is a `UserError`."""
    if group not in groups():
        raise UserError(f"no config group '{group}'{nearest(group, groups())} (see `detloss list`)")
    return _options(_root() / group)


def description(group: str, option: str) -> str:
    """Return line 1 of an option's file: what it is, and where it comes from."""
    first = next(iter(_comments(_text(group, option))), "")
    return first.rstrip(".")


def stages_of_loss(option: str) -> list[str]:
    """Return the kinds of head (``two_stage``, ``one_stage``) that a loss has a target for."""
    import yaml

    content = yaml.safe_load(_text("loss", option))
    return [stage for stage in STAGES if stage in content]


def state_of_loss(option: str) -> str | None:
    """Return what a loss keeps from batch to batch, or None."""
    import yaml

    state = yaml.safe_load(_text("loss", option)).get("state")
    return None if state is None else str(state)


def each_option(cfg: DictConfig, group: str) -> dict[str, DictConfig]:
    """Return every option of ``group`` as it stands in its file, with references resolved in ``cfg``.

    The option that ``cfg`` has chosen, known by its ``_target_`` or its name, is the one in ``cfg`` itself.
    """
    from omegaconf import OmegaConf

    found = {}
    for option in options(group):
        changed = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != group])
        changed[group] = OmegaConf.create(_text(group, option))
        same = [changed[group].get(key) == cfg[group].get(key) for key in ("_target_", "name")]
        found[option] = cfg[group] if all(same) else changed[group]
    return found


def option_of_target(group: str, target: str) -> str:
    """Return the option of ``group`` whose file names the class ``target``, or ``group`` where none does."""
    found = (option for option in options(group) if f"_target_: {target}\n" in _text(group, option))
    return next(found, group)


def loss_targets() -> list[tuple[str, str, str]]:
    """Return (loss, stage, class path) of every head a loss has a target for."""
    import yaml

    contents = {option: yaml.safe_load(_text("loss", option)) for option in options("loss")}
    return [
        (option, stage, content[stage]["_target_"])
        for stage in STAGES
        for option, content in contents.items()
        if stage in content
    ]


def losses_for(stage: str) -> list[str]:
    """Return the losses that fit detectors of ``stage``."""
    return [option for option in options("loss") if stage in stages_of_loss(option)]


def complete_override(incomplete: str) -> list[str]:
    """Return what the shell may complete ``incomplete`` to: ``group=`` or ``group=option`` words."""
    group, equals, _ = incomplete.partition("=")
    if not equals:
        words = [f"{name}=" for name in groups()]
    else:
        words = [f"{group}={option}" for option in options(group)] if group in groups() else []
    return [word for word in words if word.startswith(incomplete)]


def _root() -> Traversable:
    return files("detloss.conf")


def _options(folder: Traversable) -> list[str]:
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def _text(group: str, option: str) -> str:
    return (_root() / group / f"{option}.yaml").read_text(encoding="utf-8")


def _comments(text: str) -> Iterator[str]:
    """Yield the comment lines a file starts with, without Hydra's ``# @package`` directive."""
    for line in text.splitlines():
        if not line.startswith("#"):
            return
        if not line.startswith("# @package"):
            yield line.removeprefix("#").strip()
