"""``detloss list`` tells what there is, out of the files themselves."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from detloss import losses
from tests.losses.conftest import COUNTS, stats_of
from tests.losses.softmax_batches import samples_with_objects

CONF = Path(__file__).parents[2] / "conf"


def test_list_names_the_groups_and_options_that_have_files(run_verbs: Callable) -> None:
    (result,), modules = run_verbs("list")
    listed = {line.split()[0]: line.split()[1:] for line in result.out.splitlines()}
    folders = [path for path in CONF.iterdir() if path.is_dir() and list(path.glob("*.yaml"))]
    assert listed == {path.name: sorted(file.stem for file in path.glob("*.yaml")) for path in folders}
    assert not {"torch", "hydra"} & modules


def test_list_loss_shows_the_heads_a_loss_fits_and_its_source(run_verbs: Callable) -> None:
    (result,), _ = run_verbs("list loss")
    lines = {line.split()[0]: line for line in result.out.splitlines()}
    assert "two-stage" in lines["ce"] and "one-stage" not in lines["ce"]
    assert "two-stage + one-stage" in lines["ecm"] and "ECCV 2022" in lines["ecm"]


def test_list_loss_shows_what_a_loss_keeps_from_batch_to_batch(run_verbs: Callable) -> None:
    lines = {line.split()[0]: line for line in run_verbs("list loss").results[0].out.splitlines()}
    assert "keeps RoIs seen per class" in lines["seesaw"] and "CVPR 2021" in lines["seesaw"]
    assert "no state" in lines["ce"]


@pytest.mark.parametrize("path", sorted(CONF.glob("loss/*.yaml")), ids=lambda path: path.stem)
def test_a_loss_that_says_it_keeps_something_has_buffers_that_change_and_no_other_has(path: Path) -> None:
    """Against the classes themselves: the state in the file is what training changes in the buffers."""
    content = yaml.safe_load(path.read_text())
    changed = False
    for stage in ("two_stage", "one_stage"):
        if stage in content:
            loss = getattr(losses, content[stage]["_target_"].rpartition(".")[2])(stats_of(COUNTS))
            before = {name: value.clone() for name, value in loss.state_dict().items()}
            logits, labels = torch.zeros(6, loss.coder.num_logits), torch.arange(6)
            if isinstance(loss, losses.DetectionLoss):
                loss(samples_with_objects(logits, labels, torch.ones(6), labels))
            else:
                loss(logits, labels)
            changed |= any(not torch.equal(before[name], value) for name, value in loss.state_dict().items())
    assert changed == (content["state"] is not None)


@pytest.mark.parametrize("path", sorted(CONF.glob("loss/*.yaml")), ids=lambda path: path.stem)
def test_a_loss_says_which_scores_its_coder_makes(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    target = content["two_stage" if "two_stage" in content else "one_stage"]["_target_"]
    coder = getattr(losses, target.rpartition(".")[2])(stats_of(COUNTS)).coder
    words = content["scores"].title().replace("With", "With").replace(" ", "")
    assert type(coder).__name__ == words


def test_list_takes_the_description_below_a_package_directive(run_verbs: Callable) -> None:
    assert "LVIS v1 (Gupta et al., CVPR 2019)" in run_verbs("list dataset").results[0].out


@pytest.mark.parametrize("path", sorted(CONF.glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_each_config_file_says_what_it_is_and_then_shows_its_command(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if line != "# @package _global_"]
    assert lines[0].startswith("# ") and lines[0].endswith(".")
    assert lines[1].startswith("# detloss ")
