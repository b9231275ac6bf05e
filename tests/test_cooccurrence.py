"""Images that show two classes, counted one image after the other."""

import csv
from pathlib import Path

import numpy as np
import pytest

from detloss import cooccurrence as module
from detloss.cooccurrence import cooccurrence, write_cooccurrence
from detloss.data.image_labels import ImageLabels
from detloss.stats import ClassStats


@pytest.fixture
def labels() -> ImageLabels:
    generator = np.random.default_rng(0)
    return ImageLabels.of([generator.integers(0, 7, generator.integers(0, 9)) for _ in range(60)], num_classes=9)


def literal(labels: ImageLabels) -> np.ndarray:
    counts = np.zeros((9, 9), dtype=np.int64)
    for row in labels:
        for one in set(row.tolist()):
            for other in set(row.tolist()):
                counts[one, other] += 1
    return counts


@pytest.mark.parametrize("chunk", [1, 10, 50, 1 << 22])
def test_pairs_are_counted_as_image_by_image(
    labels: ImageLabels, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    found = cooccurrence(labels)
    assert found.dtype == np.int64 and np.array_equal(found, literal(labels))
    assert np.array_equal(np.diagonal(found), labels.images)


def test_no_image_gives_zeros() -> None:
    assert not cooccurrence(ImageLabels.of([], num_classes=3)).any()


def test_files_hold_the_counts_with_the_names(tmp_path: Path) -> None:
    stats = ClassStats(("cat", "dog, small"), (4, 9), 5, np.array([3, 2]), np.array([3, 2]))
    counts = np.array([[3, 1], [1, 2]])
    write_cooccurrence(counts, stats, tmp_path / "c.csv")
    with open(tmp_path / "c.csv", newline="") as file:
        assert list(csv.reader(file)) == [["", "cat", "dog, small"], ["cat", "3", "1"], ["dog, small", "1", "2"]]
    write_cooccurrence(counts, stats, tmp_path / "c.npz")
    with np.load(tmp_path / "c.npz") as content:
        assert np.array_equal(content["images"], counts)
        assert content["names"].tolist() == ["cat", "dog, small"] and content["category_ids"].tolist() == [4, 9]
