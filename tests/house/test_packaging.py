"""sdist -> wheel -> clean environment: everything imports from another directory, and only `mlcalc` is new there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"mlcalc": "mlcalc", "models": "mlcalc/models", "md_protocols": "mlcalc/md_protocols"}  # checkout: wheel

IMPORT_EVERYTHING = """
import importlib, pkgutil
import mlcalc
names = [m.name for m in pkgutil.walk_packages(mlcalc.__path__, "mlcalc.") if not m.name.endswith("__main__")]
for name in names:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != "triton" or not name.startswith("mlcalc.gpu."):  # comes with torch for CUDA
            raise
print(mlcalc.__file__, *names, sep="\\n")
"""


def files_to_ship() -> set[str]:
    """Names in a wheel of all code and bundled data of the checkout."""
    return {
        f"{target}/{path.relative_to(ROOT / source).as_posix()}"
        for source, target in PACKAGES.items()
        for path in (ROOT / source).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def unexpected(before: Iterable[str], after: Iterable[str]) -> set[str]:
    """Names that an installation added to site-packages, other than the package and its metadata."""
    return {name for name in set(after) - set(before) if name != "mlcalc" and not name.startswith("mlcalc-")}


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    env = os.environ | environment
    done = subprocess.run([*map(str, command)], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel built from the sdist of a copy of the checkout."""
    work = tmp_path_factory.mktemp("build")
    unwanted = (".git", ".venv", "build", "dist", "demo_output", "*.egg-info", "*_cache", "__pycache__")
    shutil.copytree(ROOT, work / "checkout", ignore=shutil.ignore_patterns(*unwanted))
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", work / "dist", cwd=work / "checkout")
    (built,) = (work / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    """A clean virtual environment with nothing but the wheel, and the names that came with it."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=os.name != "nt")
    scheme = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", scheme="venv", vars=scheme))
    before = {path.name for path in site.iterdir()}
    python = Path(sysconfig.get_path("scripts", scheme="venv", vars=scheme)) / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index")
    run(*pip, "--disable-pip-version-check", wheel, cwd=folder)
    return python, {path.name for path in site.iterdir()} - before


def test_wheel_holds_every_file(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert not files_to_ship() - names
    assert not {name for name in names if not name.startswith("mlcalc")}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "mlcalc/py.typed" in names


def test_installation_adds_only_mlcalc(environment: tuple[Path, set[str]]) -> None:
    _, added = environment
    assert "mlcalc" in added
    assert not unexpected((), added)
    assert unexpected(("pip",), ("pip", "mlcalc", "models")) == {"models"}


def test_everything_imports_from_another_directory(environment: tuple[Path, set[str]], tmp_path: Path) -> None:
    python, _ = environment
    for name in ("models.py", "md_protocols.py"):  # a user's own files must neither be loaded nor be in the way
        (tmp_path / name).write_text("raise RuntimeError('the user\\'s own file was imported')")
    # The dependencies are those of the running environment; its .pth files, and so an editable mlcalc, stay out.
    path = os.pathsep.join(dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]))
    where, *names = run(python, "-c", IMPORT_EVERYTHING, cwd=tmp_path, PYTHONPATH=path).splitlines()
    assert python.parents[1] in Path(where).parents
    assert {"mlcalc.models.graph", "mlcalc.md_protocols.errors", "mlcalc.errors"} <= set(names)
    script = python.with_name("mlcalc")
    assert "Usage: mlcalc" in run(script, "--help", cwd=tmp_path, PYTHONPATH=path)
