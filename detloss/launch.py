"""Where a run computes: in this process, under torchrun or srun in place, or in workers by torch elastic."""

import logging
import os
import subprocess
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from omegaconf import DictConfig, OmegaConf
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, record
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from detloss.data.files import dataset_files
from detloss.errors import TrainingFailed, UserError
from detloss.settings import check_settings
from detloss.train import Metrics, train

COLLECTIVE_TIMEOUT = timedelta(hours=2)
"""Ranks wait this long for rank 0, which evaluates large validation sets alone."""


def launch(cfg: DictConfig, folder: Path, *, sweep: str | None = None) -> Metrics:
    """Train ``cfg`` in ``folder`` and return the metrics of rank 0, empty on other ranks.

    Raises:
        UserError: the user's words or files are wrong.
        TrainingFailed: the loss is not finite, or a worker died.
        KeyboardInterrupt: the run was stopped, and saved before it left.
    """
    check_settings(cfg)
    device = device_name(str(cfg.trainer.device))
    if _started_by_srun():
        _take_over_from_srun()
    if "RANK" in os.environ:
        return _train_in_group(cfg, folder, sweep, device)
    if cfg.trainer.devices * cfg.trainer.nodes == 1:
        return train(cfg, folder, device=torch.device(device), sweep=sweep)
    return _train_by_workers(cfg, folder, sweep, device)


def device_name(choice: str) -> str:
    """Return cpu or cuda, which ``trainer.device`` names or leaves to what there is."""
    if choice == "cuda" and not torch.cuda.is_available():
        raise UserError("trainer.device=cuda: torch sees no GPU here; see `detloss doctor`")
    if choice == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return choice


def _train_in_group(cfg: DictConfig, folder: Path, sweep: str | None, device: str) -> Metrics:
    """Join the process group that the environment describes, and train as one of its ranks."""
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if device == "cuda":
        if local_rank >= torch.cuda.device_count():
            raise UserError(
                f"trainer.devices={cfg.trainer.devices}: this node has {torch.cuda.device_count()} GPUs"
            )
        torch.cuda.set_device(local_rank)
        placed = torch.device("cuda", local_rank)
    else:
        # Ranks share the cores; two with all threads each slow each other tenfold.
        torch.set_num_threads(max(1, torch.get_num_threads() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
        placed = torch.device("cpu")
    dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=COLLECTIVE_TIMEOUT)
    try:
        return train(cfg, folder, device=placed, sweep=sweep)
    finally:
        dist.destroy_process_group()


def _train_by_workers(cfg: DictConfig, folder: Path, sweep: str | None, device: str) -> Metrics:
    """Start ``trainer.devices`` workers on this node and wait for them."""
    dataset_files(cfg.dataset)  # generated data is made once, not by every rank
    # Otherwise a restarted attempt reads the addresses of the old one.
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, torch.get_num_threads() // cfg.trainer.devices)))
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    launch_config = LaunchConfig(
        min_nodes=cfg.trainer.nodes,
        max_nodes=cfg.trainer.nodes,
        nproc_per_node=cfg.trainer.devices,
        run_id=folder.name,
        rdzv_backend="c10d",
        rdzv_endpoint=_meeting_point(cfg.trainer.nodes),
        max_restarts=0,
        monitor_interval=0.2,
        start_method="spawn",
    )
    content = OmegaConf.to_yaml(cfg, resolve=True)
    try:
        results = elastic_launch(launch_config, _worker)(content, str(folder), sweep, device)
    except ChildFailedError as error:
        raise _explain(error) from error
    except SignalException as error:
        raise KeyboardInterrupt from error
    if any(result is None for result in results.values()):
        raise KeyboardInterrupt
    metrics: Metrics = results.get(0, {})
    return metrics


def _meeting_point(nodes: int) -> str:
    if nodes == 1:
        return "localhost:0"
    if "MASTER_ADDR" not in os.environ:
        raise UserError(
            f"trainer.nodes={nodes} needs MASTER_ADDR (the first node's name) and MASTER_PORT, the same on every "
            "node; or start detloss by torchrun or srun"
        )
    return f"{os.environ['MASTER_ADDR']}:{os.environ.get('MASTER_PORT', '29400')}"


@record
def _worker(content: str, folder: str, sweep: str | None, device: str) -> Metrics | None:
    """Run one rank; None says that it was stopped and saved."""
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    cfg = OmegaConf.create(content)
    assert isinstance(cfg, DictConfig)
    try:
        return _train_in_group(cfg, Path(folder), sweep, device)
    except KeyboardInterrupt:
        return None


def _explain(error: ChildFailedError) -> Exception:
    """Return the first failure as an error of ours, one line."""
    rank, failure = error.get_first_failure()
    # torch declares a string, and gives the error file's dict when a worker raised.
    message = failure.message if isinstance(failure.message, str) else str(failure.message.get("message", ""))
    kind, _, text = message.partition(": ")
    if kind == "UserError":
        return UserError(text)
    if kind == "TrainingFailed":
        return TrainingFailed(text)
    reason = message.splitlines()[-1] if message else f"exit code {failure.exitcode}"
    if failure.exitcode < 0:
        reason = f"killed by {failure.signal_name()}"
    return TrainingFailed(f"worker {rank} ended: {reason}; the same command goes on from the last checkpoint")


def _started_by_srun() -> bool:
    return (
        "RANK" not in os.environ and int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in os.environ
    )


def _take_over_from_srun() -> None:
    """Say in torchrun's words what srun said in its own."""
    environment = os.environ
    hosts = subprocess.run(
        ["scontrol", "show", "hostnames", environment["SLURM_JOB_NODELIST"]],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    environment["RANK"] = environment["SLURM_PROCID"]
    environment["WORLD_SIZE"] = environment["SLURM_NTASKS"]
    environment["LOCAL_RANK"] = environment["SLURM_LOCALID"]
    environment["LOCAL_WORLD_SIZE"] = str(int(environment["SLURM_NTASKS"]) // len(hosts))
    environment.setdefault("MASTER_ADDR", hosts[0])
    # Jobs on one node must not meet in one port.
    environment.setdefault("MASTER_PORT", str(20000 + int(environment["SLURM_JOB_ID"]) % 20000))
