"""How fast and how exactly detections are scored, beside the official tools, on a made set of LVIS's kind."""

import importlib.metadata
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask
from rich.console import Console
from rich.table import Table

from detloss.bench_data import MB, Cost, run
from detloss.stats import ClassStats

HEIGHT, WIDTH = 480, 640
OBJECTS_PER_IMAGE = 12
"""LVIS v1's average."""

VARIANTS = 4
"""Different detections of an object; what a tool does with one does not depend on how often it occurs."""

OURS = """
import json
from pathlib import Path
from detloss.evaluation.RULES import evaluate_RULES
result = evaluate_RULES(Path(ANNOTATIONS), Path(PREDICTIONS), iou_types=(KIND,))
numbers = {f"{row['category_id']}/{name.split('_')[1]}": row[name]
           for row in result.per_class for name in row if name[4:] in ("_AP", "_AP50", "_AP75", "_APs", "_AR")}
json.dump({**result.metrics[KIND], **numbers}, open(NUMBERS, "w"))
"""

LVIS = """
import json, numpy as np
np.float = float
from lvis import LVIS, LVISEval
evaluator = LVISEval(LVIS(ANNOTATIONS), PREDICTIONS, KIND)
evaluator.run()
precision, recall = evaluator.eval["precision"], evaluator.eval["recall"]
ids, numbers = evaluator.params.cat_ids, dict(evaluator.get_results())
"""

COCO = """
import json
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
objects = COCO(ANNOTATIONS)
evaluator = COCOeval(objects, objects.loadRes(PREDICTIONS), KIND)
evaluator.evaluate()
evaluator.accumulate()
evaluator.summarize()
precision, recall = evaluator.eval["precision"][..., -1], evaluator.eval["recall"][..., -1]
names = "AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl".split()
ids, numbers = evaluator.params.catIds, dict(zip(names, evaluator.stats.tolist()))
"""

PER_CLASS = """
for index, category in enumerate(ids):
    own = precision[:, :, index]
    values = own[..., 0].mean(), own[0, :, 0].mean(), own[5, :, 0].mean(), own[..., 1].mean()
    values = dict(zip(("AP", "AP50", "AP75", "APs"), values), AR=recall[:, index, 0].mean())
    numbers.update({f"{category}/{name}": float(value) for name, value in values.items()})
json.dump({name: float(value) for name, value in numbers.items()}, open(NUMBERS, "w"))
"""

HOTCOCO = """
import hotcoco, json
objects = hotcoco.COCO(ANNOTATIONS)
evaluator = hotcoco.COCOeval(objects, objects.load_res(PREDICTIONS), KIND, lvis_style=RULES == "lvis")
evaluator.run()
numbers = evaluator.get_results()
json.dump({name: float(value) for name, value in numbers.items()}, open(NUMBERS, "w"))
"""

WRITE = """
from pathlib import Path
from detloss.bench_eval import write_set
for _ in write_set(Path(FOLDER), images=IMAGES, detections=DETECTIONS): pass
"""


def bench_eval(*, images: int, detections: int, rules: list[str], kinds: list[str]) -> None:
    """Write a set, let every tool score it in a process of its own, and print a table.

    Args:
        rules: "lvis", "coco" or both.
        kinds: "bbox", "segm" or both.
    """
    table = Table()
    for column in ("rules", "IoU of", "tool", "seconds", "peak MB", "times ours", "MB / ours", "off by"):
        table.add_column(column, justify="left" if column in ("rules", "IoU of", "tool") else "right")
    with tempfile.TemporaryDirectory(prefix="detloss_bench_") as folder:
        given = {"FOLDER": folder, "IMAGES": images, "DETECTIONS": detections}
        _run(WRITE, given)  # in another process, as one that is started counts what its parent holds as its own
        for each in rules:
            for kind in kinds:
                for row in _compare(Path(folder), each, kind):
                    table.add_row(each, {"bbox": "boxes", "segm": "masks"}[kind], *row)
    print(f"{images:,} images, {OBJECTS_PER_IMAGE * images:,} objects of 1,203 classes, {detections:,} detections")
    Console().print(table)
    print("off by: the largest difference from the official tool, of so many numbers, averages and per class.")


def write_set(folder: Path, *, images: int, detections: int, seed: int = 0) -> Iterator[str]:
    """Write ``annotations.json``, LVIS's layout with its class frequencies, and detections with and without masks.

    A third of the detections lie near an object of their class, the rest anywhere and of any class.
    """
    generator = np.random.default_rng(seed)
    stats = ClassStats.lvis_v1()
    share = stats.instances / stats.instances.sum()
    objects = OBJECTS_PER_IMAGE * images
    owners, classes = np.repeat(np.arange(images), OBJECTS_PER_IMAGE), generator.choice(1203, objects, p=share)
    outlines = [_outline(generator) for _ in range(objects)]
    ids = np.array(stats.category_ids)
    _write_annotations(folder / "annotations.json", stats, outlines, owners, ids[classes], generator)
    yield "annotations.json"

    # Every object in VARIANTS jittered forms; a detection is one of them in its own image or in another.
    forms = [
        json.dumps({"bbox": box, "segmentation": rle})[1:-1]
        for outline in outlines
        for box, rle in (_jittered(outline, generator) for _ in range(VARIANTS))
    ]
    boxes = [form[: form.index(', "segmentation"')] for form in forms]
    near = generator.random(detections) < 1 / 3
    image = np.arange(detections) * images // detections
    source = np.where(
        near,
        image * OBJECTS_PER_IMAGE + generator.integers(OBJECTS_PER_IMAGE, size=detections),
        generator.integers(objects, size=detections),
    )
    category = ids[np.where(near, classes[source], generator.choice(1203, detections, p=share))]
    score = np.round(generator.beta(np.where(near, 2, 1), 5), 5)
    chosen = source * VARIANTS + generator.integers(VARIANTS, size=detections)
    columns = (image + 1, category, score, chosen)
    for name, texts in (("bbox.json", boxes), ("segm.json", forms)):
        with open(folder / name, "w", encoding="utf-8") as file:
            separator = "["
            for one_image, one_category, one_score, form in zip(*(c.tolist() for c in columns), strict=True):
                ends = f'"image_id": {one_image}, "category_id": {one_category}, "score": {one_score}'
                file.write(f"{separator}{{{ends}, {texts[form]}}}")
                separator = ",\n"
            file.write("]")
        yield name


