"""``detloss bench``: how fast parts of detloss are on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detloss.errors import UserError, nearest

from . import compose
from .config_groups import loss_targets
from .verb import HYDRA_WORDS, Overrides, verb

if TYPE_CHECKING:
    import torch

bench = typer.Typer(help="Measure how fast detloss is on this machine.")

EXAMPLES = (
    "detloss bench train dataset=coco dataset.root=/data/coco backbone=tiny --steps 10",
    "detloss bench train model=retinanet loss=ranksort --against loss=focal",
)

LOSS_EXAMPLES = ("detloss bench losses", "detloss bench losses ecm focal --classes 1203 --repeats 5")

RANKING_EXAMPLES = (
    "detloss bench ranking",
    "detloss bench ranking --positives 1000 --negatives 1000000 --repeats 3",
)

EVAL_EXAMPLES = (
    "detloss bench eval",
    "detloss bench eval --rules lvis --iou bbox --images 500 --detections 150000",
)

DATA_EXAMPLES = (
    "detloss bench data",
    "detloss bench data dataset=coco dataset.root=/data/coco --images 10000 --annotations 127000",
)

Images = Annotated[int, typer.Option("--images", min=1, help="Images of the file that is made.")]
Annotations = Annotated[int, typer.Option("--annotations", min=1, help="Annotations of the file that is made.")]
Others = Annotated[bool, typer.Option("--others/--no-others", help="Also run json, pycocotools and lvis.")]
Rounds = Annotated[
    int, typer.Option("--rounds", min=0, help="Loads of the photographs by each loader; 0 leaves them out.")
]
Losses = Annotated[
    list[str] | None,
    typer.Argument(metavar="[LOSS]...", help="Losses by name; all when none is given.", show_default=False),
]
Repeats = Annotated[int, typer.Option("--repeats", min=1, help="Repetitions of each measurement.")]
Classes = Annotated[int, typer.Option("--classes", min=1, max=1203, help="Classes of one-stage heads.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
Positives = Annotated[list[int] | None, typer.Option("--positives", min=1, help="P, once or more.")]
Negatives = Annotated[list[int] | None, typer.Option("--negatives", min=1, help="N, once or more.")]
Deltas = Annotated[list[float] | None, typer.Option("--delta", min=0, help="Half the step's width, once or more.")]
Picture = Annotated[Path, typer.Option("--picture", help="Where the plot goes, PNG or SVG.")]
Against = Annotated[
    list[str] | None,
    typer.Option(
        "--against",
        metavar="KEY=VALUE",
        help="Time the same with this change instead of torchvision's loop; may be given more than once.",
        show_default=False,
    ),
]
EvalImages = Annotated[int, typer.Option("--images", min=1, help="Images of the set that is made.")]
Detections = Annotated[int, typer.Option("--detections", min=1, help="Detections of the set that is made.")]
Rules = Annotated[list[str] | None, typer.Option("--rules", help="lvis or coco; both when not given.")]
Kinds = Annotated[list[str] | None, typer.Option("--iou", help="bbox or segm; both when not given.")]
Steps = Annotated[int, typer.Option("--steps", min=1, help="Steps to time, of each loop.")]


@bench.command("train", cls=verb(EXAMPLES), context_settings=HYDRA_WORDS)
def train(overrides: Overrides = None, steps: Steps = 20, against: Against = None) -> None:
    """Time training steps against torchvision's reference loop or another config, and the wait for data."""
    cfg = compose.compose(overrides or [])
    other = compose.compose(_changed(overrides or [], against)) if against else None
    from detloss.bench_train import bench_train

    bench_train(cfg, steps=steps, against=other)


def _changed(words: list[str], changes: list[str]) -> list[str]:
    """Return ``words`` with those of ``changes`` in place of the ones for the same keys."""
    changed = {change.partition("=")[0] for change in changes}
    return [word for word in words if word.partition("=")[0] not in changed] + changes


@bench.command("losses", cls=verb(LOSS_EXAMPLES, ()))
def losses(names: Losses = None, repeats: Repeats = 10, classes: Classes = 80, device: Device = "auto") -> None:
    """Time every loss and measure its memory, at the sizes of RoI heads and of dense heads."""
    targets = loss_targets()
    known = sorted({name for name, _, _ in targets})
    for name in names or []:
        if name not in known:
            raise UserError(f"no loss '{name}'{nearest(name, known)} (see `detloss list loss`)")
    chosen = [target for target in targets if not names or target[0] in names]
    place = _place(device)
    from detloss.bench_losses import bench_losses

    bench_losses(chosen, repeats=repeats, dense_classes=classes, device=place)


@bench.command("ranking", cls=verb(RANKING_EXAMPLES, ()))
def ranking(
    positives: Positives = None,
    negatives: Negatives = None,
    delta: Deltas = None,
    repeats: Repeats = 10,
    device: Device = "auto",
    picture: Picture = Path("outputs/bench_ranking.png"),
) -> None:
    """Time the ranking losses against P, N and delta, beside focal loss and a loop over the positives."""
    place = _place(device)
    from detloss.bench_ranking import Problem, bench_ranking

    problems = [
        Problem(p, n, d)
        for p in positives or (1_000, 10_000)
        for n in negatives or (10_000, 100_000, 1_000_000)
        for d in delta or (0.25, 1.0)
    ]
    bench_ranking(problems, repeats=repeats, device=place, picture=picture)


@bench.command("data", cls=verb(DATA_EXAMPLES), context_settings=HYDRA_WORDS)
def data(
    overrides: Overrides = None,
    images: Images = 100_000,
    annotations: Annotations = 1_270_000,
    others: Others = True,
    rounds: Rounds = 5,
) -> None:
    """Time reading a made file of LVIS's size beside other tools, and the loader beside torchvision's.

    The photographs to load are made, too, unless a data set is named.
    """
    cfg = compose.compose(overrides or ["dataset=coco"])
    from detloss.bench_data import bench_data

    # First, and without torch: a process that is started counts what this one holds as its own.
    bench_data(images=images, annotations=annotations, readers=others)
    if rounds:
        from detloss.bench_loader import bench_photographs

        bench_photographs(cfg, rounds=rounds, images=images, annotations=annotations)


@bench.command("eval", cls=verb(EVAL_EXAMPLES, ()))
def evaluation(
    images: EvalImages = 2_000, detections: Detections = 600_000, rules: Rules = None, iou: Kinds = None
) -> None:
    """Time scoring and measure its memory beside lvis, pycocotools and hotcoco, on a made set of LVIS's kind."""
    chosen = _known("--rules", rules, ("lvis", "coco")), _known("--iou", iou, ("bbox", "segm"))
    from detloss.bench_eval import bench_eval

    bench_eval(images=images, detections=detections, rules=chosen[0], kinds=chosen[1])


def _known(option: str, words: list[str] | None, known: tuple[str, ...]) -> list[str]:
    for word in words or []:
        if word not in known:
            raise UserError(f"{option} {word}: expected {' or '.join(known)}{nearest(word, known)}")
    return words or list(known)


def _place(device: str) -> "torch.device":
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"--device {device}: expected auto, cpu or cuda")
    import torch

    from detloss.step import device_name

    return torch.device(device_name(device))
