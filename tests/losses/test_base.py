"""The step from a class loss to a detection loss."""

import torch

from detloss.losses import L1, ClassPlusBox, CrossEntropy
from tests.losses.conftest import samples_of, stats_of


def test_class_and_box_terms_stand_beside_the_auxiliary_ones() -> None:
    deltas = torch.ones(2, 4)
    samples = samples_of(deltas, deltas, deltas, torch.zeros(2, 4))
    samples.auxiliary["loss_mask"] = torch.tensor(7.0)
    class_loss = CrossEntropy(stats_of([3, 1]))
    loss = ClassPlusBox(class_loss, L1())
    terms = loss(samples)
    assert set(terms) == {"loss_classifier", "loss_box_reg", "loss_mask"}
    # Uniform logits over three columns cost log 3 a row; the weights of all four rows add up to 3.5.
    torch.testing.assert_close(terms["loss_classifier"], 3.5 * torch.tensor(3.0).log())
    assert terms["loss_box_reg"] == 4 * (0.5 + 2.0)
    assert terms["loss_mask"] == 7
    assert loss.coder is class_loss.coder
