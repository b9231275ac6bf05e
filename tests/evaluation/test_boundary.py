"""Boundary IoU against repeated erosion, and boundary AP against pycocotools with such IoUs."""

import io
from collections.abc import Callable
from contextlib import redirect_stdout

import numpy as np
import pytest
from pycocotools.coco import COCO

from detloss.errors import UserError
from detloss.evaluation.boundary import boundary, boundary_width
from detloss.evaluation.coco import evaluate_coco, measure_coco
from detloss.evaluation.detections import read_detections
from detloss.evaluation.ground_truth import read_ground_truth
from tests.evaluation.conftest import Files, Json
from tests.evaluation.official_tools import hard_scene
from tests.reference.boundary import BoundaryEval, boundary_of, width_of


@pytest.mark.parametrize("seed", range(6))
def test_a_boundary_is_what_erosion_takes_away(seed: int) -> None:
    random = np.random.default_rng(seed)
    mask = np.zeros(random.integers(5, 40, 2), dtype=bool)
    for _ in range(3):
        (top, bottom), (left, right) = (np.sort(random.integers(0, side + 1, 2)) for side in mask.shape)
        mask[top:bottom, left:right] = True
    for width in (1, 2, 3, 7):
        np.testing.assert_array_equal(boundary(mask, width), boundary_of(mask, width).astype(bool))


@pytest.mark.parametrize("size", [(10, 10), (480, 640), (427, 640), (100, 25), (2000, 3000)])
def test_a_boundary_is_two_hundredths_of_the_diagonal_wide(size: tuple[int, int]) -> None:
    assert boundary_width(*size) == width_of(*size)
    assert boundary_width(480, 640) == 16  # of 800 pixels


@pytest.mark.parametrize("seed", range(3))
def test_boundary_ap_is_that_of_pycocotools_with_boundary_ious(
    write_files: Callable[..., Files], seed: int
) -> None:
    scene, rows = hard_scene(seed, crowds=True)
    files = write_files(scene, rows)
    ground_truth = read_ground_truth(files.annotations, masks=True)
    detections = read_detections(ground_truth, files.predictions, masks=True)
    ours = measure_coco(ground_truth, detections, ("boundary",), 100)["boundary"]
    with redirect_stdout(io.StringIO()):
        objects = COCO()
        objects.dataset = scene
        objects.createIndex()
        evaluator = BoundaryEval(objects, objects.loadRes(rows), "segm")
        evaluator.evaluate()
        evaluator.accumulate()
    np.testing.assert_allclose(ours.precision, evaluator.eval["precision"][..., -1], rtol=0, atol=1e-15)
    np.testing.assert_allclose(ours.recall["AR100"], evaluator.eval["recall"][..., -1], rtol=0, atol=1e-15)


def test_a_mask_that_is_right_but_for_its_outline_scores_lower(
    write_files: Callable[..., Files], one_class: Json
) -> None:
    # 60 x 60 pixels instead of 64 x 64: mask IoU 0.88; boundaries of 3 pixels have 12 x 61 and 12 x 57 pixels, of
    # which the inner pixel of one and the outer pixel of the other are the same, 4 x 59 of 12 x 118 - 4 x 59.
    square, smaller = ([[a, a, b, a, b, b, a, b]] for a, b in ((10, 74), (12, 72)))
    one_class["annotations"][0] |= {"segmentation": square, "bbox": [10, 10, 64, 64]}  # type: ignore[index]
    del one_class["annotations"][1]  # type: ignore[attr-defined]
    row = {"image_id": 1, "category_id": 5, "score": 0.5, "bbox": [12, 12, 60, 60], "segmentation": smaller}
    metrics = evaluate_coco(*write_files(one_class, [row]), iou_types=("segm", "boundary")).metrics
    assert metrics["segm"]["AP"] == pytest.approx(0.8) and metrics["boundary"]["AP"] == 0.0


def test_the_official_tools_know_no_boundary(write_files: Callable[..., Files], one_class: Json) -> None:
    with pytest.raises(UserError, match="know no boundary IoU; try engine=detloss"):
        evaluate_coco(*write_files(one_class, []), iou_types=("boundary",), engine="official")
