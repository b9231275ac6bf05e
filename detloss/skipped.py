"""Images that training leaves out because they cannot be read: counted over all ranks, up to a limit."""

from collections.abc import Mapping

import torch
from omegaconf import DictConfig

from detloss import distributed
from detloss.errors import UserError


def tolerated_images(options: DictConfig) -> int:
    """Return how many images may be skipped by ``data.on_error`` and ``data.error_limit``."""
    limit: int = options.error_limit
    return limit if options.on_error == "skip" else 0


def skipped_images(options: DictConfig, skipped: Mapping[int, str], device: torch.device) -> dict[str, float]:
    """Return how many different images all ranks have skipped, to be logged; nothing where none may be.

    ``skipped`` is what is wrong with this rank's images by their id; every rank must call it. Raises
    ``UserError``, on every rank, for more than the limit.
    """
    if not tolerated_images(options):
        return {}
    mine = torch.tensor(sorted(skipped), dtype=torch.int64, device=device)
    count = len(torch.cat(distributed.from_every_rank(mine)).unique())
    if count > options.error_limit:
        last = f"; the last was {list(skipped.values())[-1]}" if skipped else ""
        raise UserError(
            f"{count} images cannot be read, more than data.error_limit={options.error_limit}{last}; see "
            "`detloss data check`"
        )
    return {"skipped_images": float(count)}
