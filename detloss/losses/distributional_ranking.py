"""DR loss: the expected score of an image's negatives below that of its positives (Qian et al., CVPR 2020)."""

import math

import torch
from torch import Tensor

from detloss.losses.dense import CHUNK, GPU_CHUNK
from detloss.losses.entries import at_least_float32, softplus
from detloss.losses.known_gradient import with_gradient


def distributional_ranking(
    logits: Tensor,
    labels: Tensor,
    image_index: Tensor | None = None,
    *,
    positive_lambda: float = 1.0,
    negative_lambda: float = 0.1 / math.log(3.5),
    smoothness: float = 6.0,
    tau: float = 4.0,
    margin: float = 0.5,
) -> Tensor:
    """Return tau / L log(1 + exp(L (P- - P+ + margin))), eq. 6-9 of the paper, as mean over images.

    P+ is the mean score of an image's positives under softmax(-p / lambda+), and P- that of its negatives under
    softmax(p / lambda-): the hard ones weigh most. Both are differentiated through these weights, too. All classes
    of background rows and the other classes of foreground rows are negatives. Without positives P+ is 1, without
    negatives P- is 0. An image counts if it has a row, be it an ignored one.

    Args:
        logits: [M, C].
        labels: [M], 0..C-1, C for background; rows with a label below 0 are ignored.
        image_index: [M], one distribution per image as in the paper; None is one for all rows, as in the authors'
            code.
        positive_lambda: temperature of the positives' weights, lambda+.
        negative_lambda: temperature of the negatives' weights, lambda-.
        smoothness: L of the smoothed hinge.
        tau: weight of the loss.
        margin: by how much P+ should exceed P-.
    """
    logits = at_least_float32(logits)
    if not len(logits):
        return logits.sum() * 0
    wanted = torch.is_grad_enabled()
    with torch.no_grad():
        images = torch.zeros_like(labels) if image_index is None else image_index
        rows_of_image = torch.bincount(images)
        positives = _Positives(logits, labels, images, len(rows_of_image), positive_lambda)
        negatives = _Negatives(logits, labels, images, len(rows_of_image), negative_lambda)
        gap = smoothness * (negatives.expectation - positives.expectation + margin)
        counts = (rows_of_image > 0).double()
        share = counts / counts.sum()
        value = (tau / smoothness * softplus(gap) * share).sum().to(logits.dtype)
        if not wanted:
            return value
        slope = tau * gap.sigmoid() * share
        gradient = negatives.gradient(slope)
        gradient[positives.rows, positives.classes] = positives.gradient(-slope).to(gradient.dtype)
    return with_gradient(logits, value, gradient)


class _Positives:
    """Expected score per image [I] of the entries at the labels, in float64; 1 without any."""

    def __init__(self, logits: Tensor, labels: Tensor, images: Tensor, count: int, temperature: float) -> None:
        self.rows = torch.nonzero((labels >= 0) & (labels < logits.shape[1])).squeeze(1)
        self.classes, self.images = labels[self.rows], images[self.rows]
        self.temperature = temperature
        self.scores = logits[self.rows, self.classes].double().sigmoid()
        lowest = self.scores.new_ones(count).scatter_reduce_(0, self.images, self.scores, "amin")
        weights = torch.exp((lowest[self.images] - self.scores) / temperature)
        totals = weights.new_zeros(count).index_add_(0, self.images, weights)
        self.weights = weights / totals[self.images]
        sums = totals.new_zeros(count).index_add_(0, self.images, self.weights * self.scores)
        self.expectation = sums.where(totals > 0, 1.0)

    def gradient(self, slope: Tensor) -> Tensor:
        """Return the derivative [P] with respect to the logits of sum_i slope_i expectation_i."""
        excess = (self.scores - self.expectation[self.images]) / self.temperature
        by_score = slope[self.images] * self.weights * (1 - excess)
        return by_score * self.scores * (1 - self.scores)


class _Negatives:
    """Expected score per image [I] of all other entries, in float64; 0 without any.

    The logits are read in chunks, like those of `dense.dense_loss`, and nothing else of their size is made.
    """

    def __init__(self, logits: Tensor, labels: Tensor, images: Tensor, count: int, temperature: float) -> None:
        self.logits, self.labels, self.images = logits, labels, images
        self.temperature = temperature
        # The highest logit of every row, targets and ignored rows left out.
        filled = [self._filled(logits[chunk].clone(), chunk, -math.inf).amax(dim=1) for chunk in self._chunks()]
        highest = torch.cat(filled)
        self.top = highest.new_full((count,), -math.inf).scatter_reduce_(0, images, highest, "amax").sigmoid()
        self.totals = highest.new_zeros(count, dtype=torch.float64)
        sums = torch.zeros_like(self.totals)
        for chunk in self._chunks():
            weights, scores = self._weights(chunk)
            self.totals.index_add_(0, images[chunk], weights.sum(dim=1).double())
            sums.index_add_(0, images[chunk], weights.mul_(scores).sum(dim=1).double())
        # The highest weighs 1, so that totals are about 1 or more, or 0.
        self.expectation = sums / self.totals.clamp(min=0.5)

    def gradient(self, slope: Tensor) -> Tensor:
        """Return the derivative [M, C] with respect to the logits of sum_i slope_i expectation_i."""
        gradient = torch.empty_like(self.logits)
        factor = (slope / self.totals.clamp(min=0.5)).to(gradient.dtype)
        for chunk in self._chunks():
            weights, scores = self._weights(chunk)
            images = self.images[chunk]
            excess = (scores - self.expectation[images, None].to(scores.dtype)).div_(self.temperature)
            by_score = weights.mul_(factor[images, None]).mul_(excess.add_(1))
            torch.mul(by_score.mul_(scores), 1 - scores, out=gradient[chunk])
        return gradient

    def _weights(self, chunk: slice) -> tuple[Tensor, Tensor]:
        """Return exp((p - highest p) / lambda-), 0 where no negative is, and the scores p, [m, C] both."""
        scores = self.logits[chunk].sigmoid()
        top = self.top[self.images[chunk], None]
        return self._filled((scores - top).div_(self.temperature).exp_(), chunk, 0.0), scores

    def _chunks(self) -> list[slice]:
        size = CHUNK if self.logits.device.type == "cpu" else GPU_CHUNK
        step = max(1, size // self.logits.shape[1])
        return [slice(start, start + step) for start in range(0, len(self.logits), step)]

    def _filled(self, entries: Tensor, chunk: slice, value: float) -> Tensor:
        """Write ``value`` into entries [m, C] of a chunk at targets and in ignored rows, and return them."""
        labels = self.labels[chunk, None]
        columns = labels.clamp(0, entries.shape[1] - 1)
        entries.scatter_(1, columns, entries.gather(1, columns).masked_fill_(labels == columns, value))
        return entries.masked_fill_(labels < 0, value)
