"""Laws about derivatives: against central differences, across the cutoff, at points of high symmetry."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from ase import Atoms
from checks import ElementPotential, Predict, answer, close, defined, require
from numpy.typing import NDArray
from structures import cluster, contact, crystal, cubic, graph_of, linear, primitive
from torch import Tensor

from mlcalc.models import hessian_vector_product, predict

STEPS = ((-2, 1 / 12), (-1, -2 / 3), (1, 2 / 3), (2, -1 / 12))  # fourth-order central difference: multiples, weights


def central_difference(f: Callable[[float], Tensor], step: float) -> Tensor:
    """df/dx at zero, to fourth order in the step."""
    total = sum(weight * f(multiple * step) for multiple, weight in STEPS)
    assert isinstance(total, Tensor)
    return total / step


def _moved(atoms: Atoms, direction: NDArray[np.float64], length: float) -> Atoms:
    moved = atoms.copy()
    moved.positions += length * direction
    return moved


def check_forces(potential: ElementPotential) -> None:
    """Forces are minus the slope of the energy, for every coordinate, each displaced structure with its own list."""
    for atoms in defined(potential, [cluster(potential.elements, atoms=5), crystal(potential.elements, atoms=4)]):
        units = np.eye(3 * len(atoms)).reshape(-1, len(atoms), 3)

        def energies(length: float, atoms: Atoms = atoms, units: NDArray[np.float64] = units) -> Tensor:
            moved = [_moved(atoms, unit, length) for unit in units]
            return predict(potential, graph_of(moved, potential.cutoff), forces=False).energy

        slope = central_difference(energies, 1e-3).reshape(-1, 3)
        close(answer(potential, atoms).forces, -slope, 1e-7, "forces against central differences of the energy")


def check_stress(potential: ElementPotential, *, predict: Predict = predict) -> None:
    """Stress is dE/d(strain) / volume, also in a sheared left-handed cell; strained structures get their own lists."""
    left_handed = crystal(potential.elements, atoms=3, seed=12)
    left_handed.set_cell(np.array([[0, 1, 0], [1, 0, 0], [0, 1, 1]]) @ np.array(left_handed.cell))
    for atoms in (crystal(potential.elements, atoms=4), left_handed, primitive(potential.elements)):
        strains = np.zeros((6, 3, 3))
        for k, (a, b) in enumerate(((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))):
            strains[k, a, b] += 0.5
            strains[k, b, a] += 0.5

        def energies(size: float, atoms: Atoms = atoms, strains: NDArray[np.float64] = strains) -> Tensor:
            strained = [atoms.copy() for _ in strains]
            for copy, strain in zip(strained, strains, strict=True):
                copy.set_cell(np.array(atoms.cell) @ (np.eye(3) + size * strain), scale_atoms=True)
            return predict(potential, graph_of(strained, potential.cutoff), forces=False).energy

        slope = central_difference(energies, 3e-4) / atoms.get_volume()
        found = predict(potential, graph_of(atoms, potential.cutoff), stress=True).stress
        hand = "left" if np.linalg.det(np.array(atoms.cell)) < 0 else "right"
        close(found[0], slope, 1e-7, f"stress against central differences in a {hand}-handed cell")


def check_hessian_vector_product(potential: ElementPotential) -> None:
    """H v against central differences of the forces, and v.Hw = w.Hv."""
    rng = np.random.default_rng(13)
    for atoms in defined(potential, [cluster(potential.elements), crystal(potential.elements)]):
        v, w = rng.normal(size=(2, len(atoms), 3))
        graph = graph_of(atoms, potential.cutoff)
        Hv, Hw = hessian_vector_product(potential, graph, torch.tensor(np.stack([v, w])))

        def forces(length: float, atoms: Atoms = atoms, v: NDArray[np.float64] = v) -> Tensor:
            found = answer(potential, _moved(atoms, v, length)).forces
            assert found is not None
            return found

        size = float(Hv.abs().max())
        close(Hv / size, -central_difference(forces, 3e-4) / size, 1e-6, "H v against differences of forces, relative")
        left, right = (torch.tensor(v) * Hw).sum(), (torch.tensor(w) * Hv).sum()
        close(left, right, 1e-10 * size * len(atoms), "symmetry of the Hessian")


def check_cutoff(potential: ElementPotential) -> None:
    """Energy, forces and force derivatives of a pair vanish continuously at the cutoff, and not before.

    At a distance of cutoff - gap the pair's effect, the difference between the full edge list and one without it,
    must fall with the gap: energy as gap^3, forces as gap^2, their derivatives as gap, or faster.
    """
    gaps = (0.08, 0.04, 0.02, 0.01)
    for name, bridge in {"a lone pair": _lone_pair, "a pair between two clusters": _bridge}.items():
        effects = [_effect_of_longest_pair(potential, bridge(potential, gap), gap) for gap in gaps]
        for quantity, least in (("energy", 3), ("force", 2), ("force derivative", 1)):
            sizes = [effect[quantity] for effect in effects]
            order = [float(np.log2(far / near)) if near > 1e-14 else np.inf for far, near in pairwise(sizes)][-1]
            text = (
                f"{quantity} of {name} at the cutoff falls as gap^{order:.2f}, not gap^{least}: "
                f"{', '.join(f'{size:.2g}' for size in sizes)} at gaps of {gaps} Å"
            )
            require(order > least - 0.25, sizes[-1], text)
    gap = potential.cutoff / 3
    inside = _effect_of_longest_pair(potential, _lone_pair(potential, gap), gap)["energy"]
    require(inside > 1e-4, inside, f"a pair well inside the cutoff feels {inside:.2g} eV only: nothing was tested")


def check_scan_across_cutoff(potential: ElementPotential) -> None:
    """Along a path on which a pair crosses the cutoff, the slopes of energy and forces are the same on both sides."""
    for name, bridge in {"a lone pair": _lone_pair, "a pair between two clusters": _bridge}.items():
        for quantity in ("energies", "forces"):
            kinks = []
            for h in (1e-2, 1e-4):
                inside, at, outside = (
                    getattr(answer(potential, bridge(potential, gap)), quantity) for gap in (h, 0, -h)
                )
                kinks.append(float((inside - 2 * at + outside).abs().max()) / h)
            limit = 0.05 * kinks[0] + 1e-9
            text = (
                f"the slope of the {quantity} of {name} jumps at the cutoff: "
                f"by {kinks[1]:.3g} over 1e-4 Å and {kinks[0]:.3g} over 1e-2 Å"
            )
            require(kinks[1] < limit, 1e-4 * kinks[1], text)


def _lone_pair(potential: ElementPotential, gap: float) -> Atoms:
    return Atoms([potential.elements[0], potential.elements[-1]], positions=[[0, 0, 0], [potential.cutoff - gap, 0, 0]])


def _bridge(potential: ElementPotential, gap: float) -> Atoms:
    """Two clusters of four, their first atoms facing each other at cutoff - gap; all other pairs across are longer."""
    d = contact(potential.elements)
    left = d * np.array([[0, 0, 0], [-0.85, 0.5, 0.1], [-0.9, -0.4, 0.6], [-0.8, -0.2, -0.7]])
    right = d * np.array([[0, 0, 0], [0.95, 0.45, -0.2], [0.9, -0.6, 0.3], [0.85, 0.1, 0.75]])
    symbols = [potential.elements[k % len(potential.elements)] for k in range(4)]
    return Atoms(symbols * 2, positions=np.concatenate([left, right + [potential.cutoff - gap, 0, 0]]))


def _effect_of_longest_pair(potential: ElementPotential, atoms: Atoms, gap: float) -> dict[str, float]:
    """What the pair at cutoff - gap changes; a list cut a little below that distance lacks this pair only."""
    direction = torch.linspace(-1, 1, 3 * len(atoms), dtype=torch.float64).reshape(-1, 3)
    graphs = [graph_of(atoms, reach) for reach in (potential.cutoff, potential.cutoff - 1.1 * gap)]
    lost = [len(graph.edges[0]) for graph in graphs]
    assert lost[0] - lost[1] == 2, f"the shorter list lacks {lost[0] - lost[1]} edges, not 2: mend the structure"
    (full, H), (without, H_without) = [
        (predict(potential, graph), hessian_vector_product(potential, graph, direction)) for graph in graphs
    ]
    changes = {
        "energy": full.energies - without.energies,
        "force": full.forces - without.forces,
        "force derivative": H - H_without,
    }
    return {quantity: float(change.abs().max()) for quantity, change in changes.items()}


def check_symmetric_points(potential: ElementPotential) -> None:
    """Through an inversion center, or a straight angle, forces are differentiable: their slope has a limit."""
    directions = {"through an inversion center": (cubic, [0.48, 0.6, 0.64]), "along a cube edge": (cubic, [1, 0, 0])}
    directions["bending a straight molecule"] = (linear, [2**-0.5, 2**0.5 / 2, 0])
    for what, (structure, direction) in directions.items():
        atoms = structure(potential.elements)
        if not defined(potential, [atoms]):
            continue
        unit = np.zeros((len(atoms), 3))
        unit[1 if structure is linear else 0] = direction
        start = answer(potential, atoms).forces
        H = hessian_vector_product(potential, graph_of(atoms, potential.cutoff), torch.tensor(unit))
        size = 1 + float(H.abs().max())
        # the slope differs from its limit by O(h^2), down to round-off; a kink would leave O(1) at any h
        for h, tolerance in ((1e-2, 0.1), (1e-3, 1e-3), (1e-4, 1e-4), (1e-6, 1e-4)):
            ahead, behind = (answer(potential, _moved(atoms, unit, s * h)).forces for s in (1, -1))
            close(-(ahead - behind) / (2 * h) / size, H / size, tolerance, f"slope of forces {what} over {h} Å")
            jump = (ahead - 2 * start + behind) / h / size
            close(jump, torch.zeros_like(jump), 20 * h + 1e-6, f"kink of forces {what} over {h} Å")
