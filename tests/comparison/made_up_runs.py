"""Images with three classes of objects, detectors that find a part of them, and run folders of these."""

import hashlib
import json
from pathlib import Path

import numpy as np
import yaml
from pycocotools import mask as coco_mask

Json = dict[str, object]
CLASSES = {2: "rare", 5: "common", 9: "frequent"}


def scene(random: np.random.Generator) -> Json:
    """Return a COCO file of 40 images with an object of each class or two in most."""
    images = [{"id": i, "width": 100, "height": 100, "file_name": f"{i}.png"} for i in range(1, 41)]
    annotations: list[Json] = []
    for image in images:
        for category in CLASSES:
            for _ in range(int(random.integers(0, 3))):
                box = [*random.uniform(0, 60, 2), *random.uniform(20, 40, 2)]
                row = {"id": len(annotations) + 1, "image_id": image["id"], "category_id": category, "iscrowd": 0}
                annotations.append(row | {"bbox": box, "area": box[2] * box[3], "segmentation": [_outline(box)]})
    categories = [{"id": number, "name": name} for number, name in CLASSES.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_run(folder: Path, annotations: Path, quality: float, random: int, settings: Json) -> Path:
    """Write the folder of a run whose detector finds a share ``quality`` of the objects.

    Args:
        settings: parts of the config that are replaced, keys with ``__`` for dots; ``images`` are the training
            images of each class.
    """
    content = json.loads(annotations.read_text())
    folder.mkdir(parents=True)
    (folder / "predictions.json").write_text(
        json.dumps(_detections(content, quality, np.random.default_rng(random)))
    )
    stats = {
        "fingerprints": {"val": hashlib.sha256(annotations.read_bytes()).hexdigest()},
        "num_images": 100,
        "category_ids": list(CLASSES),
        "names": list(CLASSES.values()),
        "images": settings.pop("images", [5, 50, 500]),
        "instances": [5, 50, 500],
    }
    (folder / "stats.json").write_text(json.dumps(stats))
    files = {"annotations": str(annotations), "images": str(annotations.parent)}
    config: dict[str, dict] = {
        "loss": {"name": "ce"},
        "model": {"name": "fasterrcnn", "masks": False},
        "backbone": {"depth": 50},
        "sampler": {"_target_": "detloss.data.samplers.Uniform"},
        "evaluator": {"name": "coco", "max_detections": 100},
        "dataset": {"name": "coco", "format": "coco", "root": None, "split": None, "groups": [10, 100]},
    }
    config["dataset"] |= {"train": files, "val": files}
    whole: Json = {"seed": 0, **config}
    for key, value in settings.items():
        group, _, rest = key.partition("__")
        if rest:
            config[group][rest] = value
        else:
            whole[key] = value
    (folder / "config.yaml").write_text("# detloss\n" + yaml.safe_dump(whole))
    return folder


def _outline(box: list[float]) -> list[float]:
    """Return a diamond within the box as a polygon."""
    x, y, width, height = box
    corners = [x, y + height / 2, x + width / 2, y, x + width, y + height / 2, x + width / 2, y + height]
    return [float(value) for value in corners]


def _mask(box: list[float]) -> Json:
    """Return the run lengths of a diamond that is a little too narrow."""
    (encoded,) = coco_mask.frPyObjects([_outline([*box[:2], 0.85 * box[2], box[3]])], 100, 100)
    return {"size": [100, 100], "counts": encoded["counts"].decode()}


def _detections(content: Json, quality: float, random: np.random.Generator) -> list[Json]:
    rows: list[Json] = []
    for each in content["annotations"]:  # type: ignore[attr-defined]
        found = {key: each[key] for key in ("image_id", "category_id", "bbox")}
        if random.random() < quality:
            rows.append(found | {"score": random.uniform(0.3, 1)})
        if random.random() < 0.5:
            rows.append(found | {"bbox": [0, 0, 5, 5], "score": random.uniform(0, 0.7)})
    return [row | {"segmentation": _mask(row["bbox"])} for row in rows]  # type: ignore[arg-type]
