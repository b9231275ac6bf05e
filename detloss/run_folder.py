"""The folder of a run: who may write in it, and the config that it belongs to. No torch here."""

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf

from detloss import __version__
from detloss.errors import UserError, nearest
from detloss.run_name import is_part_of_run
from detloss.stats import ClassStats

Config = Mapping[str, object]
Metrics = dict[str, dict[str, float | None]]

LENGTHS = ("schedule.steps", "schedule.epochs")
"""What may grow between two starts of one run."""

OWN_FILES = (
    "config.yaml", "stats.json", "metrics.json", "metrics.jsonl", "gradients.jsonl", "per_class.csv",
    "predictions.*", "last.ckpt*", "best.ckpt*", "nonfinite_batch.*", "wandb.id", ".finished",
)  # fmt: skip
"""What detloss writes in a run folder, and so all that ``overwrite=true`` deletes."""

LOCK = ".lock"
FINISHED = ".finished"
"""Tells the metrics of a finished run from those of an evaluation on the way."""


class State(Enum):
    """What a run folder holds when a training is about to start in it."""

    NEW = "new"
    RESUME = "resume"
    FINISHED = "finished"


def state(folder: Path, config: Config) -> State:
    """Return what training with the resolved ``config`` in ``folder`` would be; nothing is written.

    A folder that holds another config is a `UserError` that prints the difference; a longer schedule is no
    difference. A run is finished when it was marked so (`mark_finished`) and is not to become longer.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; output_dir must be a folder")
    if not (folder / "config.yaml").exists():
        strangers = ", ".join(path.name for path in own_files(folder))
        if strangers:
            raise UserError(f"{folder} holds {strangers} but no config.yaml; choose another output_dir")
        return State.NEW
    saved = flat(_read_plain(folder / "config.yaml"))
    changes = difference(saved, flat(config))
    lengthened = {key for key in LENGTHS if key in changes and _longer(*changes[key])}
    other = {key: change for key, change in changes.items() if key not in lengthened}
    if other:
        listing = ", ".join(f"{key}: {old} -> {new}" for key, (old, new) in other.items())
        raise UserError(
            f"{folder} belongs to a run with another config ({listing}); "
            "choose another output_dir, or overwrite=true to throw that run away"
        )
    finished = (folder / FINISHED).exists() and (folder / "metrics.json").exists() and not lengthened
    return State.FINISHED if finished else State.RESUME


def prepare(folder: Path, config: Config, *, overwrite: bool, command: str = "") -> State:
    """Make ``folder`` ready for the run of the resolved ``config`` and return what it held.

    Writes ``config.yaml`` unless the run is finished. The mark of a shorter run goes first, so that no other
    process can take the longer run for finished. Call it inside `locked`.
    """
    if overwrite:
        _delete_run(folder)
    found = state(folder, config)
    if found is not State.FINISHED:
        (folder / FINISHED).unlink(missing_ok=True)
        _write_config(folder / "config.yaml", config, command)
    return found


def _delete_run(folder: Path) -> None:
    """Delete what detloss wrote in ``folder``, and nothing that only has the same names."""
    config = folder / "config.yaml"
    if not config.exists():
        return
    if not config.read_text(encoding="utf-8", errors="replace").startswith("# detloss"):
        raise UserError(f"{config} was not written by detloss; overwrite=true deletes only its own runs")
    for path in own_files(folder):
        path.unlink()
    made = [folder / name for name in ("eval", "wandb", "predict", "plot", "stage1")]
    for path in (*made, *folder.glob("calibrated-*"), *folder.glob("predictions.rank*")):
        shutil.rmtree(path, ignore_errors=True)


def withdraw(folder: Path) -> None:
    """Take back the config of a new run that was refused before its first checkpoint, so that it can be mended."""
    if not any(folder.glob("*.ckpt")):
        (folder / "config.yaml").unlink(missing_ok=True)
        (folder / "stats.json").unlink(missing_ok=True)
        (folder / "metrics.jsonl").unlink(missing_ok=True)
        (folder / "gradients.jsonl").unlink(missing_ok=True)


def mark_finished(folder: Path) -> None:
    """Note that the run in ``folder`` is trained and evaluated to its end."""
    (folder / FINISHED).touch()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for this process; one another process holds is a `UserError`.

    A folder that is made here and in which nothing is left goes again: a refused run leaves no trace.
    """
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / LOCK).open("a")
    except OSError as error:
        raise UserError(f"cannot write in the run folder {folder}: {error.strerror}") from error
    with stream:
        try:
            # A POSIX record lock: data workers do not inherit it, so it ends with the process that trains.
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"another training is writing in {folder}; wait for it, or choose another output_dir"
            ) from error
        try:
            yield
        finally:
            if made and [path.name for path in folder.iterdir()] == [LOCK]:
                (folder / LOCK).unlink()
                folder.rmdir()


