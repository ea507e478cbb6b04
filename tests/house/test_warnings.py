"""Warnings point to the line of the user's own code, from any depth, and know what they say as data."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from mlcalc.errors import MLCalcWarning, PhysicsWarning, Use
from mlcalc.ground.warn import warn

SCRIPT = '''
import functools, sys, warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace

import torch
from ase.build import bulk
from ase.optimize import BFGS

import mlcalc
from mlcalc.md_protocols import relax, run_nve


class Springs:
    """Pairs that are at rest at 2.5 Å, of a network that counts nearest images only and whose energy jumps."""

    cutoff, config, energy_jumps = 4.0, SimpleNamespace(legacy_mic=True), True

    def __call__(self, graph):
        lengths = torch.linalg.vector_norm(graph.edge_vectors(), dim=1)
        return torch.zeros(len(graph.numbers), dtype=torch.float64).index_add(0, graph.edges[0], (lengths - 2.5) ** 2)


def copper():
    atoms = bulk("Cu", cubic=True)
    atoms.calc = mlcalc.MLCalculator(Springs())
    return atoms


def plain(atoms):
    atoms.get_forces()  # plain


def outer(atoms):
    middle(lambda: inner(atoms))


def middle(call):
    call()


def inner(atoms):
    return [energy for energy in (atoms.get_potential_energy(), 0.0)]  # deep


def optimizer(atoms):
    BFGS(atoms, logfile=None).run(steps=1)  # optimizer


def protocol(atoms):
    relax(atoms, fmax=10.0)  # protocol


def batches(atoms):
    mlcalc.evaluate(Springs(), [atoms])  # batches


def threads(atoms):
    with ThreadPoolExecutor(1) as pool:
        pool.submit(in_a_thread, atoms).result()


def in_a_thread(atoms):
    atoms.get_forces()  # threads


def library(atoms):
    with ThreadPoolExecutor(1) as pool:  # no line of ours is in that thread: the outermost one is told
        pool.submit(atoms.get_forces).result()


@contextmanager
def around(atoms):
    atoms.get_forces()  # manager
    yield


def manager(atoms):
    with around(atoms):
        pass


def partial(atoms):
    functools.partial(functools.lru_cache(atoms.get_forces))()  # partial


def dynamics(atoms):
    run_nve(atoms, timestep_fs=1.0, steps=1, temperature_K=10, progress=False)  # dynamics


for case in (plain, outer, optimizer, protocol, batches, threads, library, manager, partial, dynamics):
    atoms = copper()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        case(atoms)
    for warning in caught:
        if "shape on a NumPy array" in str(warning.message):  # NumPy of what ASE does
            continue
        print(case.__name__, warning.category.__name__, warning.filename, warning.lineno)
'''
MARKS = {"outer": "deep"}  # where the mark has another name than the case


def test_a_script_is_told_its_own_line(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    told: dict[str, set[tuple[str, int]]] = {}
    for line in done.stdout.splitlines():
        case, category, file, number = line.split()
        assert category == "PhysicsWarning"
        told.setdefault(case, set()).add((file, int(number)))
    lines = SCRIPT.splitlines()
    for case, places in told.items():
        if case == "library":
            assert all("threading" in file for file, _ in places)
            continue
        mark = f"# {MARKS.get(case, case)}"
        expected = next(k for k, line in enumerate(lines, 1) if line.endswith(mark))
        assert places == {(str(script), expected)}, case
    assert len(told) == 10


def test_warnings_told_by_libraries_that_call_us_would_point_into_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin of the script that skips our own frames only."""
    from ase.calculators.calculator import Calculator

    class Warning_(Calculator):  # noqa: N801
        implemented_properties = ["energy"]  # noqa: RUF012

        def get_property(self, *arguments, **more):
            warn(PhysicsWarning("so it is"))
            return 0.0

    # these tests' own class stands for one of ours
    monkeypatch.setitem(Warning_.get_property.__globals__, "__name__", "mlcalc.pretended")
    call = "calculator.get_potential_energy()"
    for between, inside in (({"mlcalc", "ase"}, False), ({"mlcalc"}, True)):
        monkeypatch.setattr("mlcalc.ground.warn._BETWEEN", between)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            exec(compile(call, "user.py", "exec"), {"calculator": Warning_(), "__name__": "user"})  # noqa: S102
        assert ("ase" in Path(caught[0].filename).parts) is inside
        assert (caught[0].filename == "user.py") is not inside


def test_a_warning_is_filtered_by_its_class_and_knows_its_remedies() -> None:
    given = PhysicsWarning("12 of 3 are wrong", setting="count", value=12, limit=3, remedies=[Use("count", 3)])
    with pytest.warns(MLCalcWarning, match=r"^12 of 3 are wrong: pass count=3$") as caught:
        warn(given)
    assert caught[0].message is given
    with warnings.catch_warnings():
        warnings.simplefilter("error", MLCalcWarning)
        with pytest.raises(PhysicsWarning) as raised:
            warn(given)
    assert (raised.value.value, raised.value.limit) == (12, 3)
    with warnings.catch_warnings(record=True) as silent:
        warnings.simplefilter("ignore", MLCalcWarning)
        warn(given)
    assert silent == []
