"""The measurement of losses: what is measured, at which size, against what."""

from pathlib import Path

import pytest
import torch
import yaml

from detloss import losses
from detloss.bench_losses import Setting, binary_cross_entropy, measure
from detloss.peak_memory import peak_memory
from tests.losses.conftest import stats_of

CONF = Path(__file__).parents[1] / "conf" / "loss"
SMALL = Setting("two-stage", 64, 5, 0.5)


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_loss_can_be_measured(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    for stage in {"two_stage", "one_stage"} & content.keys():
        loss = getattr(losses, content[stage]["_target_"].rpartition(".")[2])(stats_of([9, 5, 3, 1, 1]))
        cost = measure(loss, SMALL, 1, torch.device("cpu"))
        assert cost.milliseconds > 0 and cost.ratio > 0
        assert cost.logits == 64 * loss.coder.num_logits * 4


def test_the_reference_is_torchs_binary_cross_entropy_with_a_one_hot_target() -> None:
    logits = torch.tensor([[0.0, 1.0], [2.0, -1.0]], dtype=torch.float64)
    labels = torch.tensor([1, 0])
    p = torch.sigmoid(logits)
    expected = -(torch.log(1 - p[0, 0]) + torch.log(p[0, 1]) + torch.log(p[1, 0]) + torch.log(1 - p[1, 1]))
    torch.testing.assert_close(binary_cross_entropy(logits, labels), expected)


def test_peak_memory_is_that_of_the_tensors_alive_at_once() -> None:
    size = 64 * 2**20  # glibc gives what is this large straight back

    def three_at_once_then_one() -> None:
        kept = [torch.ones(size // 4) for _ in range(3)]
        del kept
        torch.ones(size // 4)

    peak = peak_memory(three_at_once_then_one, torch.device("cpu"))
    if peak is None:
        pytest.skip("this system does not tell a process its peak")
    assert peak == pytest.approx(3 * size, rel=0.05)
