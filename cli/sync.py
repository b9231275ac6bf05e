"""``detloss sync``: what was logged offline goes to W&B."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from detloss.errors import UserError

from .run_words import run_folders

Runs = Annotated[
    list[str] | None,
    typer.Argument(metavar="run=RUN run=RUN...", help="Run folders, or patterns of them.", show_default=False),
]


def sync(words: Runs = None) -> None:
    """Upload the W&B runs that were logged offline; nothing is deleted, and nothing is sent twice."""
    given = [word.removeprefix("run=") for word in words or []]
    runs = run_folders([word for word in given if word], "upload")
    from detloss.wandb_sync import is_uploaded, offline_runs, require_key, why_unreachable

    found = {run: offline_runs(run) for run in runs}
    if not any(found.values()):
        several = f" nor do the {len(runs) - 1} others" if len(runs) > 1 else ""
        raise UserError(
            f"{runs[0]} holds no offline W&B run{several}; logger=wandb logs one without key or network"
        )
    for run in runs:
        if not found[run]:
            print(f"{run}: no offline W&B run")
        elif all(is_uploaded(offline) for offline in found[run]):
            print(f"{run}: uploaded before")
    waiting = {run: [each for each in found[run] if not is_uploaded(each)] for run in runs}
    waiting = {run: offline for run, offline in waiting.items() if offline}
    if not waiting:
        return
    require_key()
    problem = why_unreachable()
    if problem:
        print(f"error: nothing uploaded: {problem}", file=sys.stderr)
        raise typer.Exit(1)
    if sum(_upload(run, offline) for run, offline in waiting.items()) < len(waiting):
        raise typer.Exit(1)


def _upload(run: Path, waiting: list[Path]) -> bool:
    """Upload a run's parts in their order, and say of each what became of it; False when one failed."""
    from detloss.run_folder import locked
    from detloss.wandb_sync import size_of, upload

    with locked(run):  # W&B would take what a training has written so far for all of it
        for offline in waiting:
            print(f"{run}: {offline.name}, {size_of(offline) / 1e6:.1f} MB ...", flush=True)
            problem = upload(offline)
            if problem:
                print(f"error: {run}: {offline.name} not uploaded: {problem}", file=sys.stderr)
                return False
            print(f"{run}: {offline.name} uploaded")
    return True
