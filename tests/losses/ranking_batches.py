"""Batches for the ranking losses, and each loss beside its loop over the positives."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from detloss.losses.ranking import alrp, average_precision, ndcg, rank_sort
from tests.reference import ranking_losses

Loss = Callable[[Tensor, Tensor, float], list[Tensor]]
"""From logits, qualities (0 for negatives, -1 ignored) and delta to values, each followed by its gradient [M]."""


def labels_of(targets: Tensor) -> Tensor:
    return targets.sign().long()


def errors_of(targets: Tensor) -> Tensor:
    """Localisation errors of the positives, as aLRP has them of their IoUs."""
    return 2 * (1 - targets[targets > 0].double())


def with_gradients(logits: Tensor, *values: Tensor) -> list[Tensor]:
    """Return every value, followed by its gradient with respect to the logits."""
    found = []
    for value in values:
        (gradient,) = torch.autograd.grad(value, logits, retain_graph=True)
        found += [value.detach(), gradient]
    return found


def find_ap(logits: Tensor, targets: Tensor, delta: float) -> list[Tensor]:
    logits = logits.clone().requires_grad_()
    return with_gradients(logits, average_precision(logits, labels_of(targets), delta))


def find_alrp(logits: Tensor, targets: Tensor, delta: float) -> list[Tensor]:
    logits, errors = logits.clone().requires_grad_(), errors_of(targets).requires_grad_()
    classification, localisation = alrp(logits, labels_of(targets), errors, delta)
    return with_gradients(logits, classification) + with_gradients(errors, localisation)


def find_rank_sort(logits: Tensor, targets: Tensor, delta: float) -> list[Tensor]:
    logits = logits.clone().requires_grad_()
    return with_gradients(logits, *rank_sort(logits, targets, delta))


def find_ndcg(logits: Tensor, targets: Tensor, delta: float) -> list[Tensor]:
    logits = logits.clone().requires_grad_()
    return with_gradients(logits, ndcg(logits, targets, delta))


def loop_ap(logits: Tensor, targets: Tensor, delta: float) -> list[Tensor]:
    return list(ranking_losses.average_precision(logits, labels_of(targets), delta))


def loop_alrp(logits: Tensor, targets: Tensor, delta: float) -> list[Tensor]:
    return list(ranking_losses.alrp(logits, labels_of(targets), errors_of(targets), delta))


def loop_rank_sort(logits: Tensor, targets: Tensor, delta: float) -> list[Tensor]:
    return list(ranking_losses.rank_sort(logits, targets, delta))


def loop_ndcg(logits: Tensor, targets: Tensor, delta: float) -> list[Tensor]:
    return list(ranking_losses.ndcg(logits, targets, delta))


PAIRS: dict[str, tuple[Loss, Loss]] = {
    "ap": (find_ap, loop_ap),
    "alrp": (find_alrp, loop_alrp),
    "rank_sort": (find_rank_sort, loop_rank_sort),
    "ndcg": (find_ndcg, loop_ndcg),
}
every_loss = pytest.mark.parametrize(("find", "loop"), PAIRS.values(), ids=PAIRS.keys())


def batch_of(positives: int, negatives: int, seed: int, *, ignored: int = 0) -> tuple[Tensor, Tensor]:
    """Logits and targets of a batch, rows in random order, float64."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(positives + negatives + ignored, generator=generator, dtype=torch.float64)
    logits[positives:] -= 1
    targets = torch.zeros_like(logits)
    targets[:positives] = 1 - torch.rand(positives, generator=generator, dtype=torch.float64)  # above 0, up to 1
    targets[positives + negatives :] = -1
    order = torch.randperm(len(logits), generator=generator)
    return logits[order], targets[order]


def assert_equal(found: list[Tensor], expected: list[Tensor], tolerance: float = 1e-10) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