def _compare(folder: Path, rules: str, kind: str) -> Iterator[list[str]]:
    """Yield the table's rows of every tool, ours first."""
    official = {"lvis": ("lvis", LVIS + PER_CLASS), "coco": ("pycocotools", COCO + PER_CLASS)}[rules]
    tools = {"detloss": OURS.replace("RULES", rules), official[0]: official[1]}
    if importlib.util.find_spec("hotcoco"):
        tools["hotcoco"] = HOTCOCO
    costs, numbers = {}, {}
    for name, code in tools.items():
        place = folder / f"{name}.json"
        given = {
            "ANNOTATIONS": str(folder / "annotations.json"),
            "PREDICTIONS": str(folder / f"{kind}.json"),
            "KIND": kind,
            "NUMBERS": str(place),
            "RULES": rules,
        }
        costs[name] = _run(code, given)
        numbers[name] = json.loads(place.read_text())
    truth, ours = numbers[official[0]], costs["detloss"]
    for name, cost in costs.items():
        yield [
            f"{name} {importlib.metadata.version(name)}",
            f"{cost.seconds:.2f}",
            f"{cost.memory / MB:,.0f}",
            f"{cost.seconds / ours.seconds:.1f}",
            f"{cost.memory / ours.memory:.1f}",
            f"{max(off := differences(numbers[name], truth)):.0e} of {len(off):,}",
        ]
    if "hotcoco" not in costs:
        yield ["hotcoco", *5 * ["-"]]


def differences(numbers: Mapping[str, float | None], truth: Mapping[str, float]) -> list[float]:
    """Return how far the numbers are off that both have; None is the official tools' -1."""
    shared = {name: value for name, value in numbers.items() if name in truth}
    return [abs((-1 if value is None else value) - truth[name]) for name, value in shared.items()]


def _run(code: str, given: Mapping[str, object]) -> Cost:
    named = "".join(f"{name} = {value!r}\n" for name, value in given.items())
    return run([sys.executable, "-c", named + code], {**os.environ})


def _outline(generator: np.random.Generator) -> np.ndarray:
    """Return the corners of an ellipse-like polygon, [P, 2], of LVIS's range of sizes."""
    sides = np.exp(generator.uniform(np.log(8), np.log(220), 2))
    centre = generator.uniform(sides / 2, [WIDTH, HEIGHT] - sides / 2)
    angles = np.linspace(0, 2 * np.pi, int(generator.integers(8, 60)), endpoint=False)
    return centre + np.stack([np.cos(angles), np.sin(angles)], axis=1) * sides / 2


def _box(outline: np.ndarray) -> list[float]:
    low, high = outline.min(axis=0), outline.max(axis=0)
    return np.concatenate([low, high - low]).round(2).tolist()


def _jittered(outline: np.ndarray, generator: np.random.Generator) -> tuple[list[float], dict[str, object]]:
    """Return box and mask of an outline moved and stretched a little."""
    centre = outline.mean(axis=0)
    size = np.ptp(outline, axis=0)
    moved = centre + (outline - centre) * generator.uniform(0.8, 1.25, 2) + generator.normal(0, 0.08, 2) * size
    moved = np.clip(moved, 0, [WIDTH, HEIGHT])
    (encoded,) = coco_mask.frPyObjects([moved.ravel().tolist()], HEIGHT, WIDTH)
    return _box(moved), {"size": [HEIGHT, WIDTH], "counts": encoded["counts"].decode()}


def _write_annotations(
    path: Path,
    stats: ClassStats,
    outlines: list[np.ndarray],
    owners: np.ndarray,
    category_ids: np.ndarray,
    generator: np.random.Generator,
) -> None:
    annotations = [
        {
            "id": number,
            "image_id": int(owner) + 1,
            "category_id": int(category),
            "bbox": _box(outline),
            "area": round(float(np.prod(np.ptp(outline, axis=0))) * np.pi / 4, 2),
            "iscrowd": 0,
            "segmentation": [outline.round(2).ravel().tolist()],
        }
        for number, (outline, owner, category) in enumerate(
            zip(outlines, owners, category_ids, strict=True), start=1
        )
    ]
    images = []
    for number in range(1, int(owners.max()) + 2):
        lists = generator.choice(stats.category_ids, 12, replace=False).tolist()
        image = {"id": number, "height": HEIGHT, "width": WIDTH, "file_name": f"{number:012d}.jpg"}
        images.append(image | {"neg_category_ids": lists[:10], "not_exhaustive_category_ids": lists[10:]})
    categories = [
        {"id": category, "name": name, "frequency": "r" if count <= 10 else "c" if count <= 100 else "f"}
        for category, name, count in zip(stats.category_ids, stats.names, stats.images.tolist(), strict=True)
    ]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
