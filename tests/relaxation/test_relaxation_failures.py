"""Relaxations in which something fails: what the others came to is kept, and the error says which structure it was."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import read, write
from click.testing import CliRunner
from defect_crystals import InBatches, copper

from mlcalc.cli.verbs.relax import relax_command
from mlcalc.md_protocols.elasticity.constants import elastic_constants
from mlcalc.md_protocols.errors import EvaluationError, PhysicsWarning
from mlcalc.md_protocols.evaluator import Evaluator
from mlcalc.md_protocols.relaxation.relax import relax, relax_many


class Failing(EMT):
    """EMT that fails for structures of so many atoms, from the call on."""

    def __init__(self, atoms: int, after: int, error: type[BaseException] = RuntimeError) -> None:
        super().__init__()
        self.size, self.after, self.error, self.calls = atoms, after, error, 0

    def calculate(self, atoms: Any = None, *arguments: Any, **keywords: Any) -> None:
        if len(atoms) == self.size:
            self.calls += 1
            if self.calls > self.after:
                raise self.error("SCF did not converge")
        super().calculate(atoms, *arguments, **keywords)


def three(calculator: Any) -> list[Atoms]:
    """Structures of 4, 3 and 2 atoms."""
    found = []
    for k in range(3):
        atoms = bulk("Cu", a=3.6, cubic=True)
        atoms.rattle(0.05, seed=k)
        del atoms[4 - k :]
        atoms.calc = calculator
        found.append(atoms)
    return found


@pytest.mark.parametrize("batched", [False, True])
def test_one_that_fails_does_not_lose_the_others(batched: bool) -> None:
    failing = Failing(3, 3)
    calculator = InBatches(failing) if batched else failing
    settings: dict[str, Any] = {"fmax": 0.01, "optimizer": "lbfgs", "names": ["a", "b", "c"]}
    with pytest.raises(EvaluationError, match=r"b, step \d of its relaxation: SCF did not .*1 of 3 .*failed") as caught:
        relax_many(three(calculator), **settings)
    whole = relax_many(three(EMT()), **settings)
    a, b, c = caught.value.results
    assert (a.converged, b.converged, c.converged) == (True, False, True)
    for k, one in ((0, a), (2, c)):
        np.testing.assert_allclose(one.atoms.positions, whole[k].atoms.positions, atol=1e-9)
    assert b.energy == pytest.approx(min(b.energies))


def test_a_start_that_fails_is_named_at_once() -> None:
    with pytest.raises(EvaluationError, match=r"^b: SCF did not converge \(RuntimeError of the calculator\)") as caught:
        relax_many(three(Failing(3, 0)), names=["a", "b", "c"])
    assert isinstance(caught.value.__cause__, RuntimeError)
    with pytest.raises(EvaluationError, match=r"^b: SCF did not"):
        Evaluator(InBatches(Failing(3, 0)))(three(None), names=["a", "b", "c"])


def test_strained_cells_are_named() -> None:
    atoms = copper()
    atoms.calc = Failing(4, 8)
    with pytest.raises(EvaluationError, match=r"strain .*: SCF did not converge"):
        elastic_constants(atoms)


def test_when_stopped_the_best_structures_are_handed_over() -> None:
    kept: list[Any] = []
    with pytest.raises(KeyboardInterrupt):
        relax_many(three(Failing(3, 4, KeyboardInterrupt)), fmax=1e-6, when_stopped=kept.extend)
    assert [len(one.atoms) for one in kept] == [4, 3, 2]
    assert not kept[1].converged
    assert kept[1].steps == 4
    kept.clear()
    with pytest.raises(KeyboardInterrupt):
        relax_many(three(Failing(4, 0, KeyboardInterrupt)), when_stopped=kept.extend)
    assert kept == [None] * 3


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_the_command_writes_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    write(tmp_path / "frames.extxyz", three(None))
    calls: list[int] = []
    from mlcalc import MLCalculator

    evaluate = MLCalculator.evaluate

    def failing(self: Any, structures: list[Atoms], **settings: Any) -> Any:
        calls.append(len(structures))
        if len(calls) > 4 and any(len(atoms) == 3 for atoms in structures):
            raise error("no more")
        return evaluate(self, structures, **settings)

    monkeypatch.setattr(MLCalculator, "evaluate", failing)
    words = ["frames.extxyz", "--index", ":", "--model", "cu-hvnet", "--output", "out", "--optimizer", "lbfgs"]
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(relax_command, words)
    assert done.exit_code != 0
    assert "the best structures met" in done.stderr
    frames = read(tmp_path / "out" / "relaxed.extxyz", ":")
    assert [len(frame) for frame in frames] == [4, 3, 2]
    assert not frames[1].info["converged"]
    assert frames[0].get_potential_energy() < -3.0
    again = CliRunner().invoke(relax_command, words)
    assert again.exit_code == 2
    assert "holds results of an earlier run (relaxed.extxyz)" in again.stderr


@pytest.mark.parametrize(
    ("pressure", "text"), [(-60.0, r"grew to 64 times its volume"), (5000.0, r"shrank below a tenth of its atoms'")]
)
def test_a_cell_that_runs_away_is_stopped(pressure: float, text: str) -> None:
    atoms = bulk("Cu", a=3.6)
    atoms.calc = EMT()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = relax(atoms, cell="isotropic", pressure_GPa=pressure)
    (one,) = [w for w in caught if w.category is not DeprecationWarning]
    assert issubclass(one.category, PhysicsWarning)
    assert text in str(one.message)
    assert "no minimum at this pressure" in str(one.message)
    assert not found.converged
    assert found.steps < 200
