"""The analytic Hessian against differences of forces, closed forms and its own symmetries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.constraints import FixAtoms, FixBondLengths
from potentials import ManyBody, Morse
from torch import Tensor

import mlcalc.hessians
from mlcalc import MLCalculator, hessian
from mlcalc.errors import OutOfMemoryError, UnavailablePropertyError
from mlcalc.md_protocols.errors import ConfigError
from mlcalc.models import Graph

Cells = dict[str, tuple[Any, Atoms]]


def rattled(atoms: Atoms, size: float = 0.05) -> Atoms:
    atoms.rattle(size, seed=2)
    return atoms


def cases() -> Cells:
    copper = rattled(bulk("Cu", cubic=True, a=3.63))
    return {
        "cu-hvnet": ("cu-hvnet", copper),  # cell smaller than the cutoff: images of an atom act on itself
        "ethanol-visnet": ("ethanol-visnet", rattled(molecule("CH3CH2OH"))),
        "many-body": (ManyBody(), rattled(bulk("Cu", a=3.63) * (2, 2, 2))),
    }


def differences(calculator: MLCalculator, atoms: Atoms, rows: list[int], step: float = 1e-4) -> Any:
    """Minus the central differences of the forces, to fourth order; row i from displacements of atom i."""
    found = np.zeros((len(rows), 3, len(atoms), 3))
    for k, i in enumerate(rows):
        for axis in range(3):
            for shift, weight in ((1, -8), (-1, 8), (2, 1), (-2, -1)):
                moved = atoms.copy()
                moved.positions[i, axis] += shift * step
                found[k, axis] += weight * calculator.evaluate([moved])[0].forces / (12 * step)
    return found


@pytest.mark.parametrize("name", list(cases()))
def test_equal_to_differences_of_forces_symmetric_and_translation_invariant(name: str) -> None:
    model, atoms = cases()[name]
    calculator = MLCalculator(model, kernels="torch")
    found = calculator.hessian(atoms)
    rows = [0, len(atoms) - 1]
    scale = np.abs(found).max()
    expected = differences(calculator, atoms, rows)
    np.testing.assert_allclose(found[rows], expected, rtol=0, atol=1e-7 * scale)
    matrix = found.reshape(3 * len(atoms), -1)
    np.testing.assert_allclose(matrix, matrix.T, rtol=0, atol=1e-9)
    assert np.abs(found.sum(axis=2)).max() < 1e-9
    assert np.abs(found.sum(axis=0)).max() < 1e-9
    assert (
        np.abs(differences(calculator, atoms, [0], step=0.05) - found[:1]).max() > 1e-5 * scale
    )  # a wrong step is seen


def test_closed_form_of_a_morse_dimer() -> None:
    """Along the bond V'', across it V'/r, with V = epsilon e (e - 2), e = exp(rho0 (1 - r/r0)), below the cutoff."""
    morse = Morse()
    r = 2.8
    atoms = Atoms("Cu2", positions=[[0, 0, 0], [r, 0, 0]])
    a, e = morse.rho0 / morse.r0, np.exp(morse.rho0 * (1 - r / morse.r0))
    first, second = -2 * a * morse.epsilon * e * (e - 1), 2 * a * a * morse.epsilon * e * (2 * e - 1)
    block = np.diag([second, first / r, first / r])
    found = hessian(morse, atoms)
    np.testing.assert_allclose(found[0, :, 0], block, atol=1e-12)
    np.testing.assert_allclose(found[0, :, 1], -block, atol=1e-12)
    assert not np.allclose(found[0, :, 0], np.diag([second, second, second]), atol=1e-3)


def test_rows_copies_and_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, atoms = cases()["cu-hvnet"]
    whole = hessian(model, atoms)
    np.testing.assert_allclose(hessian(model, atoms, indices=[3, 0]), whole[[3, 0]], atol=1e-12)
    for chunk in (3, 5):  # one that divides the 12 rows, and one that does not
        np.testing.assert_allclose(hessian(model, atoms, chunk=chunk), whole, atol=1e-10)
    monkeypatch.setattr(mlcalc.hessians, "_CALL", 2)
    np.testing.assert_allclose(hessian(model, atoms, chunk=3), whole, atol=1e-10)


