"""Upload of W&B runs that were logged offline, by ``wandb sync`` (no torch here)."""

import os
import subprocess
import sys
import tempfile
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from detloss import run_folder
from detloss.errors import UserError
from detloss.wandb_account import wandb_key_exists

SETTLE, LEAST_RATE = 120, 50_000
"""Seconds and bytes a second after which an upload is given up; ``wandb sync`` itself tries for ever."""

UNSENT = "unsent"
"""A file that marks an online W&B run whose server was lost before all was sent."""


def offline_runs(run: Path) -> list[Path]:
    """Return the W&B runs in a run folder that were offline, or became so, the earliest first.

    A resumed training has several. Raises `UserError` for a folder that is no run.
    """
    run_folder.load_config(run)
    folders = {file.parent for file in run.glob("wandb/*run-*/*.wandb")}
    chosen = [each for each in folders if each.name.startswith("offline-") or (each / UNSENT).exists()]
    return sorted(chosen, key=lambda each: each.name.removeprefix("offline-"))  # then comes the time


def is_uploaded(offline: Path) -> bool:
    """Whether W&B has marked an offline run as uploaded to its end."""
    return any(offline.glob("*.wandb.synced"))


def require_key() -> None:
    """Raise `UserError` where W&B would ask for a key."""
    if not wandb_key_exists():
        raise UserError("W&B has no key; run `wandb login`, or set WANDB_API_KEY")


def why_unreachable() -> str | None:
    """Return why W&B's server does not answer, None when it does, whatever it says."""
    import wandb

    server = str(wandb.setup().settings.base_url)
    wandb.teardown()  # or `wandb sync` would share this process's service
    try:
        urlopen(server, timeout=10).close()
    except (HTTPError, HTTPException):
        return None
    except URLError as error:
        return f"{server} does not answer: {error.reason}"
    except (OSError, ValueError) as error:
        return f"{server} does not answer: {error}"
    return None


def size_of(offline: Path) -> int:
    """Return the bytes of a run's files."""
    return sum(path.stat().st_size for path in offline.rglob("*") if path.is_file())


def upload(offline: Path) -> str | None:
    """Upload an offline run and return why that failed, None when it did not."""
    environment = {**os.environ, "WANDB_MODE": "online", "WANDB_SILENT": "false"}
    environment["WANDB_DIR"] = str(offline.parent.parent)  # its logs go beside the run's own
    command = [sys.executable, "-m", "wandb", "sync", "--no-include-synced", "--include-online", str(offline)]
    limit = SETTLE + size_of(offline) / LEAST_RATE
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        try:
            subprocess.run(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=limit
            )
        except subprocess.TimeoutExpired:
            return f"not done after {limit:.0f} s; try again, it goes on where it stopped"
        output.seek(0)
        lines = output.read().splitlines()
    # The exit code is 0 also when the server refuses; only the mark tells.
    return None if is_uploaded(offline) else _said(lines)


def _said(lines: list[str]) -> str:
    """Return the last line that speaks of an error, else the last."""
    errors = [line for line in lines if "error" in line.lower() and "debug-cli" not in line]
    return " ".join([*lines, *errors][-1].split()) if lines else "wandb sync says nothing"
