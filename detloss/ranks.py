"""Which rank this process is, by torchrun's or srun's word; no torch here."""

import os
import subprocess

from detloss.errors import UserError


def rank_given() -> int | None:
    """Return the rank that torchrun (RANK) or srun (SLURM_PROCID of a step of several tasks) gave, or None.

    SLURM_NTASKS alone means nothing: the batch script itself has it, too.
    """
    if "RANK" in os.environ:
        return int(os.environ["RANK"])
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        return int(os.environ["SLURM_PROCID"])
    return None


def translate_srun() -> None:
    """Say in torchrun's words what srun said in its own; the meeting point is the first host of the step."""
    environment = os.environ
    if "RANK" in environment:
        return
    hosts = _hosts(environment["SLURM_STEP_NODELIST"])
    environment["RANK"] = environment["SLURM_PROCID"]
    environment["WORLD_SIZE"] = environment["SLURM_STEP_NUM_TASKS"]
    environment["LOCAL_RANK"] = environment["SLURM_LOCALID"]
    environment["LOCAL_WORLD_SIZE"] = str(max(1, int(environment["WORLD_SIZE"]) // len(hosts)))
    environment.setdefault("MASTER_ADDR", hosts[0])
    # Jobs that share a node must not meet at one port.
    environment.setdefault("MASTER_PORT", str(20000 + int(environment["SLURM_JOB_ID"]) % 20000))


def _hosts(compressed: str) -> list[str]:
    command = ["scontrol", "show", "hostnames", compressed]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError) as error:
        raise UserError(
            f"srun started this process on {compressed}, but `{' '.join(command)}` fails ({error}); "
            "set RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT, or use torchrun"
        ) from error
