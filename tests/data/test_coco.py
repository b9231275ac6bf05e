import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from torchvision import tv_tensors

from detloss.data.coco import CocoDataset
from detloss.errors import UserError

SHARED = Path(__file__).parents[3] / "shared" / "data"


def _edit(path: Path, change: Callable[[dict], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_samples_hold_what_pycocotools_finds(tiny_coco, capsys):
    files = tiny_coco(8)
    dataset = CocoDataset(*files, masks=True)
    coco = COCO(files.annotations)
    assert dataset.image_ids == list(range(10, 18)) and len(dataset) == 8
    for image_id, (image, target) in zip(dataset.image_ids, dataset, strict=True):
        expected = [
            a for a in coco.loadAnns(coco.getAnnIds(imgIds=image_id)) if not a["iscrowd"] and a["bbox"][2] > 0
        ]
        pixels = np.array(Image.open(files.images / coco.loadImgs(image_id)[0]["file_name"]))
        assert isinstance(image, tv_tensors.Image) and image.dtype == torch.uint8
        assert np.array_equal(image.permute(1, 2, 0).numpy(), pixels)
        assert target["image_id"] == image_id
        labels = [dataset.category_ids[label - 1] for label in target["labels"].tolist()]
        assert labels == [a["category_id"] for a in expected]
        corners = [[x, y, x + w, y + h] for x, y, w, h in (a["bbox"] for a in expected)]
        assert target["boxes"].tolist() == corners and target["boxes"].dtype == torch.float32
        masks = [coco.annToMask(a) for a in expected]
        assert np.array_equal(target["masks"].numpy(), np.array(masks).reshape(-1, 64, 64))


def test_crowds_and_degenerate_boxes_are_no_targets(tiny_coco):
    dataset = CocoDataset(*tiny_coco(1))
    assert dataset.dropped_boxes == 1
    assert dataset[0][1]["boxes"].shape == (0, 4), "the image has only a crowd and a box without area"


def test_an_image_without_boxes_has_empty_targets_of_the_right_shape(tiny_coco):
    target = CocoDataset(*tiny_coco(3), masks=True)[2][1]
    assert target["boxes"].shape == (0, 4) and target["boxes"].dtype == torch.float32
    assert target["labels"].shape == (0,) and target["labels"].dtype == torch.int64
    assert target["masks"].shape == (0, 64, 64) and target["masks"].dtype == torch.uint8


def test_masks_appear_only_when_asked_for(tiny_coco):
    assert set(CocoDataset(*tiny_coco(2))[0][1]) == {"boxes", "labels", "image_id"}


def test_image_labels_and_sizes_describe_the_samples(tiny_coco):
    dataset = CocoDataset(*tiny_coco(9, size=(48, 32)))
    assert dataset.sizes.tolist() == [[32, 48]] * 9
    for labels, (image, target) in zip(dataset.image_labels, dataset, strict=True):
        assert image.shape == (3, 32, 48)
        assert labels.tolist() == [label - 1 for label in target["labels"].tolist()]


def test_limit_keeps_the_first_images_and_counts_those(tiny_coco):
    files = tiny_coco(8)
    dataset, whole = CocoDataset(*files, limit=3), CocoDataset(*files)
    assert dataset.image_ids == whole.image_ids[:3]
    assert dataset.stats.num_images == 3
    assert dataset.stats.instances.sum() == sum(len(whole[i][1]["labels"]) for i in range(3))


def test_drop_empty_leaves_out_images_without_boxes_but_counts_them(tiny_coco):
    dataset = CocoDataset(*tiny_coco(4), drop_empty=True)
    assert dataset.image_ids == [10, 11, 12]
    assert dataset.stats.num_images == 4
    assert [dataset[i][1]["image_id"] for i in range(3)] == [10, 11, 12]
    assert all(len(dataset[i][1]["boxes"]) for i in range(3))


def test_a_pickled_data_set_gives_the_same_samples(tiny_coco):
    dataset = CocoDataset(*tiny_coco(3), masks=True)
    again = pickle.loads(pickle.dumps(dataset))
    for (image, target), (image_again, target_again) in zip(dataset, again, strict=True):
        assert torch.equal(image, image_again)
        assert all(torch.equal(target[key], target_again[key]) for key in ("boxes", "labels", "masks"))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_images_of_any_mode_become_rgb(tiny_coco, mode):
    files = tiny_coco(2)
    _edit(files.annotations, lambda content: content["images"][0].update(file_name="other.tiff"))
    Image.open(files.images / "0000.png").convert(mode).save(files.images / "other.tiff")
    assert CocoDataset(*files)[0][0].shape == (3, 64, 64)


@pytest.mark.parametrize("folder", ["train2017", "."])
def test_lvis_images_are_found_with_and_without_their_folder(tiny_coco, folder):
    files = tiny_coco(2)

    def name_by_url(content: dict) -> None:
        for image in content["images"]:
            image["coco_url"] = f"http://images.cocodataset.org/train2017/{image.pop('file_name')}"

    _edit(files.annotations, name_by_url)
    (files.images / folder).mkdir(exist_ok=True)
    for image in list(files.images.glob("*.png")):
        image.rename(files.images / folder / image.name)
    dataset = CocoDataset(*files)
    assert dataset.image_path(1) == files.images / folder / "0001.png"
    assert dataset[1][0].shape == (3, 64, 64)


def test_masks_of_a_boxes_only_file_are_a_user_error_at_once(tiny_coco):
    files = tiny_coco(3)
    _edit(files.annotations, lambda content: [a.pop("segmentation") for a in content["annotations"]])
    assert len(CocoDataset(*files)) == 3
    with pytest.raises(UserError, match=r"annotations\[0\] has no segmentation.*model=fasterrcnn"):
        CocoDataset(*files, masks=True)


def test_a_missing_images_folder_is_a_user_error_at_once(tiny_coco):
    files = tiny_coco(1)
    with pytest.raises(UserError, match="nowhere: no such folder of images"):
        CocoDataset(files.annotations, files.images / "nowhere")


def test_a_missing_image_is_a_user_error(tiny_coco):
    files = tiny_coco(2)
    (files.images / "0001.png").unlink()
    with pytest.raises(UserError, match=r"0001\.png: no such image \(image_id 11 of .*instances\.json\)"):
        CocoDataset(*files)[1]


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.9])
def test_a_truncated_image_is_a_one_line_user_error(tiny_coco, suffix, kept):
    files = tiny_coco(2)
    name = f"cut{suffix}"
    _edit(files.annotations, lambda content: content["images"][0].update(file_name=name))
    path = files.images / name
    Image.open(files.images / "0000.png").save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept if kept >= 1 else kept * len(content))])
    with pytest.raises(UserError, match=rf"{name}: damaged or not an image") as raised:
        CocoDataset(*files)[0]
    assert "\n" not in str(raised.value)


def test_an_image_of_another_size_is_a_user_error(tiny_coco):
    files = tiny_coco(2)
    Image.new("RGB", (32, 64)).save(files.images / "0000.png")
    with pytest.raises(UserError, match=r"the image is 32x64, but .* says 64x64"):
        CocoDataset(*files)[0]


def test_a_data_set_without_images_is_a_user_error(tiny_coco):
    files = tiny_coco(1)
    with pytest.raises(UserError, match="holds no image with a box"):
        CocoDataset(*files, drop_empty=True)


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared")
def test_real_photographs_are_read():
    root = SHARED / "coco_mini"
    dataset = CocoDataset(root / "annotations/instances_train.json", root / "train", masks=True)
    assert len(dataset) == 100 and len(dataset.names) == 80
    for index in (0, 50, 99):
        image, target = dataset[index]
        assert image.shape[1:] == target["masks"].shape[1:] == tuple(dataset.sizes[index])
        for box, mask in zip(target["boxes"], target["masks"], strict=True):
            left, top, right, bottom = box.round().int().tolist()
            assert mask[top : bottom + 1, left : right + 1].sum() == mask.sum(), "masks lie in their boxes"
