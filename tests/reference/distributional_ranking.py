"""DR loss written out literally, slow on purpose; autograd differentiates it.

"DR Loss: Improving Object Detection by Distributional Ranking" (CVPR 2020), with the numbers of the authors'
published code. Labels are 0..C-1, C for background and -1 for ignored rows.
"""

import math

import torch
from torch import Tensor


def distributional_ranking(
    logits: Tensor,
    labels: Tensor,
    images: list[int],
    *,
    positive_lambda: float = 1.0,
    negative_lambda: float = 0.1 / math.log(3.5),
    smoothness: float = 6.0,
    tau: float = 4.0,
    margin: float = 0.5,
) -> Tensor:
    """Return the mean over the images that occur."""
    losses = []
    for image in sorted(set(images)):
        positives: list[Tensor] = []
        negatives: list[Tensor] = []
        for row, label in enumerate(labels.tolist()):
            if images[row] != image or label < 0:
                continue
            for column in range(logits.shape[1]):
                (positives if column == label else negatives).append(torch.sigmoid(logits[row, column]))
        high = expectation(positives, -positive_lambda) if positives else torch.tensor(1.0, dtype=logits.dtype)
        low = expectation(negatives, negative_lambda) if negatives else torch.tensor(0.0, dtype=logits.dtype)
        losses.append(tau * torch.log(1 + torch.exp(smoothness * (low - high + margin))) / smoothness)
    return torch.stack(losses).mean()


def expectation(scores: list[Tensor], temperature: float) -> Tensor:
    """Mean of the scores, each weighted by e^(score / temperature)."""
    score = torch.stack(scores)
    share = torch.softmax(score / temperature, dim=0)
    return (share * score).sum()
