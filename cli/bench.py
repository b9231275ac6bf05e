"""``detloss bench``: how fast parts of detloss are on this machine."""

import typer

from . import compose
from .verb import HYDRA_WORDS, Overrides, verb

bench = typer.Typer(no_args_is_help=True, help="Measure how fast detloss is on this machine.")

EXAMPLES = (
    "detloss bench train",
    "detloss bench train dataset=coco dataset.root=../shared/data/coco_mini backbone=tiny",
)


@bench.command("train", cls=verb(EXAMPLES), context_settings=HYDRA_WORDS)
def train(overrides: Overrides = None) -> None:
    """Time training steps against torchvision's reference loop, and the wait for data."""
    cfg = compose.compose(overrides or [])
    from detloss.bench_train import bench_train

    bench_train(cfg)
