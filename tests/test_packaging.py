"""What a wheel holds, and that it works far from the repository."""

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"detloss": "detloss", "detloss.cli": "cli", "detloss.conf": "conf"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel of the checkout, built from a copy so that the checkout stays clean."""
    pytest.importorskip("setuptools", minversion="77")
    source, output = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("detloss", "cli", "conf"):
        for path in (ROOT / name).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                copy = source / path.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(path.read_bytes())
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        (source / name).write_bytes((ROOT / name).read_bytes() if (ROOT / name).exists() else b"")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(output)]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True, cwd=output)
    if "No module named pip" in done.stderr:
        pytest.skip("pip is not installed")
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(next(output.glob("*.whl")))


def test_the_packages_of_pyproject_are_those_of_the_tree() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = {
        ".".join([package, *path.parent.relative_to(ROOT / folder).parts])
        for package, folder in FOLDERS.items()
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert settings["packages"] == sorted(found)
    assert settings["package-dir"] == FOLDERS


def test_a_wheel_holds_every_file_under_detloss_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    expected = {
        f"{package.replace('.', '/')}/{path.relative_to(ROOT / folder)}"
        for package, folder in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == expected
    assert "detloss/py.typed" in held and "detloss/conf/train.yaml" in held


def test_a_wheel_carries_the_licence(wheel: zipfile.ZipFile) -> None:
    name = next(name for name in wheel.namelist() if name.endswith("LICENSE"))
    assert b"Apache License" in wheel.read(name)


def test_a_wheel_works_in_any_working_directory(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    wheel.extractall(site)
    elsewhere.mkdir()
    code = (
        "import sys, detloss\n"
        "from detloss.cli.main import main\n"
        "print(detloss.__file__, sys.modules['detloss.cli'].__file__, file=sys.stderr)\n"
        "main()"
    )
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=elsewhere, env=environment, check=True)

    listed = run("list", "loss")
    assert "ECCV 2022" in listed.stdout
    assert listed.stderr.split() == [f"{site}/detloss/__init__.py", f"{site}/detloss/cli/__init__.py"]
    assert "name: ecm" in run("show", "loss=ecm").stdout
    assert "1203 classes" in run("stats", "dataset=lvis_v1").stdout
