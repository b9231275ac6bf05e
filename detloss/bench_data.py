"""How fast annotations are counted and opened, beside the tools that people use, on a file of LVIS's size."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from detloss.progress import Display
from detloss.stats import ClassStats

MB = 1e6

FIRSTS = 5
"""Times that a file is read as if for the first time, of which the middle one counts."""

POLYGONS = 4000
"""Different polygons; what a reader does with one does not depend on how often it occurs."""

READERS = {
    "json.load": "import json; json.load(open(PATH))",
    "pycocotools.COCO": "from pycocotools.coco import COCO; COCO(PATH)",
    "lvis.LVIS": "from lvis import LVIS; LVIS(PATH)",
}

OPEN = """
import time, sys
from pathlib import Path
from detloss.data import annotations, store, texts  # noqa: F401
before, start = uss(), time.perf_counter()
opened = store.open_annotations(Path(PATH))
seconds = time.perf_counter() - start
opened.boxes.sum(), opened.class_index.sum(), opened.image_index.sum()
print(json.dumps({"seconds": seconds, "memory": uss() - before}))
"""

PRELUDE = """
import json, re
def uss():
    text = open("/proc/self/smaps_rollup").read()
    return 1024 * sum(int(kb) for kb in re.findall(r"Private_\\w+:\\s+(\\d+) kB", text))
"""


@dataclass(frozen=True)
class Cost:
    """Seconds of a whole process and the most memory that it, or a process that it started, held (bytes)."""

    seconds: float
    memory: int


def bench_data(*, images: int, annotations: int, readers: bool) -> None:
    """Write a file of LVIS's layout, read it with every tool in processes of their own, and print a table.

    Args:
        readers: whether to run the other tools, too; they take minutes and, at full size, 8 GB.
    """
    with tempfile.TemporaryDirectory(prefix="detloss_bench_") as folder:
        path = Path(folder) / "lvis_sized.json"
        with Display("write", annotations) as display:
            for written in write_lvis(path, images=images, annotations=annotations):
                display.advance(written)
        with open(path, "rb") as file:  # from now on it lies in the page cache, and nobody writes it to the disk
            os.fsync(file.fileno())
            while file.read(
                1 << 20
            ):  # in pieces: a process that is started counts what its parent holds as its own
                pass
        print(f"{path.stat().st_size / MB:,.0f} MB, {images:,} images, {annotations:,} annotations with polygons")
        words = ["dataset=lvis_v1", f"dataset.train.annotations={path}", f"dataset.train.images={folder}"]
        ours = [sys.executable, "-m", "detloss", "stats", *words]
        environment = dict(os.environ)
        firsts = []
        for attempt in range(FIRSTS):
            environment["DETLOSS_CACHE"] = str(Path(folder) / f"cache{attempt}")
            firsts.append(run(ours, environment))
        costs = {"detloss stats, first": middle(firsts), "detloss stats, later": run(ours, environment)}
        for name, code in READERS.items() if readers else ():
            costs[name] = run([sys.executable, "-c", f"PATH = {str(path)!r}\n{code}"], environment)
        opened = open_in_workers(path, environment, workers=4)
    Console().print(_table(costs))
    slowest, largest = max(cost.seconds for cost in opened), max(cost.memory for cost in opened)
    print(
        f"Opened in {len(opened)} processes at once: at most {1e3 * slowest:.0f} ms, and {largest / MB:.1f} MB of "
        "a process's own after all columns were read."
    )


def middle(costs: Sequence[Cost]) -> Cost:
    """Return the cost of median seconds."""
    return sorted(costs, key=lambda cost: cost.seconds)[len(costs) // 2]


def write_lvis(path: Path, *, images: int, annotations: int, seed: int = 0) -> Iterator[int]:
    """Write a file in the layout of LVIS v1's training file with its class frequencies, and tell how far it is."""
    generator = np.random.default_rng(seed)
    stats = ClassStats.lvis_v1()
    classes = generator.choice(stats.category_ids, annotations, p=stats.instances / stats.instances.sum())
    owners = np.sort(generator.integers(1, images + 1, annotations))
    shapes = [_shape(generator) for _ in range(POLYGONS)]
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"info": {"description": "made by detloss bench data"}, "annotations": [')
        for start in range(0, annotations, 10_000):
            rows = [
                f'{{{shapes[row % POLYGONS]}, "id": {row + 1}, "image_id": {owners[row]}, '
                f'"category_id": {classes[row]}}}'
                for row in range(start, min(start + 10_000, annotations))
            ]
            file.write((", " if start else "") + ", ".join(rows))
            yield start + len(rows)
        file.write('], "images": [')
        file.write(", ".join(json.dumps(_image(number)) for number in range(1, images + 1)))
        categories = [
            {"id": category, "name": name, "frequency": "f", "instance_count": 1}
            for category, name in zip(stats.category_ids, stats.names, strict=True)
        ]
        file.write(f'], "licenses": [], "categories": {json.dumps(categories)}}}')


def run(words: list[str], environment: dict[str, str]) -> Cost:
    """Run a process to its end, which must be a good one."""
    start = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(words)}: {errors.decode()[-500:]}")
    return Cost(seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))


def open_in_workers(path: Path, environment: dict[str, str], *, workers: int) -> list[Cost]:
    """Let processes open the stored file at once; ``seconds`` are of opening alone, ``memory`` is their own."""
    code = f"PATH = {str(path)!r}\n{PRELUDE}{OPEN}"
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(workers)
    ]
    return [Cost(**json.loads(process.communicate()[0])) for process in processes]


def _shape(generator: np.random.Generator) -> str:
    """Return box, area and polygon as JSON, as long as LVIS's on average (30 points)."""
    x, y, width, height = (round(float(v), 2) for v in generator.uniform((0, 0, 5, 5), (400, 300, 200, 150)))
    angles = np.linspace(0, 2 * np.pi, int(generator.integers(8, 90)))
    points = np.stack([x + width / 2 * (1 + np.cos(angles)), y + height / 2 * (1 + np.sin(angles))], axis=1)
    polygon = points.round(2).ravel().tolist()
    row = {"area": round(0.78 * width * height, 2), "segmentation": [polygon], "bbox": [x, y, width, height]}
    return json.dumps(row)[1:-1]


def _image(number: int) -> dict[str, object]:
    return {
        "id": number,
        "width": 640,
        "height": 480,
        "license": 1,
        "coco_url": f"http://images.cocodataset.org/train2017/{number:012d}.jpg",
        "flickr_url": f"http://farm9.staticflickr.com/8186/{number}_4e622c8349_z.jpg",
        "date_captured": "2013-11-14 17:02:52",
        "neg_category_ids": [number % 1203 + 1, (7 * number) % 1203 + 1],
        "not_exhaustive_category_ids": [],
    }


def _table(costs: dict[str, Cost]) -> Table:
    table = Table()
    for column in ("", "seconds", "peak MB", "json.load / it"):
        table.add_column(column, justify="left" if not column else "right")
    yardstick = costs.get("json.load")
    for name, cost in costs.items():
        ratio = "-" if yardstick is None else f"{yardstick.seconds / cost.seconds:.1f}"
        table.add_row(name, f"{cost.seconds:.2f}", f"{cost.memory / MB:,.0f}", ratio)
    return table
