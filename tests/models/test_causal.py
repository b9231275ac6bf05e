"""The classifier of TDE against its formulas written out, and what it does with nothing to go on."""

import math
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from detloss.errors import UserError
from detloss.losses.coder import ScaledSoftmax, Sigmoid, Softmax
from detloss.models.causal import CausalLinear
from detloss.models.predictor import BoxPredictor, mask_predictor

HEADS, SCALE, GAMMA, ALPHA, DECAY = 2, 16.0, 1 / 32, 1.5, 0.9998
"""Of the authors' LVIS v1 code: NUM_HEAD, 16.0 before the division, SCALE_WEIGHT, ALPHA, MU."""

Vector = list[float]


def dot(first: Vector, second: Vector) -> float:
    return sum(a * b for a, b in zip(first, second, strict=True))


def norm(vector: Vector) -> float:
    return math.sqrt(dot(vector, vector))


def heads(vector: Vector) -> list[Vector]:
    width = len(vector) // HEADS
    return [vector[start : start + width] for start in range(0, len(vector), width)]


def logit(x: Vector, w: Vector) -> float:
    """tau / K * sum_k  w_k . x_k / ((|w_k| + gamma) |x_k|)."""
    terms = [dot(wk, xk) / ((norm(wk) + GAMMA) * norm(xk)) for xk, wk in zip(heads(x), heads(w), strict=True)]
    return SCALE / HEADS * sum(terms)


def direct_effect(x: Vector, w: Vector, e: Vector) -> float:
    """The logit less tau / K * sum_k  alpha cos(x_k, e_k) w_k . e_k / ((|w_k| + gamma) |e_k|)."""
    indirect = 0.0
    for xk, wk, ek in zip(heads(x), heads(w), heads(e), strict=True):
        cosine = dot(xk, ek) / (norm(xk) * norm(ek))
        indirect += ALPHA * cosine * dot(wk, ek) / ((norm(wk) + GAMMA) * norm(ek))
    return logit(x, w) - SCALE / HEADS * indirect


def softmax(values: Vector) -> Vector:
    exponentials = [math.exp(value) for value in values]
    return [value / sum(exponentials) for value in exponentials]


def causal(features: int = 6, classes: int = 3) -> CausalLinear:
    torch.manual_seed(0)
    return CausalLinear(features, classes + 1).double()


def test_training_logits_are_the_normalised_products_of_the_heads() -> None:
    layer = causal().train()
    features = torch.randn(4, 6, dtype=torch.float64) * torch.tensor([[1e-3], [1.0], [50.0], [2.0]])
    logits = layer(features)
    for row in range(4):
        for column in range(4):
            expected = logit(features[row].tolist(), layer.weight[column].tolist())
            assert logits[row, column].item() == pytest.approx(expected, rel=1e-5)  # norms get 1e-9


def test_scores_are_background_as_it_was_and_the_direct_effects_of_the_classes() -> None:
    layer = causal().eval()
    layer.observe(torch.rand(7, 6, dtype=torch.float64))
    average, weights = layer.average.tolist(), layer.weight.tolist()
    features = torch.randn(5, 6, dtype=torch.float64)
    scores = layer(features).softmax(dim=1)
    for row, x in enumerate(features.tolist()):
        p = softmax([logit(x, w) for w in weights])
        q = softmax([direct_effect(x, w, average) for w in weights])
        share = (1 - p[-1]) / (1 - q[-1])
        expected = [share * q_c for q_c in q[:-1]] + [p[-1]]
        assert scores[row].tolist() == pytest.approx(expected, rel=1e-6)


def test_the_softmax_coder_gives_these_scores_back() -> None:
    layer = causal().eval()
    layer.observe(torch.rand(7, 6, dtype=torch.float64))
    logits = layer(torch.randn(5, 6, dtype=torch.float64))
    torch.testing.assert_close(logits.logsumexp(dim=1), torch.zeros(5, dtype=torch.float64))
    torch.testing.assert_close(Softmax(3).decode(logits), logits[:, :-1].exp())


