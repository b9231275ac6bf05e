"""The whole run: data, model, step, log, evaluate, save."""

from pathlib import Path

import torch
from omegaconf import DictConfig

from detloss import build, checkpoint, distributed
from detloss.data.files import dataset_files
from detloss.data.loader import BatchPlan, training_loader
from detloss.evaluate import Metrics, check_evaluation, evaluate_detector
from detloss.interrupt import StopRequest
from detloss.loggers import open_loggers
from detloss.losses.base import state_scalars
from detloss.probe import GradientProbe
from detloss.progress import Display
from detloss.schedule import set_learning_rate, total_steps
from detloss.skipped import skipped_images, tolerated_images
from detloss.stats import frequency_groups
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
    check_evaluation(cfg, validation, dataset.stats)
    dataset.cache = build.image_cache(cfg, dataset)
    groups = frequency_groups(dataset.stats.images, build.group_thresholds(cfg))

    # Model; every rank starts from the same weights and then draws its own proposals
    last = folder / "last.ckpt"
    resuming = distributed.from_leader(last.exists(), device) > 0
    torch.manual_seed(cfg.seed)
    detector = build.detector(cfg, dataset.stats, load=not resuming).to(device)
    optimizer = build.optimizer(cfg, detector)
    precision = autocast_type(trainer.precision, device)
    scaler = torch.amp.GradScaler(device.type, enabled=precision is torch.float16)
    torch.manual_seed(cfg.seed + rank)
    probe = GradientProbe(detector, scaler, every=trainer.probe.every, last_step=total)
    state = checkpoint.RunState(detector, optimizer, scaler, dataset.stats, probe)
    if resuming:
        state.resume(last)
    progress = state.progress

    batches = training_loader(
        dataset,
        build.augmentation(cfg, dataset),
        plan,
        first_step=progress.step,
        last_step=total,
        rank=rank,
        world_size=distributed.world_size(),
        accumulate=trainer.accumulate,
        workers=trainer.workers,
        pin_memory=device.type == "cuda",
        tolerated=tolerated_images(cfg.data),
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

    def evaluate() -> Metrics:
        """Evaluate and log; keep the best checkpoint. Ranks agree on the score."""
        with display.paused():
            found = evaluate_detector(cfg, detector, validation, files, dataset.stats, folder, device=device)
            loggers.log_evaluation(progress.step, found)
        if progress.note_score(distributed.from_leader(found.metrics.get("bbox", {}).get("AP") or 0.0, device)):
            state.save(folder / "best.ckpt")
        return found.metrics

    if rank == 0:
        build.describe_data(dataset, validation, folder)
    loggers = open_loggers(cfg, folder, dataset.stats, validation, first_step=progress.step, sweep=sweep)
    display = Display("train", total, done=progress.step, visible=rank == 0)
    with loggers, display, StopRequest() as stop:
        window = Window()
        while True:
            if progress.is_due(trainer.evaluate_every, total):
                evaluate()
            if progress.step >= total or progress.is_out_of(trainer.patience):
                break
            rate = set_learning_rate(schedule, optimizer, progress.step, total)
            with probe.on_step(progress.step):
                window.reports.append(step(batches, progress.step))
            progress.step += 1
            display.advance(progress.step)
            if progress.step % trainer.log_every == 0 or progress.step == total:
                values = window.means() | skipped_images(cfg.data, batches.skipped, device)
                epoch = plan.epoch_of_step(progress.step - 1)[0]
                loggers.log(progress.step, {"epoch": epoch, "lr": rate, **values, **state_scalars(detector)})
                display.note(progress.step, values)
            if probe.window_ends(progress.step):
                loggers.log_gradients(progress.step, *probe.end_window(groups))
            stopping = distributed.any_rank(stop.made, device)
            if stopping or progress.step % trainer.checkpoint_every == 0:
                state.save(last)
            if stopping:
                raise KeyboardInterrupt
        state.save(last)
        return evaluate()
