"""Ranking losses of detectors against literal compositions of their functional cores and torchvision's GIoU."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou, generalized_box_iou_loss

from detloss.losses import ALRP, DR, L1, NDCG, APLoss, DetectionLoss, RankSort, Samples
from detloss.losses.distributional_ranking import distributional_ranking
from detloss.losses.ranking import alrp, average_precision, ndcg, rank_sort
from detloss.stats import ClassStats
from tests.losses.conftest import stats_of
from tests.losses.ranked_samples import (
    CLASSES,
    assert_same,
    flat_targets,
    gradients,
    of_images,
    random_samples,
    with_foreground,
)

Terms = dict[str, Tensor]


def stats(images: int = 1000) -> ClassStats:
    return dataclasses.replace(stats_of([30, 9, 2, 0]), num_images=images)


def ious(samples: Samples) -> Tensor:
    return box_iou(samples.boxes.detach(), samples.target_boxes).diagonal()


def ones(samples: Samples) -> Tensor:
    return torch.ones(len(samples.foreground), dtype=torch.float64)


def l1(samples: Samples) -> Tensor:
    rows = (samples.deltas - samples.target_deltas).abs().sum(dim=1)
    return (rows * samples.weights[samples.foreground]).sum()


def literal_ap(samples: Samples, delta: float) -> Terms:
    targets = flat_targets(samples, ones(samples))
    return {"loss_classifier": average_precision(samples.logits.flatten(), targets, delta)}


def literal_ndcg(samples: Samples, delta: float) -> Terms:
    return {"loss_classifier": ndcg(samples.logits.flatten(), flat_targets(samples, ious(samples)), delta)}


def literal_alrp(samples: Samples, delta: float, tau: float = 0.5) -> Terms:
    errors = generalized_box_iou_loss(samples.boxes, samples.target_boxes) / 2 / (1 - tau)
    targets = flat_targets(samples, ones(samples))
    classification, localisation = alrp(samples.logits.flatten(), targets, errors, delta)
    return {"loss_classifier": classification, "loss_box_reg": 50 * localisation}


def literal_rank_sort(samples: Samples, delta: float) -> Terms:
    ranking, sorting = rank_sort(samples.logits.flatten(), flat_targets(samples, ious(samples)), delta)
    return {"loss_ranking": ranking, "loss_sorting": sorting}


def literal_boxes(samples: Samples, value: Tensor) -> Tensor:
    """GIoU weighted by the highest score, as large as ``value``."""
    rows = generalized_box_iou_loss(samples.boxes, samples.target_boxes)
    scores = torch.stack([samples.logits.detach()[row].sigmoid().max() for row in samples.foreground])
    mean = (rows * scores).sum() / scores.sum()
    return mean * (value.detach() / mean.detach())


RANKED: dict[str, tuple[Callable[..., DetectionLoss], Callable[[Samples, float], Terms]]] = {
    "ap": (lambda **words: APLoss(stats(), box_loss=L1(), **words), literal_ap),
    "ndcg": (lambda **words: NDCG(stats(), box_loss=L1(), **words), literal_ndcg),
    "alrp": (lambda **words: ALRP(stats(), **words), literal_alrp),
    "ranksort": (lambda **words: RankSort(stats(), **words), literal_rank_sort),
}
EVERY: dict[str, Callable[..., DetectionLoss]] = {
    **{name: make for name, (make, _) in RANKED.items()},
    "dr": lambda **words: DR(stats(), box_loss=L1(), **words),
}
DELTAS = {"ap": 1.0, "ndcg": 0.5, "alrp": 1.0, "ranksort": 0.5}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("delta", [None, 0.0, 0.2, 3.0])
@pytest.mark.parametrize("name", RANKED)
def test_all_rows_of_the_batch_are_one_ranking(name: str, delta: float | None, seed: int) -> None:
    make, literal = RANKED[name]
    samples = random_samples(seed)
    terms = make()(samples) if delta is None else make(delta=delta)(samples)
    for term, expected in literal(samples, DELTAS[name] if delta is None else delta).items():
        assert_same(terms[term], expected, samples)


@pytest.mark.parametrize("name", RANKED)
def test_the_scope_of_an_image_gives_the_mean_over_the_images(name: str) -> None:
    make, literal = RANKED[name]
    samples = random_samples(3)
    samples = with_foreground(samples, samples.image_index[samples.foreground] != 1)  # one without positives
    images = [literal(of_images(samples, image), DELTAS[name]) for image in range(3)]
    terms = make(scope="image")(samples)
    for term in images[0]:
        assert_same(terms[term], torch.stack([image[term] for image in images]).mean(), samples)
    whole = literal(samples, DELTAS[name])
    assert any(abs(terms[term].item() - whole[term].item()) > 1e-3 for term in whole)


@pytest.mark.parametrize("name", RANKED)
def test_in_one_process_the_scope_of_all_ranks_is_the_batch(name: str) -> None:
    make, _ = RANKED[name]
    samples = random_samples(4)
    batch, everywhere = make()(samples), make(scope="global")(samples)
    for term in batch:
        torch.testing.assert_close(everywhere[term], batch[term], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("scope", ["image", "batch"])
def test_dr_ranks_the_distributions_of_each_image_or_of_the_batch(scope: str) -> None:
    samples = random_samples(5)
    options = {"positive_lambda": 0.7, "negative_lambda": 0.05, "smoothness": 5.0, "tau": 3.0, "margin": 0.4}
    labels = samples.labels.masked_fill(samples.weights == 0, -1)
    parts = [samples.image_index == image for image in range(3)] if scope == "image" else [slice(None)]
    expected = [distributional_ranking(samples.logits[part], labels[part], **options) for part in parts]
    terms = DR(stats(), scope=scope, **options)(samples)  # type: ignore[arg-type]
    assert_same(terms["loss_classifier"], torch.stack(expected).mean(), samples)
    defaults = DR(stats())(samples)["loss_classifier"]
    assert_same(defaults, distributional_ranking(samples.logits, labels, samples.image_index), samples)


def test_dr_starts_at_one_half_and_the_others_at_one_in_a_hundred() -> None:
    starts = {name: make().coder.initial_bias().sigmoid() for name, make in EVERY.items()}
    for name, start in starts.items():
        assert start.tolist() == pytest.approx([0.5 if name == "dr" else 0.01] * CLASSES)


@pytest.mark.parametrize("name", ["ap", "ndcg", "dr"])
def test_box_loss_and_auxiliary_terms_stand_beside_the_ranking(name: str) -> None:
    samples = random_samples(6)
    samples.auxiliary["loss_mask"] = torch.tensor(7.0)
    terms = EVERY[name]()(samples)
    assert set(terms) == {"loss_classifier", "loss_box_reg", "loss_mask"}
    assert terms["loss_mask"] == 7
    torch.testing.assert_close(terms["loss_box_reg"], l1(samples), rtol=1e-12, atol=0.0)


def test_the_boxes_of_rank_and_sort_weigh_as_much_as_ranking_and_sorting() -> None:
    samples = random_samples(7)
    terms = RankSort(stats())(samples)
    value = terms["loss_ranking"] + terms["loss_sorting"]
    assert_same(terms["loss_box_reg"], literal_boxes(samples, value), samples)
    assert terms["loss_box_reg"].item() == pytest.approx(value.item(), rel=1e-12)


def test_rank_and_sort_scales_masks_and_leaves_centerness_alone() -> None:
    samples = random_samples(8)
    mask = torch.tensor(7.0, dtype=torch.float64, requires_grad=True)
    centerness = torch.tensor(3.0)
    samples.auxiliary = {"loss_mask": mask, "loss_centerness": centerness}
    terms = RankSort(stats())(samples)
    value = (terms["loss_ranking"] + terms["loss_sorting"]).item()
    assert terms["loss_mask"].item() == pytest.approx(value, rel=1e-12)
    assert torch.autograd.grad(terms["loss_mask"], mask)[0].item() == pytest.approx(value / 7, rel=1e-12)
    assert terms["loss_centerness"] is centerness
    plain = RankSort(stats(), balanced=())(samples)
    assert plain["loss_mask"] is mask


@pytest.mark.parametrize("name", ["ndcg", "ranksort"])
def test_a_positive_whose_box_misses_its_object_is_a_negative(name: str) -> None:
    make, _ = RANKED[name]
    samples = random_samples(9)
    boxes = samples.boxes.detach().clone()
    boxes[1] += 500
    samples.boxes = boxes.requires_grad_()
    row = samples.foreground[1]
    terms = {term: value for term, value in make()(samples).items() if term != "loss_box_reg"}
    gradient = gradients(torch.stack(list(terms.values())).sum(), samples)[0]
    assert gradient[row, samples.labels[row]] >= 0
    negative = with_foreground(samples, torch.arange(len(boxes)) != 1)
    others = make()(negative)
    for term, value in terms.items():
        assert value.item() == pytest.approx(others[term].item(), rel=1e-12)


def test_boxes_without_error_are_not_scaled_up() -> None:
    samples = random_samples(10)
    samples.boxes = samples.target_boxes.clone().requires_grad_()
    terms = RankSort(stats())(samples)
    assert terms["loss_box_reg"].item() == pytest.approx(0.0, abs=0.01)  # but for GIoU's own epsilon
    assert all(torch.isfinite(gradient).all() for gradient in gradients(terms["loss_box_reg"], samples))


@pytest.mark.parametrize("tau", [0.5, 0.7])
def test_localisation_errors_are_relative_to_the_iou_of_the_foreground(tau: float) -> None:
    samples = random_samples(11)
    terms = ALRP(stats(), tau=tau)(samples)
    for term, expected in literal_alrp(samples, 1.0, tau).items():
        assert_same(terms[term], expected, samples)


def test_the_localisation_weight_of_an_epoch_is_the_balance_of_the_one_before() -> None:
    """Five images are an epoch, three in a batch: the second and fourth step end one."""
    loss = ALRP(stats(images=5))
    weight, sums = 50.0, [0.0, 0.0]
    for step in range(5):
        samples = random_samples(20 + step, foreground=0.0 if step == 2 else 0.4)
        assert loss.state_scalars() == {"localisation_weight": pytest.approx(weight, rel=1e-12)}
        terms, literal = loss(samples), literal_alrp(samples, 1.0)
        classification, localisation = literal["loss_classifier"].item(), literal["loss_box_reg"].item() / 50
        assert terms["loss_box_reg"].item() == pytest.approx(weight * localisation, rel=1e-9)
        sums = [sums[0] + classification, sums[1] + localisation]
        if step % 2:
            weight, sums = (sums[0] + sums[1]) / sums[1], [0.0, 0.0]
    assert weight < 50


def test_an_epoch_without_positives_and_evaluation_leave_the_balance_alone() -> None:
    loss = ALRP(stats(images=3))
    loss(random_samples(30, foreground=0.0))
    assert loss.state_scalars() == {"localisation_weight": 50.0}
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    loss.eval()
    for seed in range(3):
        loss(random_samples(seed))
    assert all(torch.equal(value, before[name]) for name, value in loss.state_dict().items())


def test_a_restored_balance_goes_on_as_if_never_interrupted() -> None:
    whole = ALRP(stats(images=5))
    whole(random_samples(31))
    second = ALRP(stats(images=5))
    second.load_state_dict(whole.state_dict())
    for seed in (32, 33):
        found, expected = second(random_samples(seed)), whole(random_samples(seed))
        assert all(found[term].item() == expected[term].item() for term in expected)
    assert second.state_scalars() == whole.state_scalars() != {"localisation_weight": 50.0}


@pytest.mark.parametrize("scope", ["image", "batch", "global"])
@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("rows", [24, 0])
def test_without_positives_every_term_is_attached_and_the_ranking_0(name: str, scope: str, rows: int) -> None:
    if name == "dr" and scope == "global":
        return
    samples = random_samples(40, rows=rows, foreground=0.0)
    terms = EVERY[name](scope=scope)(samples)
    for term, value in terms.items():
        assert value.item() == 0 or (name == "dr" and rows and term == "loss_classifier")
    torch.stack(list(terms.values())).sum().backward()
    assert samples.logits.grad is not None and torch.isfinite(samples.logits.grad).all()
    if name != "dr":
        assert samples.logits.grad.abs().sum() == 0


@pytest.mark.parametrize("name", EVERY)
def test_ignored_rows_have_no_influence(name: str) -> None:
    samples = random_samples(41)
    expected = EVERY[name]()(samples)
    changed = dataclasses.replace(samples, logits=samples.logits.detach().clone(), labels=samples.labels.clone())
    changed.logits[2::5] = 40.0
    changed.labels[2::5] = 1
    changed.logits.requires_grad_()
    terms = EVERY[name]()(changed)
    for term, value in expected.items():
        assert terms[term].item() == value.item()
    assert gradients(torch.stack(list(terms.values())).sum(), changed)[0][2::5].abs().max() == 0


@pytest.mark.parametrize("name", EVERY)
def test_the_order_of_rows_does_not_matter(name: str) -> None:
    samples = random_samples(42)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    place = order.argsort()
    shuffled = dataclasses.replace(
        samples,
        logits=samples.logits.detach()[order].requires_grad_(),
        labels=samples.labels[order],
        weights=samples.weights[order],
        image_index=samples.image_index[order],
        foreground=place[samples.foreground],  # in no order
    )
    expected, terms = EVERY[name]()(samples), EVERY[name]()(shuffled)
    for term, value in expected.items():
        assert terms[term].item() == pytest.approx(value.item(), rel=1e-12)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("quiet", [torch.no_grad, torch.inference_mode])
def test_without_gradient_the_values_are_the_same(name: str, quiet: Callable[[], torch.no_grad]) -> None:
    samples = random_samples(43)
    loss = EVERY[name]().eval()
    expected = {term: value.item() for term, value in loss(samples).items()}
    with quiet():
        found = {term: value.item() for term, value in loss(samples).items()}
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", EVERY)
def test_half_precision_is_computed_in_float32(name: str) -> None:
    samples = random_samples(44)
    parts = {
        field.name: getattr(samples, field.name).detach().float()
        for field in dataclasses.fields(samples)
        if field.name != "auxiliary" and getattr(samples, field.name).is_floating_point()
    }
    half = dataclasses.replace(samples, **{**parts, "logits": samples.logits.detach().bfloat16()})
    exact = dataclasses.replace(half, logits=half.logits.double())
    found, expected = EVERY[name]()(half), EVERY[name]()(exact)
    for term, value in found.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(expected[term].item(), rel=1e-4)


def test_a_scope_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="scope=Batch: expected image, batch, global"):
        APLoss(stats(), scope="Batch")(random_samples(0))  # type: ignore[arg-type]
