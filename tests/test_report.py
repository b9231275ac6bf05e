"""The page about runs: its numbers are those of compare and eval, and nothing in a name or a file can break it."""

import base64
import hashlib
import itertools
import json
import re
import statistics
from pathlib import Path

import numpy as np
import pytest

from detloss.compare import compare_runs
from detloss.errors import UserError
from detloss.evaluation.coco import evaluate_coco
from detloss.report import write_report
from detloss.report_page.precision import frequency_bins
from tests.html_page import Page
from tests.reported_runs import CLASSES, six_runs, write_scene, write_whole_run

HOSTILE = "<script>alert('1')</script>\"&amp;$\\frac$"
SECTIONS = ["Summary", "Results", "Configuration differences", "Gradient balance", "Training"]
SECTIONS += ["AP by class frequency", "Precision and recall", "Errors and confusions", "Examples", "Classes"]


def written(runs: list[Path], output: Path, **options: object) -> Page:
    size = write_report(runs, output, draws=50, **options)  # type: ignore[arg-type]
    content = output.read_bytes()
    assert size == len(content)
    return Page(content.decode())


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], str]:
    """Six runs, and the page about them."""
    folder = tmp_path_factory.mktemp("six")
    runs = six_runs(folder)
    write_report(runs, folder / "report.html", draws=50)
    return runs, (folder / "report.html").read_text()


def test_results_are_those_of_compare(six: tuple[list[Path], str]) -> None:
    runs, content = six
    comparison = compare_runs(runs, draws=50)
    tables = Page(content).tables
    head, *rows = tables["Metrics x 100 with 95% intervals"]
    assert head == ["method", "seeds", *(metric.name for metric in comparison.metrics)]
    for cells, row in zip(rows, comparison.rows, strict=True):
        assert cells[:2] == [row.method.name, "2"]
        for cell, each in zip(cells[2:], row.estimates, strict=True):
            value, _, interval = cell.partition(" [")
            assert value == f"{100 * each.value:.1f} ± {100 * (each.deviation or 0):.1f}"
            assert interval == f"{100 * each.low:.1f}, {100 * each.high:.1f}]"
    _, *rows = tables["Differences to ce x 100"]
    for cells, row in zip(rows, comparison.rows[1:], strict=True):
        assert cells[0] == row.method.name
        for cell, difference in zip(cells[1:], row.differences, strict=True):
            assert cell.startswith(f"{100 * difference.value:+.1f} [") and cell.endswith(difference.verdict)


def test_ap_of_runs_and_of_classes_is_that_of_the_evaluation(six: tuple[list[Path], str]) -> None:
    runs, content = six
    tables = Page(content).tables
    found = [
        evaluate_coco(run.parents[1] / "instances_val.json", run / "predictions.json", iou_types=("bbox",))
        for run in runs
    ]
    listed = [row[1] for row in tables["Runs"][1:]]
    assert listed == [f"{100 * (each.metrics['bbox']['AP'] or 0):.1f}" for each in found]
    classes = {row[0]: row for row in tables["AP of every class"][2:]}
    assert list(classes) == ["rare", "common", "frequent"]  # by training images
    for index, name in enumerate(CLASSES.values()):
        ap = [100 * float(each.per_class[index]["bbox_AP"] or 0) for each in found]
        means = [statistics.mean(ap[first : first + 2]) for first in (0, 2, 4)]
        shown = classes[name][4:]
        assert shown[:3] == [f"{mean:.1f}" for mean in means]
        assert shown[3:] == [f"{mean - means[0]:+.1f}" for mean in means[1:]]


def test_gradients_at_the_end_are_those_of_the_last_window(six: tuple[list[Path], str]) -> None:
    (row, *others) = Page(six[1]).tables["Negative over positive gradient at the end, and of single steps"][1:]
    # Rare classes have no positives in the last window: 40/1 is from the first. All: (5 + 8 + 20) / 28.
    assert row == ["ce, seed 0", "40", "1", "1", "1.18", "0.25", "31.5"]
    assert [other[0] for other in others[:2]] == ["ce, seed 1", "seesaw, seed 0"]


