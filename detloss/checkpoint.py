"""Checkpoints: written atomically, read without running code, complete enough to go on bit by bit."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from detloss import distributed
from detloss.errors import UserError
from detloss.losses import DetectionLoss
from detloss.probe import GradientProbe
from detloss.stats import ClassStats


@dataclass
class Progress:
    """Where a run stands.

    Attributes:
        step: optimizer steps done.
        best: the best AP so far.
        stale: evaluations since it improved.
        evaluated: the step of the last evaluation.
    """

    step: int = 0
    best: float = -1.0
    stale: int = 0
    evaluated: int = 0

    def is_due(self, every: int | None, total: int) -> bool:
        """Whether an evaluation every so many steps is due; the one at the end is apart."""
        return every is not None and self.step % every == 0 and self.evaluated < self.step < total

    def is_out_of(self, patience: int | None) -> bool:
        """Whether the last ``patience`` evaluations brought no better AP; None is endless."""
        return patience is not None and self.stale >= patience

    def note_score(self, score: float) -> bool:
        """Take in an evaluation's AP and return whether it is the best so far."""
        improved = score > self.best
        self.best = max(self.best, score)
        self.stale = 0 if improved else self.stale + 1
        self.evaluated = self.step
        return improved


@dataclass(frozen=True)
class Checkpoint:
    """The contents of a checkpoint file; ``coder`` names what the classifier's logits mean."""

    model: Mapping[str, Tensor]
    stats: ClassStats
    coder: str
    progress: Progress
    optimizer: Mapping[str, object]
    scaler: Mapping[str, object]
    random_states: tuple[Tensor, ...]
    probe: Mapping[str, Tensor]


@dataclass
class RunState:
    """Everything that makes a resumed run equal one that never stopped; the losses' state is in the model."""

    model: nn.Module
    optimizer: Optimizer
    scaler: torch.amp.GradScaler
    stats: ClassStats
    probe: GradientProbe | None = None
    progress: Progress = field(default_factory=Progress)

    def save(self, path: Path) -> None:
        """Write a checkpoint; every rank calls it, rank 0 writes."""
        random_states = _random_states()
        if distributed.rank() != 0:
            return
        meta = {"progress": vars(self.progress), "stats": self.stats.to_json(), "coder": _coder_name(self.model)}
        content = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random_states": random_states,
            "probe": {} if self.probe is None else self.probe.state_dict(),
            "meta": json.dumps(meta),
        }
        partial = path.with_name(path.name + ".partial")
        torch.save(content, partial)
        os.replace(partial, path)

    def resume(self, path: Path) -> None:
        """Put everything back as it was when ``path`` was saved.

        Raises:
            UserError: the checkpoint is of another model, or its training set had other counts.
        """
        saved = load(path)
        if saved.stats.to_json() != self.stats.to_json():
            raise UserError(
                f"{path} was trained on other annotations than those of now (their classes or counts differ); "
                "put the old ones back, or use another output_dir, with init=RUN to start from its weights"
            )
        load_model(self.model, saved.model, path)
        try:
            self.optimizer.load_state_dict(dict(saved.optimizer))
        except (KeyError, ValueError) as error:
            raise UserError(f"checkpoint {path}: its optimizer does not fit ({error})") from error
        self.scaler.load_state_dict(dict(saved.scaler))
        if distributed.rank() < len(saved.random_states):
            _set_random_state(saved.random_states[distributed.rank()])
        if self.probe is not None and saved.probe:
            self.probe.load_state_dict(saved.probe)
        self.progress = saved.progress


def find(source: Path) -> Path:
    """Return the checkpoint that a run folder or a file means; of a folder the last one."""
    if not source.is_dir():
        return source
    if not (source / "last.ckpt").exists():
        raise UserError(f"{source}: the folder holds no last.ckpt; is it a run of detloss?")
    return source / "last.ckpt"


def load(path: Path) -> Checkpoint:
    """Read a checkpoint of detloss; no code in it is run.

    Raises:
        UserError: the file is missing or is not such a checkpoint.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"checkpoint {path}: no such file") from None
    except Exception as error:  # torch raises many kinds on damaged or foreign files
        raise UserError(f"checkpoint {path}: damaged, or not a file that can be read safely") from error
    try:
        if not isinstance(content, dict) or not isinstance(content["model"], dict):
            raise TypeError("a dict of a model's tensors")
        meta = json.loads(content["meta"])
        return Checkpoint(
            model=content["model"],
            stats=ClassStats.from_json(meta["stats"]),
            coder=meta["coder"],
            progress=Progress(**meta["progress"]),
            optimizer=content["optimizer"],
            scaler=content["scaler"],
            random_states=tuple(content["random_states"]),
            probe=content.get("probe", {}),
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UserError(f"checkpoint {path}: not written by detloss ({error!r} is missing or wrong)") from error


def load_model(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load all parameters and buffers, or say which do not fit."""
    expected = model.state_dict()
    wrong = sorted(expected.keys() ^ state.keys())
    wrong += [key for key in expected.keys() & state.keys() if expected[key].shape != state[key].shape]
    if wrong:
        raise UserError(
            f"checkpoint {path} does not fit this model: {len(wrong)} entries are missing, unexpected or of "
            f"another shape, such as {', '.join(wrong[:3])}; was it trained with another model, loss or data set?"
        )
    model.load_state_dict(dict(state))


def _coder_name(model: nn.Module) -> str:
    losses = [module for module in model.modules() if isinstance(module, DetectionLoss)]
    return losses[0].coder.meaning if losses else ""


def _random_states() -> list[Tensor]:
    """Return every rank's generator states, CPU and then CUDA, as one byte tensor a rank."""
    state = torch.get_rng_state()
    if torch.cuda.is_available():
        state = torch.cat([state, torch.cuda.get_rng_state()])
    if not distributed.active():
        return [state]
    states: list[Tensor] = [state] * distributed.world_size()
    torch.distributed.all_gather_object(states, state)
    return states


def _set_random_state(state: Tensor) -> None:
    length = len(torch.get_rng_state())
    torch.set_rng_state(state[:length])
    if torch.cuda.is_available() and len(state) > length:
        torch.cuda.set_rng_state(state[length:])
