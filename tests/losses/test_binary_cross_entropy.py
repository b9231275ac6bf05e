"""Binary cross entropy against torch's on one-hot targets, and the softplus under it."""

import math

import pytest
import torch
from torch.nn import functional as F

from detloss.losses import BinaryCrossEntropy
from detloss.losses.entries import binary_cross_entropy, softplus
from tests.losses.conftest import stats_of


def test_binary_cross_entropy_equals_torchs_on_one_hot_targets() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn(9, 4, generator=generator, dtype=torch.float64) * 5).requires_grad_()
    labels = torch.tensor([0, 1, 2, 3, 4, 4, 0, 2, 4])
    weights = torch.rand(9, generator=generator, dtype=torch.float64)
    targets = F.one_hot(labels, 5)[:, :4].double()
    expected = F.binary_cross_entropy_with_logits(logits, targets, weights[:, None], reduction="sum")
    loss = BinaryCrossEntropy(stats_of([1] * 4))(logits, labels, weights)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        *(torch.autograd.grad(value, logits)[0] for value in (loss, expected)), rtol=1e-12, atol=1e-12
    )


def test_the_background_label_is_a_positive_only_where_background_has_a_column() -> None:
    logits, labels = torch.zeros(1, 3, dtype=torch.float64), torch.tensor([2])
    shifted = logits.clone()
    shifted[0, 2] = 5.0
    with_column = binary_cross_entropy(shifted, labels)[0]
    assert with_column[2].item() == pytest.approx(math.log1p(math.exp(-5)))
    without_column = binary_cross_entropy(shifted[:, :2], labels)[0]
    assert without_column.tolist() == pytest.approx([math.log(2)] * 2)


@pytest.mark.parametrize("logit", [-700.0, -40.0, 0.0, 15.0, 19.9, 20.1, 25.0, 36.0, 41.0, 1e4])
def test_softplus_and_its_gradient_keep_their_digits_beyond_twenty(logit: float) -> None:
    value = torch.tensor(logit, dtype=torch.float64, requires_grad=True)
    result = softplus(value)
    result.backward()
    exact = max(logit, 0) + math.log1p(math.exp(-abs(logit)))
    assert result.item() == pytest.approx(exact, rel=1e-15, abs=0)
    slope = 1 / (1 + math.exp(-logit)) if logit > -700 else math.exp(logit)
    assert value.grad.item() == pytest.approx(slope, rel=1e-14, abs=0)
