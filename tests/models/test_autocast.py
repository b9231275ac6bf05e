"""Under autocast, coordinates keep their digits and the losses stay near those of float32."""

import pytest
import torch
from torch import Tensor, nn

from tests.reference.torchvision_detectors import MODELS, class_stats, default_loss, images_and_targets, ours

CLASSES = 5


def detector(model: str) -> nn.Module:
    torch.manual_seed(0)
    return ours(model, default_loss(model, class_stats(CLASSES)))


def test_proposals_are_float32_and_ground_truth_among_them_is_not_rounded() -> None:
    rcnn = detector("fasterrcnn").train()
    images, targets = images_and_targets(CLASSES, masks=False)
    targets[0]["boxes"][0] = torch.tensor([3.0625, 5.1875, 33.3125, 41.4375])  # not bfloat16 numbers
    seen: list[list[Tensor]] = []
    select = rcnn.roi_heads.select_training_samples  # type: ignore[union-attr]

    def spy(proposals: list[Tensor], chosen: list[dict[str, Tensor]]) -> object:
        seen.append(proposals)
        result = select(proposals, chosen)  # type: ignore[operator]
        seen.append(result[0])
        return result

    rcnn.roi_heads.select_training_samples = spy  # type: ignore[union-attr, assignment]
    with torch.autocast("cpu", torch.bfloat16):
        rcnn(images, targets)
    before, sampled = seen
    assert {boxes.dtype for boxes in (*before, *sampled)} == {torch.float32}
    assert (sampled[0] == targets[0]["boxes"][0]).all(dim=1).any()


@pytest.mark.parametrize("model", MODELS)
def test_the_losses_are_those_of_float32_to_five_percent(model: str) -> None:
    trained = detector(model).train()
    images, targets = images_and_targets(CLASSES, masks=model == "maskrcnn")
    found = []
    for enabled in (False, True):
        torch.manual_seed(3)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            terms = trained(images, targets)
        assert all(term.dtype == torch.float32 for term in terms.values())
        found.append(sum(term.item() for term in terms.values()))
    assert found[0] == pytest.approx(found[1], rel=0.05)
