"""Laws that every potential obeys: invariances, additivity, bookkeeping.

`check_...(potential)` raises AssertionError naming the law, the size of the violation and the limit.  A potential
here has `.elements` beside `.cutoff`.  Tolerances hold for float64 and forces of about 1 eV/Å.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Protocol

import numpy as np
import torch
from ase import Atoms
from structures import SKEWED, cluster, contact, crowd, crystal, graph_of, primitive, samples, slab
from torch import Tensor

from mlcalc.models import Graph, Prediction, predict

ENERGY = 1e-11  # eV per atom; the scorecard of the project asks for 1e-9
FORCE = 1e-10  # eV/Å; the scorecard asks for 1e-8
STRESS = 1e-10  # eV/Å^3


class ElementPotential(Protocol):
    """A potential that says which elements it is for."""

    cutoff: float
    elements: tuple[str, ...]

    def __call__(self, graph: Graph, /) -> Tensor: ...


Predict = Callable[..., Prediction]


class LawBrokenError(AssertionError):
    """A broken law, and by how much."""

    def __init__(self, text: str, size: float) -> None:
        super().__init__(text)
        self.size = size


def require(obeyed: bool, size: float, text: str) -> None:
    """Raise a LawBrokenError of this size unless the law is obeyed."""
    if not obeyed:
        raise LawBrokenError(text, size)


def close(found: Tensor, expected: Tensor, tolerance: float, what: str) -> None:
    """Raise where two tensors differ by more than the tolerance, or are not finite."""
    assert found.shape == expected.shape, f"{what}: shapes {tuple(found.shape)} and {tuple(expected.shape)}"
    error = float((found - expected).abs().max()) if found.numel() else 0.0
    require(error <= tolerance, error, f"{what}: off by {error:.3g}, allowed {tolerance:.3g}")  # a NaN compares false


def defined(potential: ElementPotential, structures: Sequence[Atoms]) -> list[Atoms]:
    """Those of the structures that the potential is defined for: not all know periodic cells."""
    return [atoms for atoms in structures if getattr(potential, "periodic", True) or not atoms.pbc.any()]


def answer(potential: ElementPotential, structures: Atoms | Sequence[Atoms]) -> Prediction:
    """Energies and forces, and stress where every structure is periodic."""
    several = [structures] if isinstance(structures, Atoms) else structures
    periodic = all(bool(atoms.pbc.all()) for atoms in several)
    return predict(potential, graph_of(structures, potential.cutoff), stress=periodic)


def _same(found: Prediction, expected: Prediction, what: str, *, atoms: Sequence[int] | slice = slice(None)) -> None:
    close(found.energies, expected.energies[atoms], ENERGY, f"{what}, energies")
    close(found.forces, expected.forces[atoms], FORCE, f"{what}, forces")
    if found.stress is not None and expected.stress is not None:
        close(found.stress, expected.stress, STRESS, f"{what}, stress")


def check_translation(potential: ElementPotential) -> None:
    for atoms in defined(potential, samples(potential.elements)):
        moved = atoms.copy()
        moved.translate([0.3, -7.1, 12.9])
        _same(answer(potential, moved), answer(potential, atoms), "translation")


def check_rotation(potential: ElementPotential) -> None:
    """Rotations and rotations with reflection: energies stay, forces and stress turn along."""
    rng = np.random.default_rng(3)
    for atoms in defined(potential, samples(potential.elements)):
        before = answer(potential, atoms)
        for sign in (1, -1):
            R = np.linalg.qr(rng.normal(size=(3, 3)))[0]
            R *= sign * np.linalg.det(R)
            turned = atoms.copy()
            turned.set_cell(np.array(atoms.cell) @ R.T)
            turned.positions = atoms.positions @ R.T
            what = "rotation" if sign > 0 else "rotation with reflection"
            after, turn = answer(potential, turned), torch.tensor(R)
            close(after.energies, before.energies, ENERGY, f"{what}, energies")
            close(after.forces, before.forces @ turn.T, FORCE, f"{what}, forces")
            if before.stress is not None and after.stress is not None:
                close(_matrix(after.stress), turn @ _matrix(before.stress) @ turn.T, STRESS, f"{what}, stress")


def _matrix(stress: Tensor) -> Tensor:
    return stress[0, [0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(3, 3)


def check_permutation(potential: ElementPotential) -> None:
    rng = np.random.default_rng(4)
    structures = [*samples(potential.elements), crowd(potential.elements, potential.cutoff)]
    for atoms in defined(potential, structures):
        order = rng.permutation(len(atoms))
        _same(answer(potential, atoms[order]), answer(potential, atoms), "permutation", atoms=order.tolist())


def check_periodic_images(potential: ElementPotential) -> None:
    """Atoms moved to other cells, and other vectors of the same lattice, left-handed ones included."""
    rng = np.random.default_rng(5)
    for atoms in samples(potential.elements)[1:]:
        before = answer(potential, atoms)
        moved = atoms.copy()
        moved.positions += rng.integers(-3, 4, size=(len(atoms), 3)) @ np.array(atoms.cell)
        _same(answer(potential, moved), before, "atoms moved by whole cell vectors")
        for vectors in ([[1, 1, 0], [0, 1, -2], [0, 0, 1]], [[0, 1, 0], [1, 0, 0], [1, 0, 1]]):
            other = atoms.copy()
            other.set_cell(np.array(vectors) @ np.array(atoms.cell))
            _same(answer(potential, other), before, "other vectors of the same lattice")


def check_vacuum(potential: ElementPotential) -> None:
    """A molecule without a cell, or a layer without a third vector, is as in a periodic cell with much vacuum."""
    for atoms in defined(potential, [cluster(potential.elements), slab(potential.elements)]):
        boxed = atoms.copy()
        cell = np.array(atoms.cell)
        cell[~atoms.pbc] = 40 * SKEWED[~atoms.pbc]
        boxed.set_cell(cell)
        boxed.pbc = True
        _same(answer(potential, boxed), answer(potential, atoms), "periodic with vacuum against open")


def check_batch(potential: ElementPotential) -> None:
    """Each structure of a batch is as if alone, whatever the others are, in any order."""
    some = potential.elements[:1]
    members = [
        cluster(some, atoms=3, seed=6),
        Atoms(some),  # a single atom
        crystal(potential.elements, seed=7),
        Atoms(some * 2, positions=[[0, 0, 0], [20, 0, 0]]),  # no edges
        primitive(potential.elements),
        cluster(potential.elements, atoms=9, seed=8),
    ]
    members = defined(potential, members)
    for structures in (members, members[::-1], members[1:2] * 2):
        together, start = answer(potential, structures), 0
        for k, atoms in enumerate(structures):
            alone, own = answer(potential, atoms), slice(start, start + len(atoms))
            what = f"member {k} ({atoms.symbols}) of a batch against alone"
            close(together.energies[own], alone.energies, ENERGY, f"{what}, energies")
            close(together.energy[k : k + 1], alone.energy, ENERGY * len(atoms), f"{what}, energy")
            close(together.forces[own], alone.forces, FORCE, f"{what}, forces")
            start += len(atoms)
    if cells := [atoms for atoms in members if atoms.pbc.all()]:
        stresses = torch.cat([answer(potential, atoms).stress for atoms in cells])
        close(answer(potential, cells).stress, stresses, STRESS, "stress in a batch against alone")


def check_extensivity(potential: ElementPotential) -> None:
    """A supercell is n cells: same energies per atom, same forces, same stress, n times the energy."""
    for atoms in (crystal(potential.elements, atoms=3), primitive(potential.elements)):
        cell = answer(potential, atoms)
        for times in ((2, 1, 1), (2, 2, 2), (1, 2, 3)):
            n, supercell = int(np.prod(times)), answer(potential, atoms.repeat(times))
            what = f"supercell {times} of {len(atoms)} atoms"
            close(supercell.energy, n * cell.energy, ENERGY * n * len(atoms), f"{what}, energy")
            close(supercell.energies, cell.energies.repeat(n), ENERGY, f"{what}, energies")
            close(supercell.forces, cell.forces.repeat(n, 1), FORCE, f"{what}, forces")
            close(supercell.stress, cell.stress, STRESS, f"{what}, stress")


def check_far_clusters_add(potential: ElementPotential) -> None:
    first, second = cluster(potential.elements, seed=9), cluster(potential.elements, atoms=4, seed=10)
    apart = second.copy()
    apart.translate([first.positions[:, 0].max() - second.positions[:, 0].min() + potential.cutoff + 1e-3, 0, 0])
    parts, both = [answer(potential, atoms) for atoms in (first, second)], answer(potential, first + apart)
    total = parts[0].energy + parts[1].energy
    close(both.energy, total, ENERGY * len(first + second), "two clusters beyond the cutoff, energy")
    for name in ("energies", "forces"):
        expected = torch.cat([getattr(part, name) for part in parts])
        close(getattr(both, name), expected, FORCE, f"two clusters beyond the cutoff, {name}")


def check_cross_gradients(potential: ElementPotential) -> None:
    """The energy of one structure of a batch does not depend on the positions or cells of the others, exactly."""
    some = potential.elements
    structures = defined(potential, [primitive(some), cluster(some), crystal(some), cluster(some[:1], atoms=4)])
    graph = graph_of(structures, potential.cutoff)
    leaves = [graph.positions.requires_grad_(), graph.cell.requires_grad_()]
    energy = graph.sum_by_structure(potential(graph))
    for k in range(len(structures)):
        positions, cell = torch.autograd.grad(energy[k], leaves, retain_graph=True, materialize_grads=True)
        others = [positions[graph.batch != k], cell[torch.arange(len(structures)) != k]]
        for found, name in zip(others, ("positions", "cells"), strict=True):
            close(found, torch.zeros_like(found), 0.0, f"gradient of one structure in the {name} of another")


def check_net_force_and_torque(potential: ElementPotential) -> None:
    for atoms in defined(potential, samples(potential.elements)):
        forces = answer(potential, atoms).forces
        close(forces.sum(0), torch.zeros(3).double(), FORCE, "net force")
        if not atoms.pbc.any():
            torque = torch.linalg.cross(torch.tensor(atoms.positions), forces).sum(0)
            close(torque, torch.zeros(3).double(), 10 * FORCE, "net torque")


def check_many_neighbors(potential: ElementPotential) -> None:
    """Every one of 40 neighbors counts: without the edge to it the energy of the atom in the middle is another."""
    graph = graph_of(crowd(potential.elements, potential.cutoff), potential.cutoff)
    whole = predict(potential, graph, forces=False).energies[0]
    for k in range(1, 41):
        kept = (graph.edges != torch.tensor([[0], [k]])).any(0)
        less = replace(graph, edges=graph.edges[:, kept], shifts=graph.shifts[kept])
        change = float((predict(potential, less, forces=False).energies[0] - whole).abs())
        text = f"neighbor {k} of 40 changes the energy of the atom in the middle by {change:.3g} eV only"
        require(change > 1e-7, change, text)


def check_energy_is_sum(potential: ElementPotential, *, predict: Predict = predict) -> None:
    """Everything is float64, and the energy is the sum of the atomic energies."""
    structures = [crystal(potential.elements), primitive(potential.elements).repeat((4, 4, 4))]
    graph = graph_of(structures, potential.cutoff)
    found = predict(potential, graph, stress=True)
    for name in ("energy", "energies", "forces", "stress"):
        assert getattr(found, name).dtype is torch.float64, f"{name} is {getattr(found, name).dtype}, not float64"
    sums = torch.stack([found.energies[graph.batch == k].sum() for k in range(len(structures))])
    close(found.energy / sums, torch.ones_like(sums), 1e-14, "energy against the sum of energies, relative")


def check_energy_shift(potential: ElementPotential, shifted: ElementPotential, difference: Sequence[float]) -> None:
    """With other energy shifts, energies move by the difference per element and forces not at all."""
    of = dict(zip(potential.elements, difference, strict=True))
    for atoms in defined(potential, [*samples(potential.elements), Atoms(potential.elements[-1:])]):
        plain, other = answer(potential, atoms), answer(shifted, atoms)
        moved = torch.tensor([of[symbol] for symbol in atoms.symbols], dtype=torch.float64)
        close(other.energies - plain.energies, moved, 1e-12 * max(map(abs, difference)), "per-element energy shift")
        close(other.forces, plain.forces, 0.0, "forces under an energy shift")


def check_elements_matter(potential: ElementPotential) -> None:
    """Another element in the same place gives other energies of its neighbors; nothing to check with one element."""
    if len(potential.elements) > 1:
        atoms = cluster(potential.elements)
        swapped = atoms.copy()
        swapped.symbols[0], swapped.symbols[1] = atoms.symbols[1], atoms.symbols[0]
        change = float((answer(potential, swapped).energies[2:] - answer(potential, atoms).energies[2:]).abs().max())
        text = f"swapping two elements changes the energies of their neighbors by {change:.3g} eV only"
        require(change > 1e-4, change, text)


def check_float32(potential: ElementPotential, single: ElementPotential) -> None:
    """The same potential in float32 is near: 1e-4 eV/Å and 1e-5 eV per atom, however large the energy shifts."""
    for atoms in defined(potential, [*samples(potential.elements), crystal(potential.elements, atoms=25)]):
        double, found = answer(potential, atoms), answer(single, atoms)
        close(found.energies, double.energies, 1e-5, "float32 against float64, energies")
        close(found.forces, double.forces, 1e-4, "float32 against float64, forces")
        atoms.translate([3000, -1000, 2000])
        close(answer(single, atoms).forces, double.forces, 1e-4, "float32 far from the origin against float64, forces")


def check_repeatable(potential: ElementPotential) -> None:
    """Asked twice, the same bits; the graph and torch's global settings are left alone."""
    graph = graph_of(defined(potential, samples(potential.elements)), potential.cutoff)
    copies = {field.name: getattr(graph, field.name).clone() for field in fields(graph)}
    settings = torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads(), torch.get_rng_state()
    first, second = predict(potential, graph), predict(potential, graph)
    for name, copy in copies.items():
        assert torch.equal(getattr(graph, name), copy), f"the prediction changed graph.{name}"
    close(second.energies, first.energies, 0.0, "asked twice, energies")
    close(second.forces, first.forces, 0.0, "asked twice, forces")
    after = torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads(), torch.get_rng_state()
    assert settings[:3] == after[:3], f"torch's global settings changed from {settings[:3]} to {after[:3]}"
    assert torch.equal(settings[3], after[3]), "torch's global random state changed"