def test_the_average_decays_and_takes_in_the_mean_foreground_feature() -> None:
    layer = CausalLinear(2, 3)
    layer.observe(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    layer.observe(torch.zeros(0, 2))  # a batch without objects
    layer.observe(torch.tensor([[10.0, 20.0]]))
    assert layer.average.tolist() == pytest.approx([DECAY * 2 + 10, DECAY * 3 + 20], rel=1e-12)


def test_the_predictor_averages_foreground_in_training_and_nothing_at_inference() -> None:
    predictor = BoxPredictor(4, Softmax(2), classifier="tde", temperature=20.0)
    assert isinstance(predictor.cls_score, CausalLinear)
    features = torch.rand(3, 4, 1, 1)
    predictor.eval()(features)
    assert predictor.cls_score.average.tolist() == [0, 0, 0, 0]
    predictor.train()(features, torch.tensor([True, False, True]))
    expected = (features[0] + features[2]).flatten() / 2
    assert predictor.cls_score.average.tolist() == pytest.approx(expected.tolist(), rel=1e-6)


def test_before_anything_was_averaged_scores_are_the_plain_softmax() -> None:
    layer = causal()
    features = torch.randn(5, 6, dtype=torch.float64)
    torch.testing.assert_close(layer.eval()(features).exp(), layer.train()(features).softmax(dim=1))


def test_features_of_zero_have_finite_logits_and_gradients() -> None:
    layer = causal()
    for mode in (True, False):
        layer.train(mode)
        features = torch.zeros(2, 6, dtype=torch.float64, requires_grad=True)
        logits = layer(features)
        logits.square().sum().backward()
        assert torch.isfinite(logits).all()
        assert features.grad is not None and torch.isfinite(features.grad).all()
        layer.observe(torch.rand(3, 6, dtype=torch.float64))


def test_logits_under_autocast_are_float32() -> None:
    layer = CausalLinear(6, 4)
    features = torch.randn(3, 6)
    with torch.autocast("cpu", torch.bfloat16):
        logits = layer(features)
    assert logits.dtype is torch.float32 and torch.equal(logits, layer(features))


def test_the_average_is_part_of_the_state() -> None:
    layer, other = causal(), causal()
    layer.observe(torch.rand(3, 6, dtype=torch.float64))
    assert set(layer.state_dict()) == {"weight", "average"}
    other.load_state_dict(layer.state_dict())
    features = torch.randn(5, 6, dtype=torch.float64)
    assert torch.equal(layer.eval()(features), other.eval()(features))


def observe_as_rank(rank: int, store: str, output: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    layer = CausalLinear(2, 3)
    layer.observe([torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 0.0]]), torch.zeros(0, 2)][rank])
    layer.observe([torch.tensor([[1.0, 1.0]]), torch.tensor([[3.0, 3.0], [5.0, 5.0]])][rank])
    torch.save(layer.average, f"{output}/{rank}.pt")
    dist.destroy_process_group()


def test_ranks_average_the_features_of_all(tmp_path: Path) -> None:
    mp.spawn(observe_as_rank, args=(str(tmp_path / "store"), str(tmp_path)), nprocs=2)
    for rank in range(2):
        average = torch.load(tmp_path / f"{rank}.pt")
        assert average.tolist() == pytest.approx([DECAY * 3 + 3, DECAY * 2 + 3], rel=1e-12)


@pytest.mark.parametrize("coder", [Sigmoid(2), ScaledSoftmax(2, torch.tensor(30.0))])
def test_a_loss_with_other_scores_than_a_plain_softmax_is_refused(coder: Sigmoid | ScaledSoftmax) -> None:
    with pytest.raises(UserError, match=rf"classifier=tde needs .* not {type(coder).__name__}; try loss=ce"):
        BoxPredictor(8, coder, classifier="tde", temperature=20.0)


def test_features_that_cannot_be_cut_are_refused() -> None:
    with pytest.raises(ValueError, match="7 features cannot be cut into 2 heads"):
        CausalLinear(7, 3)


def test_masks_beside_it_are_linear() -> None:
    predictor = mask_predictor(16, 64, 5, classifier="tde", temperature=20.0)
    assert type(predictor.mask_fcn_logits) is torch.nn.Conv2d
