"""symfc raises the limit of recursion for the whole process; we give it back, and deep files end nobody's run."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from mlcalc.md_protocols.errors import ResultFileError
from mlcalc.md_protocols.folders.storage import bounded_json, load_arrays
from mlcalc.md_protocols.phonons.force_constants import symfc_recursion
from mlcalc.md_protocols.phonons.phonopy_yaml import read_phonopy

CRYSTAL = """
import sys
from ase.build import bulk
from ase.calculators.emt import EMT
from mlcalc.md_protocols import phonon_dispersion
atoms = bulk("Cu", a=3.59)
atoms.calc = EMT()
before = sys.getrecursionlimit()
"""
CALLS = {
    "force constants": "phonon_dispersion(atoms, supercell=2, points=3, mesh=2, fc_calculator='symfc', smax=None)",
    "effective phonons": """
from mlcalc.md_protocols.phonons.harmonic_samples import Fit
phonon = phonon_dispersion(atoms, supercell=2, points=3, mesh=2, smax=None).phonopy()
Fit(phonon)
""",
    "the import alone": "import symfc",  # what the others leave without the context manager
}
DEEP = "[" * 200_000 + "]" * 200_000  # ends the interpreter once the limit is 100 000 and more
OF_OUTSIDE = """
import sys
from pathlib import Path
sys.setrecursionlimit(1_000_000)
from mlcalc.md_protocols.folders.lock import FolderLock
from mlcalc.md_protocols.folders.storage import load_arrays
from mlcalc.model_file.info import strict_json
from mlcalc.training.checkpoint import load_state
for name, read in {
    "deep.npz": lambda path: load_arrays(path, "phonons"),
    "deep.json": lambda path: strict_json(path.read_text()),
    "deep.safetensors": lambda path: load_state(None, path, {}),
}.items():
    try:
        read(Path(name))
    except Exception as error:
        print(type(error).__name__, "nested too deeply" in str(error))
"""


def run(program: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", CALLS)
def test_phonons_leave_the_limit_as_they_found_it(name: str, tmp_path: Path) -> None:
    done = run(f"{CRYSTAL}{CALLS[name]}\nprint('symfc' in sys.modules, before, sys.getrecursionlimit())", tmp_path)
    loaded, before, after = done.stdout.split()[-3:]
    assert loaded == "True", done.stderr
    assert (before == after) is (name != "the import alone")


def test_symfc_may_recurse_and_the_last_thread_takes_it_back() -> None:
    before, both = sys.getrecursionlimit(), threading.Barrier(2)
    within: list[int] = []

    def first() -> None:
        with symfc_recursion():
            both.wait(60)  # entered
            both.wait(60)  # the other one has left

    thread = threading.Thread(target=first)
    thread.start()
    with symfc_recursion():
        both.wait(60)
    within.append(sys.getrecursionlimit())  # the first is still inside
    both.wait(60)
    thread.join()
    assert within[0] >= 100_000
    assert sys.getrecursionlimit() == before
    with pytest.raises(KeyError), symfc_recursion():
        raise KeyError
    assert sys.getrecursionlimit() == before


def test_files_from_elsewhere_end_no_interpreter(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    np.savez(tmp_path / "deep.npz", header=np.array(DEEP))
    (tmp_path / "deep.json").write_text(DEEP)
    save_file({"a": np.zeros(1)}, tmp_path / "deep.safetensors", {"training": DEEP})
    done = run(OF_OUTSIDE, tmp_path)
    assert done.stdout.splitlines() == ["ResultFileError True", "ValueError True", "DataError True"], done.stderr
    # the twin
    done = run("import sys, json; sys.setrecursionlimit(1_000_000); json.load(open('deep.json'))", tmp_path)
    assert done.returncode < 0  # killed by a signal


def test_brackets_count_outside_of_strings_only(tmp_path: Path) -> None:
    value = {"a": ["[" * 500, '"' + "{" * 500, "\\"], "b": [[1.5], {"c": None}]}
    assert bounded_json(json.dumps(value)) == value
    assert bounded_json("[" * 100 + "]" * 100) is not None
    with pytest.raises(ValueError, match="nested too deeply"):
        bounded_json("[" * 101 + "]" * 101)
    (tmp_path / "a.npz").write_bytes(gzip.compress(b""))
    with pytest.raises(ResultFileError, match="cannot be read"):
        load_arrays(tmp_path / "a.npz", "phonons")


@pytest.mark.parametrize("text", [f"a: {DEEP}", "- " * 100_000 + "1", "a: " + "{b: " * 100_000])
def test_yaml_is_bounded_by_its_parser(text: str, tmp_path: Path) -> None:
    path = tmp_path / "phonopy_disp.yaml"
    path.write_text(text)
    with pytest.raises(ResultFileError, match="cannot be read as YAML.*nesting"):
        read_phonopy(path)
