"""Other formats become the COCO file that somebody would write by hand."""

import json
from pathlib import Path

import pytest
from PIL import Image

from detloss.data.annotations import read_annotations
from detloss.data.coco_file import CocoFile
from detloss.data.open_images import read_open_images
from detloss.data.voc import read_voc
from detloss.data.yolo import read_yolo
from detloss.errors import UserError


def rows(content: CocoFile) -> list[tuple[object, ...]]:
    """Image's file, class, box and crowd of every object."""
    names = {image["id"]: image["file_name"] for image in content.images}
    return [
        (
            names[row["image_id"]],
            content.class_names[int(row["category_id"]) - 1],  # type: ignore[call-overload]
            row["bbox"],
            row["iscrowd"],
        )
        for row in content.annotations
    ]


def voc(root: Path, name: str, *objects: str, size: str = "<width>50</width><height>40</height>") -> Path:
    path = root / "Annotations" / f"{name}.xml"
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(
        f"<annotation><filename>{name}.jpg</filename><size>{size}</size>{''.join(objects)}</annotation>"
    )
    return path


def thing(name: str, corners: tuple[float, float, float, float], difficult: int = 0) -> str:
    sides = "".join(
        f"<{side}>{value}</{side}>" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    )
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{sides}</bndbox></object>"


def test_voc_counts_pixels_from_1_and_both_corners_belong_to_the_box(tmp_path: Path) -> None:
    voc(tmp_path, "b", thing("dog", (1, 1, 50, 40)), thing("cat", (10, 20, 10, 21), difficult=1))
    voc(tmp_path, "a")
    content = read_voc(tmp_path)
    assert content.class_names == ["cat", "dog"]
    assert [(i["file_name"], i["width"], i["height"]) for i in content.images] == [
        ("a.jpg", 50, 40),
        ("b.jpg", 50, 40),
    ]
    assert rows(content) == [("b.jpg", "dog", [0, 0, 50, 40], 0), ("b.jpg", "cat", [9, 19, 1, 2], 1)]
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("b -1\n\n")
    assert len(read_voc(tmp_path, "val").images) == 1
    with pytest.raises(UserError, match=r"vall.txt: no such list of images; did you mean 'val'"):
        read_voc(tmp_path, "vall")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[:-9], "cannot be read as XML"),
        (lambda text: text.replace("<width>50</width>", ""), "<annotation> has no <size><width>"),
        (lambda text: text.replace("<xmax>50", "<xmax>wide"), "<bndbox><xmax> must be a number, got 'wide'"),
        (lambda text: text.replace("<name>dog</name>", ""), "<object> has no <name>"),
    ],
)
def test_a_bad_voc_file_is_one_line(tmp_path: Path, damage, message: str) -> None:
    path = voc(tmp_path, "b", thing("dog", (1, 1, 50, 40)))
    path.write_text(damage(path.read_text()))
    with pytest.raises(UserError, match=f"b.xml: {message}"):
        read_voc(tmp_path)


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    for folder in ("images/train", "labels/train"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("a.png", "b.jpg"):
        Image.new("RGB", (100, 50)).save(tmp_path / "images/train" / name)
    (tmp_path / "data.yaml").write_text("names: {0: cat, 1: dog}\n")
    return tmp_path


def test_yolo_boxes_and_outlines_are_shares_of_the_image(yolo: Path) -> None:
    (yolo / "labels/train/a.txt").write_text("1 0.5 0.5 0.2 0.4\n\n0 0.1 0.2 0.5 0.2 0.5 0.6\n")
    content = read_yolo(yolo, "train")
    assert rows(content) == [("a.png", "dog", [40, 15, 20, 20], 0), ("a.png", "cat", [10, 10, 40, 20], 0)]
    triangle = content.annotations[1]
    assert triangle["segmentation"] == [[10, 10, 50, 10, 50, 30]] and triangle["area"] == 400
    assert [image["file_name"] for image in content.images] == ["a.png", "b.jpg"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2 0.5 0.5 0.2 0.4", "line 1: class 2 of 2"),
        ("1 0.5 0.5 0.2", "line 1: expected 4 numbers or an outline"),
        ("1 0.5 0.5 0.2 x", "line 1: expected a class and numbers"),
        ("1 0.5 0.5 0.2 nan", "line 1: expected finite numbers"),
        ("cat 0.5 0.5 0.2 0.1", "line 1: expected a class and numbers"),
    ],
)
def test_a_bad_yolo_line_is_named(yolo: Path, line: str, message: str) -> None:
    (yolo / "labels/train/a.txt").write_text(line)
    with pytest.raises(UserError, match=f"a.txt, {message}"):
        read_yolo(yolo, "train")


