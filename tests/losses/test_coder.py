"""Coders: what logits mean and how classifiers start."""

import math

import pytest
import torch

from detloss.losses.coder import ClassCoder, Sigmoid, SigmoidWithObjectness, Softmax

CODERS = [Softmax, Sigmoid, SigmoidWithObjectness]


@pytest.mark.parametrize("coder_type", CODERS)
@pytest.mark.parametrize("num_classes", [1, 5, 1203])
def test_scores_lie_between_zero_and_one_for_any_logits(coder_type: type[ClassCoder], num_classes: int) -> None:
    coder = coder_type(num_classes)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(7, coder.num_logits, generator=generator) * 10
    logits[0], logits[1] = 1e4, -1e4
    scores = coder.decode(logits)
    assert scores.shape == (7, num_classes)
    assert torch.isfinite(scores).all()
    assert scores.min() >= 0
    assert scores.max() <= 1


@pytest.mark.parametrize("coder_type", CODERS)
def test_a_higher_class_logit_means_a_higher_score_of_that_class(coder_type: type[ClassCoder]) -> None:
    coder = coder_type(3)
    logits = torch.zeros(1, coder.num_logits)
    raised = logits.clone()
    raised[0, coder.class_columns[1]] = 1.0
    change = coder.decode(raised) - coder.decode(logits)
    assert change[0, 1] > 0
    assert change[0, 0] <= 0
    assert change[0, 2] <= 0


def test_softmax_scores_leave_out_the_background_at_the_end() -> None:
    logits = torch.tensor([[0.0, math.log(2), math.log(5)]])
    assert Softmax(2).decode(logits)[0].tolist() == pytest.approx([1 / 8, 2 / 8])


def test_sigmoid_scores_are_independent() -> None:
    logits = torch.tensor([[0.0, math.log(3)]])
    assert Sigmoid(2).decode(logits)[0].tolist() == pytest.approx([0.5, 0.75])


def test_objectness_scales_the_scores_by_one_minus_background() -> None:
    logits = torch.tensor([[0.0, math.log(3), math.log(4)]])
    assert SigmoidWithObjectness(2).decode(logits)[0].tolist() == pytest.approx([0.5 / 5, 0.75 / 5])


def test_objectness_keeps_its_digits_where_background_is_certain() -> None:
    logits = torch.tensor([[40.0, 40.0]])
    score = SigmoidWithObjectness(1).decode(logits).item()
    assert score == pytest.approx(math.exp(-40), rel=1e-5, abs=0)


@pytest.mark.parametrize("coder_type", [Sigmoid, SigmoidWithObjectness])
@pytest.mark.parametrize("prior", [0.01, 0.3])
def test_the_initial_bias_gives_the_prior(coder_type: type[ClassCoder], prior: float) -> None:
    coder = coder_type(4, prior)
    bias = coder.initial_bias()
    assert bias.shape == (coder.num_logits,)
    assert bias[coder.class_columns].sigmoid().tolist() == pytest.approx([prior] * 4)


def test_softmax_starts_uniform() -> None:
    assert Softmax(4).decode(Softmax(4).initial_bias()).tolist() == pytest.approx([0.2] * 4)


def test_objectness_starts_undecided() -> None:
    assert SigmoidWithObjectness(4).initial_bias()[-1] == 0


def test_no_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Softmax(0)
