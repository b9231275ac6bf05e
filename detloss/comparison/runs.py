"""Run folders that are to be compared: read, checked against one another, sorted into methods and named."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from detloss import build, run_folder
from detloss.errors import UserError, nearest
from detloss.stats import ClassStats, frequency_groups

PREDICTIONS = ("predictions.npz", "predictions.json")
"""What a run's predictions may be called, the newest form first."""

FRAMEWORKS = {
    "maskrcnn": "Mask R-CNN",
    "fasterrcnn": "Faster R-CNN",
    "retinanet": "RetinaNet",
    "fcos": "FCOS",
}
CHOICES = ("loss", "model", "backbone")
"""Groups with names: their settings only tell runs apart that made the same choices."""

NEEDED = ("loss.name", "model.name", "model.masks", "backbone.depth", "evaluator.name", "dataset.groups")
"""What a config must say for its run to be named and scored."""

MOST_SETTINGS = 4


@dataclass(frozen=True, eq=False)
class Run:
    """A run folder, or that of a calibration in it.

    Attributes:
        settings: the config with dotted keys, and the calibration where there was one.
        validation: fingerprint of the annotation file that was predicted.
    """

    folder: Path
    predictions: Path
    cfg: DictConfig
    settings: dict[str, object]
    stats: ClassStats
    validation: str

    @property
    def home(self) -> Path:
        """The folder of the training, in which a calibration's lies."""
        return _home(self.folder)

    @property
    def seed(self) -> object:
        return self.settings.get("seed")

    @property
    def groups(self) -> tuple[str, ...]:
        """The frequency group of every class."""
        return frequency_groups(self.stats.images, build.group_thresholds(self.cfg))

    @property
    def loss(self) -> str:
        return str(self.cfg.loss.name)

    @property
    def framework(self) -> str:
        name = str(self.cfg.model.name)
        return FRAMEWORKS.get(name, name)

    @property
    def backbone(self) -> str:
        return f"ResNet-{self.cfg.backbone.depth}"


@dataclass(frozen=True, eq=False)
class Method:
    """Runs that differ in nothing but their seed; ``name`` is what tells them from the other methods."""

    name: str
    runs: tuple[Run, ...]

    @property
    def framework(self) -> str:
        return self.runs[0].framework

    @property
    def backbone(self) -> str:
        return self.runs[0].backbone


def read_run(folder: Path) -> Run:
    """Read a run; raises `UserError` for a folder without config, statistics or predictions."""
    home = _home(folder)
    cfg = run_folder.load_config(home)
    predictions = next((folder / name for name in PREDICTIONS if (folder / name).is_file()), None)
    if predictions is None:
        raise UserError(f"{folder} holds no {' or '.join(PREDICTIONS)}; let its training finish: the same command")
    settings = run_folder.flat(OmegaConf.to_container(cfg))
    for key in NEEDED:
        if OmegaConf.select(cfg, key, default=...) is ...:
            raise UserError(f"{home / 'config.yaml'} has no '{key}'; expected the config of a detloss run")
    if home != folder:
        settings["calibration"] = folder.name.removeprefix("calibrated-")
    return Run(folder, predictions, cfg, settings, run_folder.read_stats(home), _validation(home))


def require_same_validation(runs: Sequence[Run]) -> None:
    """Raise `UserError` unless all runs predicted one set and are scored by one evaluator, in equal groups."""
    first = runs[0]
    for run in runs[1:]:
        pair = f"{run.folder} and {first.folder}"
        if run.validation != first.validation:
            raise UserError(
                f"{pair} were validated on different sets (SHA-256 {run.validation[:8]} and "
                f"{first.validation[:8]}); compare runs of one set"
            )
        if run.stats.category_ids != first.stats.category_ids:
            raise UserError(f"{pair} have different categories; compare runs of one data set")
        if run.groups != first.groups:
            raise UserError(
                f"{pair} sort classes into different frequency groups; train with equal dataset.groups"
            )
        for key in ("name", "max_detections"):
            ours, theirs = run.cfg.evaluator.get(key), first.cfg.evaluator.get(key)
            if ours != theirs:
                raise UserError(f"{pair} are scored differently: evaluator.{key} is {ours} and {theirs}")