def test_yolo_needs_names_and_images(yolo: Path) -> None:
    with pytest.raises(UserError, match="no such folder of images"):
        read_yolo(yolo, "val")
    (yolo / "data.yaml").write_text("names: 3")
    with pytest.raises(UserError, match="expected a list 'names'"):
        read_yolo(yolo, "train")
    (yolo / "data.yaml").unlink()
    with pytest.raises(UserError, match=r"neither data\.yaml nor classes\.txt"):
        read_yolo(yolo, "train")
    (yolo / "classes.txt").write_text("cat\ndog\n")
    assert read_yolo(yolo, "train").class_names == ["cat", "dog"]


@pytest.fixture
def open_images(tmp_path: Path) -> Path:
    """Animals > (cats, dogs > poodles), and trees; images u and v."""
    for name in ("u", "v"):
        Image.new("RGB", (200, 100)).save(tmp_path / f"{name}.jpg")
    (tmp_path / "names.csv").write_text("/m/a,Animal\n/m/c,Cat\n/m/d,Dog\n/m/p,Poodle\n/m/t,Tree\n")
    tree = {
        "LabelName": "/m/entity",
        "Subcategory": [
            {
                "LabelName": "/m/a",
                "Subcategory": [
                    {"LabelName": "/m/c"},
                    {"LabelName": "/m/d", "Subcategory": [{"LabelName": "/m/p"}]},
                ],
            },
            {"LabelName": "/m/t"},
        ],
    }
    (tmp_path / "tree.json").write_text(json.dumps(tree))
    (tmp_path / "boxes.csv").write_text(
        "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsGroupOf\n"
        "u,xclick,/m/p,1,0.1,0.3,0.2,0.7,0\nu,xclick,/m/t,1,0,1,0,1,1\n"
    )
    (tmp_path / "labels.csv").write_text(
        "ImageID,Source,LabelName,Confidence\nu,verification,/m/c,0\nv,verification,/m/d,0\nv,x,/m/t,1\n"
    )
    return tmp_path


def read(folder: Path, *, all_files: bool = True) -> CocoFile:
    more = {"hierarchy": folder / "tree.json", "labels": folder / "labels.csv"} if all_files else {}
    return read_open_images(folder / "boxes.csv", folder / "names.csv", folder, **more)


def test_open_images_objects_are_of_the_classes_above_as_well(open_images: Path) -> None:
    assert rows(read(open_images)) == [
        ("u.jpg", "Poodle", [20, 20, 40, 50], 0),
        ("u.jpg", "Animal", [20, 20, 40, 50], 0),
        ("u.jpg", "Dog", [20, 20, 40, 50], 0),
        ("u.jpg", "Tree", [0, 0, 200, 100], 1),
    ]
    assert [row[1] for row in rows(read(open_images, all_files=False))] == ["Poodle", "Tree"]


def test_what_is_absent_is_so_with_all_classes_below(open_images: Path, tmp_path: Path) -> None:
    content = read(open_images)
    negative = {image["file_name"]: image["neg_category_ids"] for image in content.images}
    assert negative == {"u.jpg": [2], "v.jpg": [3, 4]}  # v shows no dog, so no poodle
    content.write(tmp_path / "out.json")
    assert len(read_annotations(tmp_path / "out.json").boxes) == 4


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("boxes.csv", "XMin", "Left", "boxes.csv: no column 'XMin'"),
        ("boxes.csv", "/m/p", "/m/x", "boxes.csv, line 2: unknown class /m/x"),
        ("boxes.csv", "0.1,", "wide,", "boxes.csv, line 2: 'XMin' must be a number, got 'wide'"),
        ("boxes.csv", ",0\n", "\n", "boxes.csv, line 2: 8 columns under a heading of 9"),
        ("names.csv", "/m/c,Cat", "/m/c", "names.csv, line 2: expected a label and a name"),
        ("tree.json", "LabelName", "Label", "tree.json: expected a tree"),
        ("tree.json", "[", "", "tree.json: cannot be read as JSON"),
    ],
)
def test_a_bad_open_images_file_is_one_line(
    open_images: Path, name: str, old: str, new: str, message: str
) -> None:
    path = open_images / name
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        read(open_images)


def test_a_missing_file_is_one_line(open_images: Path) -> None:
    (open_images / "names.csv").unlink()
    with pytest.raises(UserError, match=r"names\.csv: no such file"):
        read(open_images)
    with pytest.raises(UserError, match="cannot write"):
        CocoFile(["cat"]).write(open_images / "boxes.csv" / "out.json")
