"""What the ranking losses cost, beside focal loss and beside a loop over the positives, in the same run."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from detloss.losses import ranking
from detloss.losses.known_gradient import with_gradient
from detloss.peak_memory import peak_memory
from detloss.progress import Display

LARGEST_LOOP = 10**10
"""Pairs up to which the loop is run, about half a minute; it is the slow one."""


@dataclass(frozen=True)
class Problem:
    """P positives with scores N(0, 1) and N negatives N(-3, 1), in float32, targets uniform in 0..1."""

    positives: int
    negatives: int
    delta: float

    def tensors(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return logits [P + N], with gradient, and targets: above 0 for positives, else 0."""
        generator = torch.Generator().manual_seed(0)
        scores = torch.randn(self.positives + self.negatives, generator=generator)
        scores[self.positives :] -= 3
        targets = torch.zeros_like(scores)
        targets[: self.positives] = torch.rand(self.positives, generator=generator).clamp(min=1e-3)
        return scores.to(device).requires_grad_(), targets.to(device)


def average_precision(logits: Tensor, targets: Tensor, delta: float) -> Tensor:
    return ranking.average_precision(logits, targets > 0, delta)


def alrp(logits: Tensor, targets: Tensor, delta: float) -> Tensor:
    return torch.stack(ranking.alrp(logits, targets > 0, 1 - targets[targets > 0], delta)).sum()


def rank_sort(logits: Tensor, targets: Tensor, delta: float) -> Tensor:
    return torch.stack(ranking.rank_sort(logits, targets, delta)).sum()


def focal(logits: Tensor, targets: Tensor, delta: float) -> Tensor:
    return sigmoid_focal_loss(logits, (targets > 0).to(logits.dtype), reduction="sum")


def loop(logits: Tensor, targets: Tensor, delta: float) -> Tensor:
    """Return the ranking error of Rank & Sort positive by positive, as the authors' code goes about it."""
    with torch.no_grad():
        positive = targets > 0
        relevant = ~positive & (logits >= logits[positive].min() - delta)
        scores, others = logits[positive], logits[relevant]
        blame, gradient = torch.zeros_like(others), torch.zeros_like(logits)
        errors = torch.zeros_like(scores)
        for index in range(len(scores)):
            above = ((others - scores[index]) / (2 * delta) + 0.5).clamp(0, 1)
            own = ((scores - scores[index]) / (2 * delta) + 0.5).clamp(0, 1).sum()
            false_positives = above.sum()
            errors[index] = false_positives / (own + false_positives)
            if false_positives > ranking.RANK_SORT_EPSILON:
                blame += above * (errors[index] / false_positives)
        gradient[positive], gradient[relevant] = -errors / len(scores), blame / len(scores)
    return with_gradient(logits, errors.mean(), gradient)


LOSSES: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "AP": average_precision,
    "aLRP": alrp,
    "RS": rank_sort,
}


def bench_ranking(problems: Sequence[Problem], *, repeats: int, device: torch.device, picture: Path) -> None:
    """Measure every loss on every problem, print a table and draw time against N."""
    table = Table(caption=_caption(repeats, device), caption_justify="left")
    for column in ("P", "N", "delta", "loss", "ms", "/ focal", "loop / it", "peak"):
        table.add_column(column, justify="left" if column == "loss" else "right", no_wrap=True)
    found: dict[tuple[str, int, float], list[tuple[int, float]]] = {}
    with Display("bench", len(problems)) as display:
        for done, problem in enumerate(problems, start=1):
            logits, targets = problem.tensors(device)
            measured = measure(problem, logits, targets, repeats)
            slow = measured.get("loop")
            for name, seconds in measured.items():
                key = (name, problem.positives, problem.delta)
                found.setdefault(key, []).append((problem.negatives, seconds))
                peak = None if name == "loop" else _peak(name, logits, targets, problem.delta)
                size = 8 * logits.numel()
                table.add_row(
                    f"{problem.positives:,}",
                    f"{problem.negatives:,}",
                    f"{problem.delta:g}",
                    name,
                    f"{1e3 * seconds:.1f}",
                    f"{seconds / measured['focal']:.2f}",
                    "-" if slow is None or name in ("loop", "focal") else f"{slow / seconds:,.0f}",
                    "-" if peak is None else f"{peak / size:.1f}",
                )
            table.add_section()
            display.advance(done)
    Console().print(table)
    draw(found, picture)
    print(f"time against N: {picture}")


def measure(problem: Problem, logits: Tensor, targets: Tensor, repeats: int) -> dict[str, float]:
    """Return the median seconds of forward and backward of focal loss, every ranking loss, and the loop once."""
    functions = {"focal": focal, **LOSSES}
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for repeat in range(repeats + 1):
        for name, function in functions.items():  # in turns, so that whatever else the machine does meets all
            spent = _seconds(function, logits, targets, problem.delta)
            if repeat:
                seconds[name].append(spent)
    medians = {name: statistics.median(spent) for name, spent in seconds.items()}
    if problem.positives * problem.negatives <= LARGEST_LOOP and problem.delta:
        medians["loop"] = _seconds(loop, logits, targets, problem.delta)
    return medians


def draw(found: dict[tuple[str, int, float], list[tuple[int, float]]], picture: Path) -> None:
    """Write a plot of seconds against N, both logarithmic: a panel for each P and delta, a line for each loss."""
    from matplotlib.figure import Figure

    panels = sorted({(positives, delta) for _, positives, delta in found})
    names = list(dict.fromkeys(name for name, _, _ in found))
    columns = len({delta for _, delta in panels})
    rows = len(panels) // columns
    figure = Figure(figsize=(1.5 + 3 * columns, 1 + 2.6 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes, (positives, delta) in zip(grid.flat, panels, strict=True):
        for color, name in enumerate(names):
            points = sorted(found.get((name, positives, delta), []))
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", markersize=3, color=f"C{color}", label=name)
        sizes = sorted(size for size, _ in found["focal", positives, delta])
        straight = [sizes[0], sizes[-1]]
        start = min(seconds for _, seconds in found["focal", positives, delta])
        linear = [start * size / sizes[0] for size in straight]
        axes.plot(straight, linear, color="0.6", linestyle=":", label="proportional to N")
        axes.set(xscale="log", yscale="log", title=f"P = {positives:,}, delta = {delta:g}")
        axes.title.set_fontsize(9)
        axes.grid(alpha=0.3)
    figure.legend(*grid.flat[0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    figure.supxlabel("negatives N", fontsize=9)
    figure.supylabel("forward + backward, seconds", fontsize=9)
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=150)


def _peak(name: str, logits: Tensor, targets: Tensor, delta: float) -> int | None:
    function = {**LOSSES, "focal": focal}[name]
    return peak_memory(lambda: torch.autograd.grad(function(logits, targets, delta), logits), logits.device)


def _seconds(
    function: Callable[[Tensor, Tensor, float], Tensor], logits: Tensor, targets: Tensor, delta: float
) -> float:
    logits.grad = None
    if logits.device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    function(logits, targets, delta).backward()
    if logits.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _caption(repeats: int, device: torch.device) -> str:
    if device.type == "cuda":
        where = torch.cuda.get_device_name(device)
    else:
        where = f"a CPU, {torch.get_num_threads()} thread(s)"
    return (
        f"Forward and backward, median of {repeats} (the loop once) on {where}, torch {torch.__version__}. Focal "
        "is torchvision's. The loop is the ranking error of Rank & Sort (RS) alone, without negatives below all "
        "positives. Peak memory is in float64 arrays of all P + N."
    )
