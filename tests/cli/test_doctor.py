"""``detloss doctor`` finds what is broken and checks the rest."""

from collections.abc import Callable

WITHOUT_LVIS = """
import sys
sys.modules["lvis"] = None  # as if its import failed
from detloss.cli.main import main
main()
"""


def test_a_broken_package_and_image_are_found_and_the_rest_is_described(
    run_python: Callable, tiny_coco: Callable
) -> None:
    train, val = tiny_coco(folder="train"), tiny_coco(folder="val")
    (val.images / "0007.png").write_bytes(b"no image")
    code, out, _ = run_python(
        WITHOUT_LVIS,
        "doctor",
        "dataset=coco",
        f"dataset.train.annotations={train.annotations}",
        f"dataset.train.images={train.images}",
        f"dataset.val.annotations={val.annotations}",
        f"dataset.val.images={val.images}",
    )
    lines = {line.split(":")[0]: line for line in out.splitlines()}
    assert code == 1
    for name in ("versions", "torch", "numpy and torch", "torchvision operators", "pycocotools", "cache", "W&B"):
        assert f"ok      {name}" in lines
    assert "import of lvis halted" in lines["broken  lvis"]
    assert "8 images (the first is 64 x 64)" in lines["ok      training set"]
    assert "5 classes, 1 degenerate boxes dropped" in lines["ok      training set"]
    assert "0007.png" in lines["broken  validation set"]
    assert out.splitlines()[-1] == "broken: lvis, validation set"