def check_few_neighbors(potential: ElementPotential) -> None:
    """Isolated atoms are finite and without force; pairs feel equal forces along any direction."""
    for element in potential.elements:
        for atoms in (Atoms([element]), Atoms([element], cell=[30, 31, 32], pbc=True)):
            lone = answer(potential, atoms)
            assert bool(torch.isfinite(lone.energies).all()), f"energy of an isolated {element} is {lone.energies}"
            close(lone.forces, torch.zeros(1, 3).double(), 0.0, f"force on an isolated {element}")
            if lone.stress is not None:
                close(lone.stress, torch.zeros(1, 6).double(), 0.0, f"stress of an isolated {element}")
    pair = [potential.elements[0], potential.elements[-1]]
    arms = contact(pair, 1.1) * np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, -1], [-0.6, 0, 0.8]])
    pairs = [answer(potential, Atoms(pair, positions=[[0, 0, 0], arm])) for arm in arms]
    for found, arm in zip(pairs, torch.tensor(arms), strict=True):
        along = arm / arm.norm()
        close(found.energies, pairs[0].energies, ENERGY, "energies of a pair in another direction")
        close(found.forces[0], (pairs[0].forces[0, 0]) * along, FORCE, "force of a pair in another direction")
        close(found.forces[1], -found.forces[0], FORCE, "forces of a pair against each other")