def methods_of(runs: Sequence[Run]) -> list[Method]:
    """Sort runs into methods, in the order of their first runs, and name them by what differs in their configs.

    A run of the same settings and seed as another is a method of its own: the same thing done twice.
    """
    methods: list[list[Run]] = []
    for run in runs:
        for method in methods:
            changes = run_folder.difference(method[0].settings, run.settings)
            if set(changes) == {"seed"} and run.seed not in {other.seed for other in method}:
                method.append(run)
                break
        else:
            methods.append([run])
    return _named(methods)


def baseline_of(methods: Sequence[Method], baseline: Path | None) -> int:
    """Return which of the methods has the run ``baseline``; the first when none is named."""
    if baseline is None:
        return 0
    folders = {str(run.folder): index for index, method in enumerate(methods) for run in method.runs}
    for folder, index in folders.items():
        if Path(folder).resolve() == baseline.resolve():
            return index
    raise UserError(f"--baseline {baseline}: not among the runs compared{nearest(str(baseline), folders)}")


def short(value: object) -> str:
    """Return a value as a user would write it, a class without its modules."""
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text.rpartition(".")[2] if text.startswith("detloss.") else text


def _home(folder: Path) -> Path:
    calibrated = folder.name.startswith("calibrated-") and not (folder / "config.yaml").exists()
    return folder.parent if calibrated else folder


def _named(methods: Sequence[list[Run]]) -> list[Method]:
    """Name methods by their loss and settings; where that is not enough by their folders, or by number."""
    firsts = [method[0] for method in methods]
    names = [" ".join([run.loss, *_settings_that_differ(run, firsts)]) for run in firsts]
    settled = list(names)
    for number, run in enumerate(firsts):
        alike = [
            i for i, other in enumerate(firsts) if (_choices(other), names[i]) == (_choices(run), names[number])
        ]
        folders = {firsts[i].folder.name for i in alike}
        if len(alike) > 1:
            own = run.folder.name if len(folders) == len(alike) else f"#{alike.index(number) + 1}"
            settled[number] += f" ({own})"
    return [Method(name, tuple(runs)) for name, runs in zip(settled, methods, strict=True)]


def _choices(run: Run) -> tuple[str, str]:
    return run.framework, run.backbone


def _settings_that_differ(run: Run, others: Sequence[Run]) -> list[str]:
    """Return ``key=value`` words for what tells a run from others of its framework and backbone.

    What a choice of loss brings along only counts beside runs of the same loss.
    """
    keys: set[str] = set()
    for other in others:
        if _choices(other) == _choices(run):
            changes = run_folder.difference(other.settings, run.settings)
            implied = CHOICES if other.loss != run.loss else ()
            keys |= {key for key in changes if key.partition(".")[0] not in (*implied, "seed")}
    chosen = {key.partition(".")[0] for key in keys if key.count(".") == 1 and key.endswith("._target_")}
    words = [
        f"{key.removesuffix('._target_')}={short(run.settings[key])}"
        for key in sorted(keys & run.settings.keys())
        if key.endswith("._target_") or key.partition(".")[0] not in chosen
    ]
    return [*words[:MOST_SETTINGS], *(["..."] if len(words) > MOST_SETTINGS else [])]


def _validation(run: Path) -> str:
    """Return the fingerprint of the validation file that ``stats.json`` keeps."""
    content = json.loads((run / "stats.json").read_text(encoding="utf-8"))
    prints = content.get("fingerprints")
    if not isinstance(prints, dict) or not isinstance(prints.get("val"), str):
        raise UserError(f"{run / 'stats.json'} has no fingerprint of the validation set; train the run anew")
    return str(prints["val"])
