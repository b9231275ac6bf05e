"""Refuse settings of the wrong kind before a run begins."""

from collections.abc import Callable, Mapping
from inspect import Parameter
from types import UnionType
from typing import Literal, Union, get_args, get_origin

from omegaconf import DictConfig, OmegaConf

from detloss.errors import UserError, nearest

Rule = tuple[str, Callable[[object], bool]]


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


COUNT: Rule = ("a whole number of at least 1", lambda value: _is_integer(value) and value >= 1)  # type: ignore[operator]
COUNT_OR_ZERO: Rule = ("a whole number of at least 0", lambda value: _is_integer(value) and value >= 0)  # type: ignore[operator]
COUNT_OR_NULL: Rule = (f"{COUNT[0]}, or null", lambda value: value is None or COUNT[1](value))
NUMBER: Rule = ("a number of at least 0", lambda value: _is_number(value) and 0 <= value < float("inf"))  # type: ignore[operator]
NUMBER_OR_NULL: Rule = (
    "a number above 0, or null",
    lambda value: value is None or (NUMBER[1](value) and value != 0),
)
SHARE: Rule = ("a number from 0 to 1", lambda value: NUMBER[1](value) and value <= 1)  # type: ignore[operator]

RULES: dict[str, Rule] = {
    "seed": COUNT_OR_ZERO,
    "schedule.steps": COUNT_OR_NULL,
    "schedule.epochs": COUNT_OR_NULL,
    "schedule.batch_size": COUNT,
    "schedule.reference_batch": COUNT,
    "schedule.lr": NUMBER,
    "schedule.momentum": SHARE,
    "schedule.weight_decay": NUMBER,
    "schedule.warmup_steps": COUNT_OR_ZERO,
    "schedule.warmup_factor": SHARE,
    "schedule.clip_norm": NUMBER_OR_NULL,
    "trainer.devices": COUNT,
    "trainer.nodes": COUNT,
    "trainer.workers": COUNT_OR_ZERO,
    "trainer.accumulate": COUNT,
    "trainer.log_every": COUNT,
    "trainer.checkpoint_every": COUNT,
    "trainer.evaluate_every": COUNT_OR_NULL,
    "trainer.patience": COUNT_OR_NULL,
    "trainer.probe.every": COUNT_OR_NULL,
    "dataset.flip": SHARE,
    "dataset.copy_paste": SHARE,
    "dataset.crop": COUNT_OR_NULL,
    "data.error_limit": COUNT_OR_ZERO,
    "dataset.score_threshold": SHARE,
    "dataset.detections": COUNT,
    "dataset.eval_scale": COUNT,
    "dataset.max_size": COUNT,
    "evaluator.max_detections": COUNT,
    "evaluator.detections_per_image": COUNT,
    "evaluator.group_of_weight": NUMBER,
}

CHOICES: dict[str, tuple[str, ...]] = {
    "schedule.optimizer": ("sgd", "adamw"),
    "schedule.decay": ("step", "cosine"),
    "trainer.device": ("auto", "cpu", "cuda"),
    "trainer.precision": ("fp32", "bf16", "fp16"),
    "evaluator.engine": ("detloss", "official"),
    "evaluator.boundary": ("True", "False"),
    "evaluator.interpolation": ("all", "11"),
    "dataset.classifier": ("linear", "cosine", "tde"),
    "data.on_error": ("stop", "skip"),
    "data.cache": ("null", "ram", "disk"),
}

METHODS = ("crt", "lws", "disalign")
"""What ``schedule.method`` may be, under schedule=decoupled."""


def check_settings(cfg: DictConfig) -> None:
    """Raise ``UserError`` for the first setting that is not what it must be."""
    check_classifier_fits(cfg)
    check_decoupled(cfg)
    for key, options in CHOICES.items():
        value = OmegaConf.select(cfg, key)
        chosen = "null" if value is None else str(value)
        if chosen not in options and not _of_another_evaluator(cfg, key):
            raise UserError(f"{key}={chosen}: expected {' or '.join(options)}{nearest(chosen, options)}")
    for key, rule in RULES.items():
        if not _of_another_evaluator(cfg, key):
            require(key, OmegaConf.select(cfg, key), rule)
    if cfg.trainer.patience is not None and cfg.trainer.evaluate_every is None:
        raise UserError("trainer.patience counts evaluations: give trainer.evaluate_every=STEPS, too")
    scales = cfg.dataset.scales
    if scales is not None and not (
        OmegaConf.is_list(scales) and scales and all(COUNT[1](side) for side in scales)
    ):
        raise UserError(f"dataset.scales={scales}: expected shortest sides in pixels such as [640,800], or null")
    _check_jitter(cfg.dataset)
    _check_length(cfg.schedule, "schedule")


def require(key: str, value: object, rule: Rule) -> None:
    """Raise ``UserError`` if the value is not what the rule says."""
    expected, holds = rule
    if not holds(value):
        raise UserError(f"{key}={value}: expected {expected}")


