"""The example that clusters atoms by their surroundings, on ethanol, where the answer is known."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from ase.io import write
from strict_python import STRICT

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ["C0", "C1", "O2", "H3", "H4 H5", "H6", "H7 H8"]  # H6 of the methyl group lies in the mirror plane


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("example")
    frames = []
    for seed in range(30):
        atoms = molecule("CH3CH2OH")
        atoms.rattle(0.02, seed=seed)
        frames.append(atoms)
    write(path / "frames.extxyz", frames)
    positions = np.array([atoms.positions for atoms in frames])
    np.savez(path / "frames.npz", numbers=frames[0].numbers, positions=positions)
    write(path / "mixed.extxyz", [*frames, molecule("H2O")])
    return path


def run(folder: Path, *words: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [*STRICT, str(ROOT / "examples" / "aspirin_environments.py")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [*filter(None, [path]), ROOT]))}
    words = ("--model", "ethanol-visnet", "--output", "a.png", *words)
    return subprocess.run([*command, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_clusters_are_the_chemical_environments(folder: Path) -> None:
    pytest.importorskip("sklearn", reason="needs scikit-learn: pip install mlcalc[examples]")
    done = run(folder, "--frames", "frames.extxyz")
    assert done.returncode == 0, done.stderr
    clusters = re.findall(r"^cluster +\d+: (.*)$", done.stdout, flags=re.MULTILINE)
    assert [line.replace(" (100%)", "").replace(",", "") for line in clusters] == ENVIRONMENTS
    assert (folder / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_reach_across_the_map_joins_everything(folder: Path) -> None:
    pytest.importorskip("sklearn", reason="needs scikit-learn: pip install mlcalc[examples]")
    assert run(folder, "--frames", "frames.npz", "--reach", "100").stdout.count("cluster ") == 1


def test_frames_that_cannot_be_used(folder: Path) -> None:
    pytest.importorskip("sklearn", reason="needs scikit-learn: pip install mlcalc[examples]")
    assert "holds different molecules" in run(folder, "--frames", "mixed.extxyz").stderr
    assert "too few points for a map" in run(folder, "--frames", "frames.npz", "--count", "1").stderr


def test_a_missing_extra_is_named_before_any_work(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "sklearn.py").write_text("raise ImportError('not here')\n")  # found before an installed one
    done = run(folder, path=tmp_path)
    assert done.returncode != 0
    assert "MissingExtraError: this example needs scikit-learn, which is not installed (not here): pip" in done.stderr
    assert 'pip install "mlcalc[examples]"' in done.stderr
    assert "steps" not in done.stdout