def test_only_settings_that_differ_are_compared(six: tuple[list[Path], str]) -> None:
    tables = Page(six[1]).tables
    (caption,) = (caption for caption in tables if caption.startswith("Settings that differ"))
    assert tables[caption][0] == ["run", "loss.name", "seed"]
    assert tables[caption][1:3] == [["ce, seed 0", "ce", "0"], ["ce, seed 1", "ce", "1"]]
    same = {row[0]: row[1] for row in tables["Settings"][1:]}
    assert same["model.name"] == "fasterrcnn" and not {"loss.name", "seed"} & set(same)


def test_pictures_say_what_was_found(six: tuple[list[Path], str]) -> None:
    page = Page(six[1])
    alts = [image["alt"] for image in page.named("img")]
    assert len(alts) == 3 * (1 + 3)  # of each class, ground truth and a run of each method
    assert alts[0].startswith("Ground truth: 1 ") or alts[0].startswith("Ground truth: 2 ")
    assert all(re.match(r"(ce|seesaw|gol): .*(found|missed|taken for)", alt) for alt in alts[1:4])
    assert all(image["src"].startswith("data:image/webp;base64,") for image in page.named("img"))


def test_the_page_refers_to_nothing_outside_and_allows_no_other_script(six: tuple[list[Path], str]) -> None:
    content = six[1]
    page = Page(content)
    assert "://" not in content
    for _, attributes in page.elements:
        for name, value in attributes.items():
            assert name not in ("href", "src", "srcset", "action") or value.startswith(("#", "data:"))
            assert not name.startswith("on")
            assert "url(" not in value or "url(#" in value
    assert "url(" not in re.sub(r"url\(#", "", content) and "@import" not in content
    (script,) = re.findall(r"<script>(.*?)</script>", content, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = (each["content"] for each in page.named("meta") if "http-equiv" in each)
    assert policy.startswith("default-src 'none'; img-src data:;") and f"script-src 'sha256-{digest}';" in policy


def test_the_page_is_built_for_ears_and_keys(six: tuple[list[Path], str]) -> None:
    page = Page(six[1])
    assert page.named("html") == [{"lang": "en"}]
    assert [text for level, text in page.headings if level == 2] == SECTIONS
    assert [level for level, _ in page.headings] == [1] + [2] * len(SECTIONS)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [each["href"][1:] for each in page.named("a")]
    assert links[0] == "content" and set(links) <= set(ids)
    assert all(drawing["role"] == "img" and drawing["aria-label"] for drawing in page.named("svg"))
    assert all(each["scope"] for each in page.named("th")) and "" not in page.tables
    for region in (each for each in page.named("div") if each.get("class", "").startswith("scroll")):
        assert region["tabindex"] == "0" and region["role"] == "region" and region["aria-label"]


def test_the_same_runs_give_the_same_bytes(six: tuple[list[Path], str], tmp_path: Path) -> None:
    runs, content = six
    write_report(runs, tmp_path / "again.html", draws=50)
    assert (tmp_path / "again.html").read_text() == content


def test_equally_frequent_classes_stay_together_and_none_is_left_out() -> None:
    images = np.random.default_rng(0).choice([1, 2, 3, 50, 900], 200, p=[0.1, 0.6, 0.1, 0.1, 0.1])
    parts = frequency_bins(images)
    assert sorted(np.concatenate(parts).tolist()) == list(range(200)) and 2 <= len(parts) <= 8
    for rarer, commoner in itertools.pairwise(parts):
        assert images[rarer].max() < images[commoner].min()
    assert len(frequency_bins(np.array([7]))) == 1


def test_one_run_alone_has_a_page(tmp_path: Path) -> None:
    run = write_whole_run(tmp_path / "run", write_scene(tmp_path))
    page = written([run], tmp_path / "report.html")
    assert page.headings[0] == (1, "ce on coco")
    assert not any(caption.startswith("Difference") for caption in page.tables)
    assert "1 run of 1 method (Faster R-CNN, ResNet-50) on coco" in page.text and len(page.named("img")) == 6
    assert page.tables["AP of every class"][1][4:] == ["ce"]


def test_a_run_that_found_nothing_has_a_page(tmp_path: Path) -> None:
    runs = [write_whole_run(tmp_path / name, write_scene(tmp_path), loss__name=name) for name in ("ce", "gol")]
    for run in runs:
        (run / "predictions.json").write_text("[]")
        (run / "gradients.jsonl").write_text(
            '{"step": 1, "own": [0, 0, 0], "others": [1, 1, 1], "background": [1, 1, 1]}'
        )
    page = written(runs, tmp_path / "report.html")
    assert [row[1] for row in page.tables["Runs"][1:]] == ["0.0", "0.0"]
    assert "identical" in page.tables["Differences to ce x 100"][1][1]
    assert "No two classes are confused" in page.text
    assert all("missed" in image["alt"] for image in page.named("img") if image["alt"].startswith("ce"))


def test_hostile_names_are_words(tmp_path: Path) -> None:
    annotations = write_scene(tmp_path)
    content = json.loads(annotations.read_text())
    content["categories"][0]["name"] = HOSTILE
    annotations.write_text(json.dumps(content))
    names = {"loss__name": HOSTILE, "dataset__name": "</title><b>"}
    runs = [write_whole_run(tmp_path / f"<b>{seed}", annotations, seed=seed, **names) for seed in range(2)]
    for run in runs:
        stats = json.loads((run / "stats.json").read_text())
        (run / "stats.json").write_text(json.dumps(stats | {"names": [HOSTILE, "_hidden", "${x}"]}))
    page = written(runs, tmp_path / "report.html")
    assert len(page.named("script")) == 1 and page.named("b") == []
    assert page.headings[0][1] == f"{HOSTILE} on </title><b>"
    assert page.tables["Runs"][1] == [f"{HOSTILE}, seed 0", page.tables["Runs"][1][1], "<b>0"]
    assert page.tables["AP of every class"][2][0] == HOSTILE
    assert any(HOSTILE in image["alt"] for image in page.named("img"))


def test_images_that_are_gone_are_a_sentence(tmp_path: Path) -> None:
    run = write_whole_run(tmp_path / "run", write_scene(tmp_path, images=False))
    page = written([run], tmp_path / "report.html")
    assert page.named("img") == [] and "images of the validation set cannot be shown" in page.text


def test_runs_without_gradients_or_losses_are_named(tmp_path: Path) -> None:
    annotations = write_scene(tmp_path)
    runs = [write_whole_run(tmp_path / name, annotations, loss__name=name) for name in ("ce", "gol")]
    (runs[1] / "gradients.jsonl").unlink()
    (runs[1] / "metrics.jsonl").unlink()
    page = written(runs, tmp_path / "report.html")
    assert "Without recorded gradients: gol" in page.text and "No metrics.jsonl: gol" in page.text
    (runs[0] / "gradients.jsonl").unlink()
    assert "No run recorded gradients" in written(runs, tmp_path / "report.html").text


def test_the_baseline_is_what_the_others_are_less(tmp_path: Path) -> None:
    annotations = write_scene(tmp_path)
    runs = [write_whole_run(tmp_path / name, annotations, loss__name=name) for name in ("ce", "gol")]
    page = written(runs, tmp_path / "report.html", baseline=runs[1], metrics="AP,APr")
    assert page.tables["Differences to gol x 100"][0] == ["method", "AP", "APr"]
    assert [row[0] for row in page.tables["Differences to gol x 100"][1:]] == ["ce"]
    assert page.tables["AP of every class"][1][4:] == ["ce", "gol", "ce"]


def test_an_annotation_file_that_moved_is_found(tmp_path: Path) -> None:
    annotations = write_scene(tmp_path)
    run = write_whole_run(tmp_path / "run", annotations)
    moved = annotations.rename(tmp_path / "moved.json")
    with pytest.raises(UserError):
        write_report([run], tmp_path / "report.html", draws=50)
    assert written([run], tmp_path / "report.html", annotations=moved).tables["Runs"][1][0] == "ce"


@pytest.mark.parametrize("damage", ["predictions.json", "metrics.jsonl", "gradients.jsonl"])
def test_what_is_refused_leaves_the_old_page(damage: str, tmp_path: Path) -> None:
    run = write_whole_run(tmp_path / "run", write_scene(tmp_path))
    (run / damage).write_text("{")
    (tmp_path / "report.html").write_text("old")
    with pytest.raises(UserError) as refused:
        write_report([run], tmp_path / "report.html", draws=50)
    assert damage in str(refused.value) and "\n" not in str(refused.value)
    assert (tmp_path / "report.html").read_text() == "old"
    assert not list(tmp_path.glob(".report*"))
