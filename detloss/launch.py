"""Where a run computes: in this process, under torchrun or srun in place, or in workers by torch elastic."""

import json
import logging
import os
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from omegaconf import DictConfig, OmegaConf
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, record
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from detloss.data.files import dataset_files
from detloss.decoupled import train_in_stages
from detloss.errors import TrainingFailed, UserError
from detloss.ranks import rank_given, translate_srun
from detloss.settings import check_settings
from detloss.step import device_name
from detloss.train import Metrics

COLLECTIVE_TIMEOUT = timedelta(hours=2)
"""Ranks wait this long for rank 0, which evaluates large validation sets alone."""

INTERRUPTED = 130


def launch(cfg: DictConfig, folder: Path, *, sweep: str | None = None) -> Metrics:
    """Train ``cfg`` in ``folder`` and return the metrics of rank 0, empty on other ranks.

    Raises:
        UserError: the user's words or files are wrong.
        TrainingFailed: the loss is not finite, or a worker died.
        KeyboardInterrupt: the run was stopped, and saved before it left.
    """
    check_settings(cfg)
    device = device_name(str(cfg.trainer.device))
    if device == "cpu" and cfg.backbone.norm == "sync":
        raise UserError("backbone.norm=sync needs GPUs; on a CPU use group, or batch")
    if rank_given() is not None:
        translate_srun()
        return _train_in_group(cfg, folder, sweep, device)
    if cfg.trainer.nodes > 1:
        raise UserError(
            f"trainer.nodes={cfg.trainer.nodes}: start every node by srun, or by torchrun "
            f"--nnodes={cfg.trainer.nodes} --nproc-per-node={cfg.trainer.devices} --rdzv-backend=c10d "
            "--rdzv-endpoint=FIRST_NODE:29400 -m detloss train ..."
        )
    if cfg.trainer.devices == 1:
        return train_in_stages(cfg, folder, device=torch.device(device), sweep=sweep)
    return _train_by_workers(cfg, folder, sweep, device)


def _train_in_group(cfg: DictConfig, folder: Path, sweep: str | None, device: str) -> Metrics:
    """Join the process group that the environment describes, and train as one of its ranks."""
    placed = torch.device("cpu") if device == "cpu" else _gpu(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group(
        "gloo" if device == "cpu" else "nccl",
        timeout=COLLECTIVE_TIMEOUT,
        device_id=None if device == "cpu" else placed,
    )
    try:
        metrics = train_in_stages(cfg, folder, device=placed, sweep=sweep)
    except KeyboardInterrupt:  # all ranks agreed to stop
        dist.destroy_process_group()
        raise
    # Not after a failure: it would wait for ranks that are still in a collective, or break their connection
    # before this one's error is known.
    dist.destroy_process_group()
    return metrics


def _gpu(local_rank: int) -> torch.device:
    count = torch.cuda.device_count()
    index = 0 if count == 1 and rank_given() is not None else local_rank  # srun may show a task its own alone
    if index >= count:
        raise UserError(
            f"local rank {local_rank} has no GPU, this node shows {count}; try trainer.devices={count}"
        )
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def _train_by_workers(cfg: DictConfig, folder: Path, sweep: str | None, device: str) -> Metrics:
    """Start ``trainer.devices`` workers on this node and wait for them."""
    devices = cfg.trainer.devices
    if device == "cuda" and devices > torch.cuda.device_count():
        raise UserError(f"trainer.devices={devices}: this node has {torch.cuda.device_count()} GPUs")
    dataset_files(cfg.dataset)  # generated data is made once, not by every rank
    # Otherwise a restarted attempt reads the addresses of the old one.
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    # Workers share the cores: two with all threads each slow each other tenfold.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, torch.get_num_threads() // devices)))
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    launch_config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=devices,
        run_id=folder.name,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.2,
        start_method="spawn",
    )
    content = OmegaConf.to_yaml(cfg, resolve=True)
    try:
        results = elastic_launch(launch_config, _worker)(content, str(folder), sweep, device)
    except ChildFailedError as error:
        if error.get_first_failure()[1].exitcode == INTERRUPTED:
            raise KeyboardInterrupt from error
        raise _explain(error) from error
    except SignalException as error:
        raise KeyboardInterrupt from error
    metrics: Metrics = results[0]
    return metrics


@record
def _worker(content: str, folder: str, sweep: str | None, device: str) -> Metrics:
    """Run one rank; one that was stopped and saved exits with code 130.

    It must exit: torch elastic, once interrupted, waits 30 seconds for a worker that returned.
    """
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    cfg = OmegaConf.create(content)
    assert isinstance(cfg, DictConfig)
    try:
        return _train_in_group(cfg, Path(folder), sweep, device)
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


def _explain(error: ChildFailedError) -> Exception:
    """Return the failure that the others followed from as an error of ours, one line.

    A rank that raises breaks the connections of the others, which then fail, too; so errors of ours come first.
    """
    rank, failure = error.get_first_failure()
    ours = {"UserError": UserError, "TrainingFailed": TrainingFailed}
    messages = _recorded_messages(Path(failure.error_file))
    for message in messages:
        kind, _, text = message.partition(": ")
        if kind in ours:
            return ours[kind](text)
    if failure.exitcode < 0:
        reason = f"killed by {failure.signal_name()}"
    else:
        reason = messages[0].splitlines()[-1] if messages else f"exit code {failure.exitcode}"
    return TrainingFailed(f"worker {rank} ended: {reason}; the same command goes on from the last checkpoint")


def _recorded_messages(error_file: Path) -> list[str]:
    """Return what failed ranks wrote, "KIND: TEXT" each, the rank of ``error_file`` first."""
    messages = []
    others = sorted(error_file.parent.parent.glob("*/error.json"))
    for path in (error_file, *(other for other in others if other != error_file)):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))["message"]
        except (OSError, ValueError, KeyError):
            continue
        messages.append(str(content["message"] if isinstance(content, dict) else content))
    return messages