def own_files(folder: Path) -> list[Path]:
    """Return the files in ``folder`` that detloss writes there, sorted."""
    found = {path for pattern in OWN_FILES for path in folder.glob(pattern)}
    return sorted(path for path in found if path.is_file() or path.is_symlink())


def load_config(run: Path) -> DictConfig:
    """Return the config saved in the folder ``run``; plain YAML only, so that loading it runs nothing.

    Raises `UserError` for a folder that is no run, for YAML with tags and for interpolations: a saved config
    is resolved, and one from a stranger must not read the environment.
    """
    if not (run / "config.yaml").is_file():
        known = sorted(str(path.parent) for path in run.parent.glob("*/config.yaml"))
        raise UserError(f"no run in {run}: it has no config.yaml{nearest(str(run), known)}")
    content = _read_plain(run / "config.yaml")
    for text in _texts(content):
        if "${" in text:
            raise UserError(f"{run / 'config.yaml'} holds the interpolation {text}; expected plain values")
    return OmegaConf.create(content)


def read_metrics(run: Path) -> Metrics:
    """Return the numbers of ``metrics.json``: ``{"bbox": {"AP": 0.31, ...}, ...}``, None where undefined."""
    try:
        metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {run / 'metrics.json'}: {error}") from error
    return {name: values for name, values in metrics.items() if isinstance(values, dict)}


def read_stats(run: Path) -> ClassStats:
    """Return the class statistics of the training set that ``stats.json`` keeps."""
    try:
        content = json.loads((run / "stats.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {run / 'stats.json'}: {error}") from error
    return ClassStats.from_json(content)


def difference(old: Config, new: Config) -> dict[str, tuple[object, object]]:
    """Return the keys (dotted) at which two flat configs differ in what they compute, with both values."""
    keys = sorted(key for key in old.keys() | new.keys() if is_part_of_run(key))
    absent = "(absent)"
    pairs = {key: (old.get(key, absent), new.get(key, absent)) for key in keys}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def flat(config: object, prefix: str = "") -> dict[str, object]:
    """Return nested dicts as one dict with dotted keys; lists stay values."""
    if not isinstance(config, Mapping) or not config:
        return {prefix: config}
    values: dict[str, object] = {}
    for key, value in config.items():
        values |= flat(value, f"{prefix}.{key}" if prefix else str(key))
    return values


def _texts(node: object) -> Iterator[str]:
    """Yield every string value in nested dicts and lists."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, Mapping | list):
        for value in node.values() if isinstance(node, Mapping) else node:
            yield from _texts(value)


def _longer(old: object, new: object) -> bool:
    return isinstance(old, int | float) and isinstance(new, int | float) and new > old


def _read_plain(path: Path) -> dict[str, object]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        first = " ".join(str(error).split())
        raise UserError(f"{path} is not a plain YAML file: {first}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}; expected the keys of a run's config")
    return content


def _write_config(path: Path, config: Config, command: str) -> None:
    header = [
        f"# detloss {__version__}",
        *(f"# {name} {_installed(name)}" for name in ("torch", "torchvision")),
    ]
    header += [f"# git {commit}" for commit in _commit()]
    header += ["# " + " ".join(command.split())] if command else []
    text = "\n".join(header) + "\n" + yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
    partial = path.with_name(f".{path.name}.part")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(absent)"


def _commit() -> list[str]:
    """Return the commit of the checkout that detloss runs from, or nothing when it runs from a wheel."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return []
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [done.stdout.strip()] if done.returncode == 0 else []
