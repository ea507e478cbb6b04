"""Kernels in unusual places: while the interpreter ends, where nothing compiles, and with damaged models."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase.build import bulk

import mlcalc
from mlcalc import MLCalculator, evaluate, kernels, load_model
from mlcalc.doctor import examine
from mlcalc.errors import NonFiniteResultError, OutOfMemoryError
from mlcalc.graphs.neighbors import DEFAULT_MAX_EDGES, NeighborList
from mlcalc.kernels.threads import run_shares
from mlcalc.md_protocols.errors import ConfigError

ENDING = """
import atexit, threading, time
import torch
from ase.build import bulk
from mlcalc import MLCalculator
from mlcalc.kernels import hvnet

hvnet.EDGES_PER_SHARE = 1
torch.set_num_threads(2)
atoms = bulk("Cu", cubic=True)
atoms.calc = MLCalculator("cu-hvnet")
energy = atoms.get_potential_energy()

def later(name):
    while name == "thread" and threading.main_thread().is_alive():
        time.sleep(0.01)
    atoms.rattle(0.01, seed=1)
    print(name, abs(atoms.get_potential_energy() - energy) < 1)

atexit.register(later, "atexit")
threading.Thread(target=later, args=("thread",)).start()
"""


def test_threads_that_outlive_the_main_one() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(mlcalc.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", ENDING], capture_output=True, text=True, timeout=300, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "Error" not in done.stderr, done.stderr
    assert done.stdout.splitlines() == ["thread True", "atexit True"]


def test_the_first_error_of_a_share_is_raised_when_all_have_ended() -> None:
    ended = []

    def task(share: int) -> None:
        ended.append(share)
        if share == 1:
            raise ValueError("share 1")

    with pytest.raises(ValueError, match="share 1"):
        run_shares(task, 3)
    assert sorted(ended) == [0, 1, 2]


def test_kernels_that_do_not_run_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("no such processor\nmore")

    monkeypatch.setattr(kernels, "_path", broken)
    atoms = bulk("Cu", cubic=True)
    atoms.calc = MLCalculator("cu-hvnet")
    assert atoms.calc.engine.path == "torch autograd"
    assert "do not run here (RuntimeError: no such processor)" in atoms.calc.engine.why
    assert np.isfinite(atoms.get_potential_energy())
    with pytest.raises(ConfigError, match="no such processor"):
        MLCalculator("cu-hvnet", kernels="fused")


def test_a_damaged_model_is_not_the_fault_of_kernels() -> None:
    model = load_model("cu-hvnet")
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))  # type: ignore[attr-defined]
    atoms = bulk("Cu", cubic=True)
    atoms.calc = MLCalculator(model, kernels="fused")
    with pytest.raises(NonFiniteResultError, match="weights"):
        atoms.get_potential_energy()


def test_lists_of_structures() -> None:
    atoms = bulk("Cu", cubic=True)
    together = evaluate("cu-hvnet", (atoms * (k, 1, 1) for k in (1, 2)))
    assert [len(result.forces) for result in together] == [4, 8]  # type: ignore[arg-type]
    assert evaluate("cu-hvnet", []) == []
    for wrong, keywords, text in (
        ([atoms, None], {}, "structure 1 is None"),
        ([atoms, atoms], {"names": ["a"]}, "1 names for 2 structures"),
        ([atoms], {"edges_per_batch": 2.5}, "2.5: it must be a whole number"),
    ):
        with pytest.raises(ConfigError, match=text):
            evaluate("cu-hvnet", wrong, **keywords)  # type: ignore[arg-type]


def test_memory_for_the_neighbor_list(monkeypatch: pytest.MonkeyPatch) -> None:
    atoms = bulk("Cu", cubic=True)
    atoms.calc = MLCalculator("cu-hvnet")
    model = load_model("cu-hvnet")

    def full(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(NeighborList, "edges", full)
    with pytest.raises(OutOfMemoryError, match=r"neighbors of 4 atoms, about 1\.\de\+02 edges"):
        atoms.get_potential_energy()
    with pytest.raises(OutOfMemoryError, match="structure 0: the list of neighbors"):
        evaluate(model, [atoms])


def test_doctor_promises_no_more_than_the_limit_of_edges() -> None:
    found = examine(load_model("cu-hvnet"), [bulk("Cu", cubic=True)], dtype="float32")
    assert found.largest_atoms is not None
    assert found.largest_atoms * found.timings[-1].edges / found.timings[-1].atoms <= DEFAULT_MAX_EDGES
