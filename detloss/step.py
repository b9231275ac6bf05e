"""One optimizer step: forward, backward, clip, update; and the means of what steps report."""

import math
import time
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from detloss import distributed
from detloss.data.loader import TrainingBatch
from detloss.errors import TrainingFailed, UserError

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class Step:
    """What every step needs and none changes but through its objects.

    Attributes:
        model: the detector, wrapped in DistributedDataParallel when there are several ranks.
        accumulate: micro batches in a step.
        clip_norm: largest norm of the gradient, or None.
        precision: type of autocast; float32 means none.
        rescue: where the batch of a loss that is not finite is kept.
    """

    model: nn.Module
    optimizer: Optimizer
    scaler: torch.amp.GradScaler
    device: torch.device
    accumulate: int
    clip_norm: float | None
    precision: torch.dtype
    rescue: Path

    def __call__(self, batches: Iterator[TrainingBatch], number: int) -> "Report":
        """Do optimizer step ``number`` and return its losses and times.

        Raises:
            TrainingFailed: a loss or gradient is not finite; no parameter was updated.
        """
        self.model.train()
        report, start = Report(), time.perf_counter()
        # Here and not after the update: with activations and gradients freed at once, the C library gives the
        # memory back, and the next step spends 3-5% of its time on getting it again (measured on a CPU).
        self.optimizer.zero_grad(set_to_none=True)
        for micro in range(self.accumulate):
            asked = time.perf_counter()
            batch = next(batches)
            report.data_seconds += time.perf_counter() - asked
            more = micro < self.accumulate - 1  # gradients are summed over ranks with the last one
            parallel = isinstance(self.model, DistributedDataParallel)
            with self.model.no_sync() if parallel and more else nullcontext():  # type: ignore[union-attr,operator]
                report.add(self._backward(batch, number), 1 / self.accumulate)
        self._update(batch, number)
        report.seconds = time.perf_counter() - start
        return report

    def _backward(self, batch: TrainingBatch, number: int) -> dict[str, Tensor]:
        images = [image.to(self.device, non_blocking=True) for image in batch[0]]
        targets = [
            {key: value.to(self.device, non_blocking=True) for key, value in target.items()} for target in batch[1]
        ]
        with torch.autocast(self.device.type, self.precision, enabled=self.precision is not torch.float32):
            terms: dict[str, Tensor] = self.model(images, targets)
        loss = torch.stack([term.float() for term in terms.values()]).sum()
        if not math.isfinite(loss.item()):
            wrong = [f"{name}={term.item()}" for name, term in terms.items() if not math.isfinite(term.item())]
            self._give_up(batch, ", ".join(wrong), number)
        self.scaler.scale(loss / self.accumulate).backward()
        return {"loss": loss.detach(), **{name: term.detach() for name, term in terms.items()}}

    def _update(self, batch: TrainingBatch, number: int) -> None:
        self.scaler.unscale_(self.optimizer)
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        norm = get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
        # A scaler that is on skips such a step by itself, and then scales less.
        if not self.scaler.is_enabled() and not math.isfinite(norm.item()):
            self._give_up(batch, "the gradient", number)
        if self.clip_norm is not None:
            clip_grads_with_norm_(parameters, self.clip_norm, norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def _give_up(self, batch: TrainingBatch, what: str, number: int) -> None:
        image_ids = [int(target["image_id"]) for target in batch[1]]
        torch.save({"images": batch[0], "targets": batch[1]}, self.rescue)
        raise TrainingFailed(
            f"step {number}, images {image_ids}: {what} is not finite; the batch is kept in {self.rescue}; "
            "try a lower schedule.lr, a longer warm-up, or trainer.precision=fp32"
        )


@dataclass
class Report:
    """Losses of a step, as tensors on the device, and its seconds; the data's are part of the step's."""

    terms: dict[str, Tensor] = field(default_factory=dict)
    data_seconds: float = 0.0
    seconds: float = 0.0

    def add(self, terms: dict[str, Tensor], share: float) -> None:
        for name, term in terms.items():
            self.terms[name] = self.terms.get(name, 0) + share * term.float()


@dataclass
class Window:
    """Reports since the last log line."""

    reports: list[Report] = field(default_factory=list)

    def means(self) -> dict[str, float]:
        """Return mean losses over steps and ranks and mean seconds of this rank; empties the window."""
        names = list(self.reports[0].terms)
        stacked = torch.stack([torch.stack([report.terms[name] for name in names]) for report in self.reports])
        losses = distributed.mean_over_ranks(stacked.mean(dim=0)).tolist()
        count = len(self.reports)
        values = dict(zip(names, losses, strict=True))
        values["data_seconds"] = sum(report.data_seconds for report in self.reports) / count
        values["step_seconds"] = sum(report.seconds for report in self.reports) / count
        self.reports = []
        return values


def device_name(choice: str) -> str:
    """Return cpu or cuda, which ``trainer.device`` names or leaves to what there is."""
    if choice == "cuda" and not torch.cuda.is_available():
        raise UserError("trainer.device=cuda: torch sees no GPU here; see `detloss doctor`")
    if choice == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return choice


def autocast_type(precision: str, device: torch.device) -> torch.dtype:
    """Return the type that ``trainer.precision`` names."""
    if precision == "fp16" and device.type == "cpu":
        raise UserError("trainer.precision=fp16 needs a GPU; on a CPU use bf16 or fp32")
    return PRECISIONS[precision]


def data_parallel(detector: nn.Module, device: torch.device) -> nn.Module:
    """Wrap the detector when there are several ranks.

    Buffers are not broadcast: losses keep counts in them that are summed over ranks already, and rank 0's
    would silently overwrite the others' state.
    """
    if not distributed.active():
        return detector
    devices = [device.index] if device.type == "cuda" else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the option's new name is unknown to torch 2.9
        return DistributedDataParallel(detector, device_ids=devices, broadcast_buffers=False)