def _of_another_evaluator(cfg: DictConfig, key: str) -> bool:
    """Whether a setting is one of evaluators, but not of the chosen one."""
    group, _, name = key.partition(".")
    return group == "evaluator" and name not in cfg.evaluator


def check_classifier_fits(cfg: DictConfig) -> None:
    """Refuse ``dataset.classifier=tde`` where its inference has no meaning (`UserError`)."""
    if cfg.dataset.classifier != "tde":
        return
    if cfg.model.stage != "two_stage":
        raise UserError(f"dataset.classifier=tde is for two-stage models, model={cfg.model.name} is one-stage")
    scores = cfg.loss.get("scores", "softmax")
    if scores != "softmax":
        raise UserError(
            f"dataset.classifier=tde needs plain softmax scores, those of loss={cfg.loss.name} are {scores}; "
            "try loss=ce, or dataset.classifier=cosine"
        )


def decoupled_method(cfg: DictConfig) -> str | None:
    """Return ``schedule.method``, or None: other schedules than decoupled do not have it."""
    method: str | None = cfg.schedule.get("method")
    return method


def check_decoupled(cfg: DictConfig) -> None:
    """Refuse what two-step training cannot do (`UserError`); other schedules pass."""
    if "method" not in cfg.schedule:
        return
    method, first = str(cfg.schedule.method), cfg.schedule.first
    if method not in METHODS:
        raise UserError(f"schedule.method={method}: expected {' or '.join(METHODS)}{nearest(method, METHODS)}")
    if cfg.model.stage != "two_stage":
        raise UserError(
            f"schedule=decoupled learns the box classifier of two-stage models, and model={cfg.model.name} is "
            "one-stage; try model=fasterrcnn"
        )
    if method != "crt" and cfg.dataset.classifier == "tde":
        raise UserError(
            f"schedule.method={method} adjusts plain logits, which dataset.classifier=tde does not have at "
            "inference; try schedule.method=crt"
        )
    if cfg.init is None:
        if cfg.model.stage not in first.loss:
            raise UserError(f"loss@schedule.first.loss={first.loss.name} is for one-stage models; try ce")
        learnt, wanted = first.loss.get("scores"), cfg.loss.get("scores")
        if method != "crt" and learnt != wanted:
            raise UserError(
                f"schedule.method={method} keeps the classifier of stage 1, whose scores are {learnt} and not, as "
                f"those of loss={cfg.loss.name}, {wanted}; try loss@schedule.first.loss={cfg.loss.name}"
            )
        for key in ("steps", "epochs"):
            if not COUNT_OR_NULL[1](first[key]):
                raise UserError(f"schedule.first.{key}={first[key]}: expected {COUNT_OR_NULL[0]}")
        _check_length(first, "schedule.first")


def _check_jitter(dataset: DictConfig) -> None:
    jitter, crop = dataset.jitter, dataset.crop
    if (jitter is None) != (crop is None):
        raise UserError(
            f"dataset.jitter={jitter} and dataset.crop={crop} belong together, as in dataset.jitter=[0.1,2.0] "
            "dataset.crop=1024"
        )
    bounds = list(jitter) if OmegaConf.is_list(jitter) else []
    if jitter is not None and not (
        len(bounds) == 2 and all(NUMBER[1](bound) for bound in bounds) and 0 < bounds[0] <= bounds[1]
    ):
        raise UserError(f"dataset.jitter={jitter}: expected two factors above 0 such as [0.1,2.0], or null")


def _check_length(schedule: DictConfig, name: str) -> None:
    if (schedule.steps is None) == (schedule.epochs is None):
        raise UserError(
            f"{name}.steps={schedule.steps} and epochs={schedule.epochs}: give one of them and set the other to "
            f"null, as in {name}.epochs=2 {name}.steps=null"
        )


KINDS: dict[object, str] = {
    float: "a number",
    int: "a whole number",
    bool: "true or false",
    str: "a name",
    type(None): "null",
}


def check_kinds(values: Mapping[str, object], parameters: Mapping[str, Parameter], option: str) -> None:
    """Raise ``UserError`` for the first value that is not what its parameter is annotated with."""
    for key, value in values.items():
        expected = misfit(value, parameters[key].annotation)
        if expected is not None:
            raise UserError(f"{option}.{key}={value}: expected {expected}")


def misfit(value: object, annotation: object) -> str | None:
    """Return what a parameter annotated so expects when ``value`` is none of it, else None.

    Only parameters that are all numbers, texts, choices or null are looked at.
    """
    choices = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    if not all(choice in KINDS or get_origin(choice) is Literal for choice in choices):
        return None
    for choice in choices:
        if get_origin(choice) is Literal and value in get_args(choice):
            return None
        kind = int | float if choice is float else choice
        if choice in KINDS and isinstance(value, kind) and (choice is bool or not isinstance(value, bool)):  # type: ignore[arg-type]
            return None
    names = [KINDS.get(choice) or " | ".join(map(str, get_args(choice))) for choice in choices]
    return " or ".join(names)
