"""The figures: both formats are there, and what is drawn is what it says."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import torch

from detloss.data.image_labels import ImageLabels
from detloss.data.samplers import ClassAware, Uniform
from detloss.errors import UserError
from detloss.losses import ECM
from detloss.margins import class_counts
from detloss.plots.ecm import class_weights, gradients, margins_and_weights
from detloss.plots.statistics import class_frequency, cooccurrence_map, draw_figures, sampling
from detloss.sampler_columns import Epoch
from detloss.stats import ClassStats

LABELS = ImageLabels.of(
    [np.array(row, dtype=np.int64) for row in ([0, 0, 1], [0], [1, 2, 2], [0], [])], num_classes=4
)
STATS = ClassStats(("cat", "dog", "yak", "emu"), (2, 3, 7, 20), 5, LABELS.instances, LABELS.images)
GROUPS = ("f", "c", "r", "r")
EPOCHS = {
    "uniform": Epoch.expected(Uniform(LABELS), LABELS),
    "class_aware": Epoch.expected(ClassAware(LABELS), LABELS),
}


def test_every_figure_is_a_png_and_an_svg(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "figures"
    drawn = draw_figures(folder, STATS, thresholds=(1, 2), background_ratio=3.0, epochs=EPOCHS, labels=LABELS)
    names = {
        "class_frequency", "sampling", "cooccurrence",
        "ecm_margins_and_weights", "ecm_gradients", "ecm_class_weights",
    }  # fmt: skip
    assert {path.name for path in folder.iterdir()} == {
        f"{name}.{end}" for name in names for end in ("png", "svg")
    }
    assert sorted(drawn) == sorted(folder.iterdir())
    for path in drawn:
        content = path.read_bytes()
        if path.suffix == ".png":
            assert content.startswith(b"\x89PNG")
        else:
            assert ElementTree.fromstring(content).tag.endswith("svg")


def test_counts_alone_are_drawn_without_samplers_and_pairs(tmp_path: Path) -> None:
    drawn = draw_figures(tmp_path, STATS, thresholds=None, background_ratio=None, epochs={}, labels=None)
    assert {path.stem for path in drawn}.isdisjoint({"sampling", "cooccurrence"}) and len(drawn) == 8


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="figures cannot be written"):
        draw_figures(tmp_path / "file", STATS, thresholds=None, background_ratio=None, epochs={}, labels=None)


def test_class_frequency_shows_every_class_once_with_images_and_instances() -> None:
    (axes,) = class_frequency(STATS, GROUPS).axes
    points = np.concatenate([np.asarray(part.get_offsets()) for part in axes.collections])
    expected = [[1, 3], [2, 2], [3, 1], [4, 0], [1, 4], [2, 2], [3, 2], [4, 0]]
    assert sorted(points.tolist()) == sorted(expected)


def test_sampling_shows_each_samplers_epoch_in_the_order_of_the_classes() -> None:
    images, instances = sampling(STATS, EPOCHS).axes
    assert images.lines[0].get_ydata().tolist() == [3, 2, 1, 0]
    # Five draws of three classes: 5/3 each, cat's over images 0, 1, 3, dog's over 0, 2, yak's in 2.
    of_image = {0: 5 / 9 + 5 / 6, 1: 5 / 9, 2: 5 / 6 + 5 / 3, 3: 5 / 9}
    shown = [of_image[0] + of_image[1] + of_image[3], of_image[0] + of_image[2], of_image[2], 0]
    assert images.lines[1].get_ydata() == pytest.approx(shown)
    many = [2 * of_image[0] + of_image[1] + of_image[3], of_image[0] + of_image[2], 2 * of_image[2], 0]
    assert instances.lines[1].get_ydata() == pytest.approx(many)


def test_the_map_shows_shares_of_the_rows_images() -> None:
    counts = np.array([[4, 1, 0], [1, 2, 1], [0, 1, 1]])
    stats = ClassStats(("a", "b", "c"), (1, 2, 3), 5, np.array([4, 2, 1]), np.array([4, 2, 1]))
    axes = cooccurrence_map(stats, ("f", "c", "r"), counts).axes[0]
    shown = np.ma.filled(axes.images[0].get_array(), np.nan)
    np.testing.assert_array_equal(shown, [[np.nan, 0.25, np.nan], [0.5, np.nan, 0.5], [np.nan, 1, np.nan]])


def test_the_map_of_classes_that_never_meet_can_be_drawn(tmp_path: Path) -> None:
    stats = ClassStats(("a", "b"), (1, 2), 2, np.array([1, 1]), np.array([1, 1]))
    cooccurrence_map(stats, ("r", "r"), np.eye(2, dtype=np.int64)).savefig(tmp_path / "map.png")


def test_gradients_are_those_of_the_loss_without_its_class_weight() -> None:
    """alpha = 100: one class with 1 instance and r = 100."""
    loss = ECM(ClassStats(("cat",), (1,), 1, np.array([1]), np.array([1])), background_ratio=100.0)
    left, right = gradients().axes
    logit = left.lines[1].get_xdata()
    assert left.lines[1].get_label() == r"$\alpha = 10^2$"
    for axes, label, sign in ((left, 0, -1), (right, 1, 1)):
        logits = torch.zeros(len(logit), 2, dtype=torch.float64)
        logits[:, 0] = torch.from_numpy(logit)
        logits.requires_grad_()
        loss.eval()(logits, torch.full((len(logit),), label)).backward()
        assert logits.grad is not None
        expected = sign * logits.grad[:, 0] / loss.class_weight[0]
        np.testing.assert_allclose(axes.lines[1].get_ydata(), expected.numpy(), rtol=1e-9, atol=1e-12)


def test_margins_meet_at_one_half_where_alpha_is_1_and_weights_at_2() -> None:
    figure = margins_and_weights(np.array([0.5, 10.0, 1e4]), {"red": np.array([10.0])})
    for axes, value in zip(figure.axes[:2], (0.5, 2.0), strict=True):
        for line in axes.lines[:2]:
            logs = np.log(line.get_xdata())
            assert np.interp(0.0, logs, line.get_ydata()) == pytest.approx(value, rel=1e-3)
    (ticks,) = (line for line in figure.axes[0].lines if line.get_color() == "red")
    assert ticks.get_xdata().tolist() == [10.0]


def test_class_weights_ascend_and_leave_the_background_to_the_title() -> None:
    figure = class_weights(*class_counts([1000, 10, 1], 2.0), num_classes=3)
    for axes in figure.axes:
        heights = axes.lines[0].get_ydata()
        assert len(heights) == 3 and (np.diff(heights) > 0).all()
        assert "background" in axes.get_title(loc="left")