def test_a_structure_that_does_not_fit_is_computed_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True, eq=False)
    class Local(ManyBody):
        receptive_layers: int = 2

    chain = Atoms("Cu40", positions=[[2.6 * k, 0.3 * (k % 3), 0.2 * (k % 2)] for k in range(40)])
    whole = hessian(Local(), chain, indices=[0, 17])
    monkeypatch.setattr(mlcalc.hessians.TorchPath, "memory", lambda self, atoms, edges: atoms * 1000)
    monkeypatch.setattr(mlcalc.hessians.Engine, "available_memory", lambda self: 50_000)
    for chunk in (1, 4):
        np.testing.assert_allclose(hessian(Local(), chain, indices=[0, 17], chunk=chunk), whole, atol=1e-12)
    with pytest.raises(OutOfMemoryError, match=r"40 atoms with .* edges need about .* GiB.*take a smaller"):
        hessian(ManyBody(), chain)  # does not say how far it reaches


def test_fixed_atoms_are_left_out_where_asked() -> None:
    model, atoms = cases()["many-body"]
    free = hessian(model, atoms)
    atoms.set_constraint(FixAtoms([1, 4]))
    np.testing.assert_array_equal(hessian(model, atoms), free)
    held = hessian(model, atoms, constraints=True)
    expected = free.copy()
    expected[[1, 4]] = 0
    expected[:, :, [1, 4]] = 0
    np.testing.assert_allclose(held, expected, atol=1e-12)
    atoms.set_constraint(FixBondLengths([(0, 1)]))
    with pytest.raises(ConfigError, match=r"FixBondLengths is not supported in a Hessian"):
        hessian(model, atoms, constraints=True)


def test_single_precision_is_near() -> None:
    model, atoms = cases()["cu-hvnet"]
    exact = hessian(model, atoms, indices=[0])
    rough = hessian(model, atoms, indices=[0], dtype="float32")
    assert 0 < np.abs(rough - exact).max() < 1e-3 * np.abs(exact).max()


class Cut(Morse):
    """Part of the energy has no derivatives but the first: forces are right, the Hessian would not be."""

    def __call__(self, graph: Graph) -> Tensor:
        return super().__call__(graph) + FirstOnly.apply(graph.positions)


class FirstOnly(torch.autograd.Function):
    """sum x^4 with a backward that is not differentiated."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x)
        return (x**4).sum(dim=1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        with torch.no_grad():
            return grad[:, None].detach() * 4 * x.detach() ** 3


class Refusing(torch.autograd.Function):
    """The identity, without a derivative, as torch's own operations say it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # type: ignore[override]
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        raise NotImplementedError("derivative for aten::some_backward is not implemented")


class Once(FirstOnly):
    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        first: Tensor = Refusing.apply(grad[:, None] * 4 * x**3)
        return first


class CutLoudly(Morse):
    def __call__(self, graph: Graph) -> Tensor:
        return super().__call__(graph) + Once.apply(graph.positions)


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (Cut(), r"Cut has no usable second derivatives: .* differs by .*take differences of forces"),
        (CutLoudly(), r"CutLoudly has no second derivatives: autograd says .*take differences of forces"),
    ],
)
def test_potentials_without_second_derivatives_are_refused(model: Any, text: str) -> None:
    atoms = rattled(bulk("Cu", a=3.6) * (2, 2, 2))
    with pytest.raises(UnavailablePropertyError, match=text):
        hessian(model, atoms)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"indices": [0, 4]}, r"indices of 4 atoms go from 0 to 3"),
        ({"indices": [-1]}, r"go from 0 to 3"),
        ({"indices": []}, r"at least one index"),
        ({"indices": [0.5]}, r"list of at least one index"),
        ({"chunk": 0}, r"chunk is 0: .*at least 1"),
        ({"dtype": "float16"}, r"float16"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        hessian(Morse(), bulk("Cu", cubic=True, a=3.6), **settings)
