"""``detloss data`` says what is wrong, what there is, and writes what others can read."""

import json
from collections.abc import Callable
from pathlib import Path


def words(train, val) -> str:
    return (
        f"dataset=coco dataset.train.annotations={train.annotations} dataset.train.images={train.images} "
        f"dataset.val.annotations={val.annotations} dataset.val.images={val.images}"
    )


def test_check_lists_all_problems_and_leaves_with_1(
    run_verbs: Callable, tiny_coco: Callable, tmp_path: Path
) -> None:
    train, val = tiny_coco(folder="train"), tiny_coco(folder="val")
    (val.images / "0007.png").write_bytes(b"no image")
    (val.images / "0006.png").unlink()
    content = json.loads(train.annotations.read_text())
    for row in content["annotations"]:
        row["bbox"][2:] = [max(side, 1) for side in row["bbox"][2:]]
    train.annotations.write_text(json.dumps(content))
    given = words(train, val)
    results, modules = run_verbs(
        f"data check {given} -o problems.csv",
        f"data check {given} -o problems.txt",
        f"data check {words(train, train)} --no-decode",
        f"data info {words(train, train)}",
    )
    checked, refused, sound, info = results
    assert checked.code == 1 and "image missing" in checked.out and "image damaged" in checked.out
    table = (tmp_path / "problems.csv").read_text()
    assert "0007.png" in table and "0006.png" in table
    assert refused.code == 2 and refused.err.count("\n") == 1
    assert (sound.code, sound.out.count("no problems")) == (0, 2), sound.out
    assert info.code == 0 and "objects an image" in info.out
    assert "torch" not in modules


def test_convert_writes_a_file_and_refuses_what_it_does_not_know(run_verbs: Callable, tmp_path: Path) -> None:
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "a.xml").write_text(
        "<annotation><filename>a.jpg</filename><size><width>9</width><height>8</height></size><object>"
        "<name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>8</ymax></bndbox></object>"
        "</annotation>"
    )
    results, modules = run_verbs(
        f"data convert voc {tmp_path} -o out/a.json",
        f"data convert vocc {tmp_path} -o b.json",
        f"data convert yolo {tmp_path} -o b.json",
        f"data convert openimages {tmp_path} -o b.json",
        f"data convert predictions {tmp_path} -o b.json",
        "data",
    )
    assert results[0].code == 0 and "1 images, 1 objects, 1 classes" in results[0].out
    assert json.loads((tmp_path / "out" / "a.json").read_text())["annotations"][0]["bbox"] == [0, 0, 9, 8]
    expected = (
        "did you mean 'voc'",
        "expected YOLO's layout",
        "needs --classes",
        "no such file",
        "Missing command",
    )
    for result, message in zip(results[1:], expected, strict=True):
        assert result.code == 2 and message in result.err and result.err.count("\n") == 1, result
    assert not (tmp_path / "b.json").exists() and "torch" not in modules


def test_convert_turns_coco_results_into_a_runs_predictions_and_back(run_verbs: Callable, tmp_path: Path) -> None:
    rows = [{"image_id": 3, "category_id": 5, "bbox": [1.1, 2, 3, 4], "score": 0.1}]
    (tmp_path / "found.json").write_text(json.dumps(rows))
    results, modules = run_verbs(
        "data convert predictions found.json -o made/predictions.npz",
        "data convert predictions made/predictions.npz -o again.json",
        "data convert predictions found.json -o again.txt",
    )
    assert [result.code for result in results] == [0, 0, 2], results
    assert results[1].out == "wrote again.json: 1 detections\n" and results[2].err.count("\n") == 1
    assert json.loads((tmp_path / "again.json").read_text()) == rows
    assert "torch" not in modules
