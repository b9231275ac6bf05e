"""``detloss bench``: how fast parts of detloss are on this machine."""

from typing import Annotated

import typer

from . import compose
from .verb import HYDRA_WORDS, Overrides, verb

bench = typer.Typer(help="Measure how fast detloss is on this machine.")

EXAMPLES = (
    "detloss bench train",
    "detloss bench train dataset=coco dataset.root=/data/coco backbone=tiny --steps 10",
)

Steps = Annotated[int, typer.Option("--steps", min=1, help="Steps to time, of each loop.")]


@bench.command("train", cls=verb(EXAMPLES), context_settings=HYDRA_WORDS)
def train(overrides: Overrides = None, steps: Steps = 20) -> None:
    """Time training steps against torchvision's reference loop, and the wait for data."""
    cfg = compose.compose(overrides or [])
    from detloss.bench_train import bench_train

    bench_train(cfg, steps=steps)
