"""The whole run: data, model, step, log, evaluate, save."""

from pathlib import Path

import torch
from omegaconf import DictConfig

from detloss import build, checkpoint, distributed
from detloss.checkpoint import Progress
from detloss.data.files import dataset_files
from detloss.data.loader import BatchPlan, training_loader
from detloss.data.transforms import training_transform
from detloss.evaluate import Metrics, evaluate_detector, flat
from detloss.interrupt import StopRequest
from detloss.loggers import open_loggers
from detloss.losses.base import state_scalars
from detloss.progress import Display
from detloss.schedule import set_learning_rate, total_steps
from detloss.step import Step, Window, autocast_type, data_parallel


def train(cfg: DictConfig, folder: Path, *, device: torch.device, sweep: str | None = None) -> Metrics:
    """Train the detector of ``cfg`` as this rank, going on from the checkpoint in ``folder`` if there is one.

    Returns:
        The metrics of the final evaluation on rank 0, empty on the others.

    Raises:
        UserError: a wrong word or file.
        TrainingFailed: a loss or gradient that is not finite.
        KeyboardInterrupt: the run was asked to stop, and saved first.
    """
    rank, trainer, schedule = distributed.rank(), cfg.trainer, cfg.schedule

    # Data
    files = dataset_files(cfg.dataset)
    dataset, validation = build.training_set(cfg, files), build.validation_set(cfg, files)
    plan = BatchPlan(build.sampler(cfg, dataset), dataset.sizes, batch_size=schedule.batch_size, seed=cfg.seed)
    total = total_steps(schedule, plan)

    # Model; every rank starts from the same weights and then draws its own proposals
    torch.manual_seed(cfg.seed)
    detector = build.detector(cfg, dataset.stats).to(device)
    optimizer = build.optimizer(cfg, detector)
    precision = autocast_type(trainer.precision, device)
    scaler = torch.amp.GradScaler(device.type, enabled=precision is torch.float16)
    torch.manual_seed(cfg.seed + rank)

    # Where the run stands
    progress, last = Progress(), folder / "last.ckpt"
    if last.exists():
        saved = checkpoint.load(last)
        progress = checkpoint.resume(saved, model=detector, optimizer=optimizer, scaler=scaler, path=last)

    def save(name: str) -> None:
        checkpoint.save(
            folder / name,
            model=detector,
            optimizer=optimizer,
            scaler=scaler,
            progress=progress,
            stats=dataset.stats,
        )

    def evaluate() -> Metrics:
        """Evaluate and log; keep the best checkpoint. Ranks agree on the score."""
        metrics = evaluate_detector(cfg, detector, validation, files, dataset.stats, folder, device=device)
        loggers.log(progress.step, flat(metrics))
        if progress.note_score(distributed.from_leader(metrics.get("bbox", {}).get("AP") or 0.0, device)):
            save("best.ckpt")
        return metrics

    batches = training_loader(
        dataset,
        training_transform(cfg.dataset.scales, cfg.dataset.max_size, cfg.dataset.flip),
        plan,
        first_step=progress.step,
        last_step=total,
        rank=rank,
        world_size=distributed.world_size(),
        accumulate=trainer.accumulate,
        workers=trainer.workers,
        pin_memory=device.type == "cuda",
    )
    step = Step(
        data_parallel(detector, device),
        optimizer,
        scaler,
        device,
        trainer.accumulate,
        schedule.clip_norm,
        precision,
        rescue=folder / f"nonfinite_batch.{rank}.pt",
    )
    loggers = open_loggers(cfg, folder, first_step=progress.step, sweep=sweep)
    if rank == 0:
        build.describe_data(dataset, validation, folder)
    with (
        loggers,
        Display("train", total, done=progress.step, visible=rank == 0) as display,
        StopRequest() as stop,
    ):
        window = Window()
        while progress.step < total and not progress.is_out_of(trainer.patience):
            rate = set_learning_rate(schedule, optimizer, progress.step, total)
            window.reports.append(step(batches, progress.step))
            progress.step += 1
            display.advance(progress.step)
            if progress.step % trainer.log_every == 0 or progress.step == total:
                values = window.means()
                epoch = plan.epoch_of_step(progress.step - 1)[0]
                loggers.log(progress.step, {"epoch": epoch, "lr": rate, **values, **state_scalars(detector)})
                display.note(progress.step, values)
            if distributed.any_rank(stop.made, device):
                save("last.ckpt")
                raise KeyboardInterrupt
            if trainer.evaluate_every and progress.step % trainer.evaluate_every == 0 and progress.step < total:
                evaluate()
            if progress.step % trainer.checkpoint_every == 0 or progress.step == total:
                save("last.ckpt")
        return evaluate()
