"""One large structure piece by piece, for potentials whose atomic energies depend on nothing beyond some neighbors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mlcalc.models import Graph, Potential, Prediction, predict

__all__ = [
    "CentralEnergies",
    "Memory",
    "Piece",
    "evaluate_pieces",
    "piece_around",
    "receptive_layers",
    "split_graph",
]

_MOST = 256  # pieces; more would take hours, each being mostly rim
Memory = Callable[[int, int], int]  # bytes for so many atoms and edges


@dataclass(frozen=True, eq=False)
class Piece:
    """Some atoms with all atoms and edges on which their energies depend."""

    graph: Graph
    atoms: Tensor  # (n,) int64, where the graph's atoms stand in the whole
    central: Tensor  # (n,) bool, those whose energies count


def receptive_layers(potential: Potential) -> int | str:
    """Through how many layers of neighbors atoms act on an atomic energy, or why that is not known.

    A Potential says it by an attribute `receptive_layers`, as `Network` has it.
    """
    name = type(potential).__name__
    if getattr(potential, "quantity", "energy") != "energy" or not getattr(potential, "has_atomic_energies", True):
        return f"what {name} predicts is read out of the whole structure"
    stated = getattr(potential, "receptive_layers", None)
    unknown = f"{name} does not say how far its atomic energies reach (receptive_layers)"
    return stated if isinstance(stated, int | str) else unknown


def split_graph(graph: Graph, layers: int, memory: Memory, limit: float) -> list[Piece] | None:
    """The fewest pieces that take no more than the limit (bytes) each; None where single atoms or 256 pieces do."""
    atoms = len(graph.numbers)
    if not _fits(_extent(graph, torch.arange(1), layers), memory, limit):
        return None
    groups, places = [torch.arange(atoms)], _places(graph)
    while len(groups) < min(atoms, _MOST):
        groups = [half for group in groups for half in _halves(group, places)]
        if not _fits(_extent(graph, groups[0], layers), memory, limit):  # spares looking at all the others
            continue
        extents = [_extent(graph, group, layers) for group in groups]
        if all(_fits(extent, memory, limit) for extent in extents):
            return [_piece(graph, group, *extent) for group, extent in zip(groups, extents, strict=True)]
    return None


def piece_around(graph: Graph, group: Tensor, layers: int) -> Piece:
    """The piece whose central atoms are the group, indices (n,) in ascending order."""
    return _piece(graph, group, *_extent(graph, group, layers))


def evaluate_pieces(
    potential: Potential, graph: Graph, pieces: list[Piece], device: torch.device, *, forces: bool, stress: bool
) -> Prediction:
    """What `predict` gives for the whole graph, on the CPU, one piece at a time on the device.

    E = sum over pieces of E_A = sum_{i in A} e_i; forces and stress are the sums of the derivatives of the E_A, each on
    all atoms that E_A depends on.
    """
    sums = {
        "energies": graph.positions.new_zeros(len(graph.numbers)),
        "forces": torch.zeros_like(graph.positions),
        "stress": graph.positions.new_zeros((graph.n_structures, 6)),
    }
    for piece in pieces:
        central = CentralEnergies(potential, piece.central.to(device))
        part = predict(central, piece.graph.to(device), forces=forces, stress=stress)
        for name, total in sums.items():
            value = getattr(part, name)
            if value is not None:
                target = slice(None) if name == "stress" else piece.atoms
                total[target] += value.to(total)
    energy = graph.sum_by_structure(sums["energies"])
    shift = float(getattr(potential, "structure_shift", 0.0))
    return Prediction(
        energy=energy + shift,
        energies=sums["energies"] + graph.equal_shares(torch.full_like(energy, shift)),
        forces=sums["forces"] if forces else None,
        stress=sums["stress"] if stress else None,
    )


class CentralEnergies:
    """The energies of the central atoms of a piece, or of each of several copies of it, zero for the others."""

    def __init__(self, potential: Potential, central: Tensor) -> None:
        self.cutoff, self._potential, self._central = potential.cutoff, potential, central

    def __call__(self, graph: Graph) -> Tensor:
        energies = self._potential(graph)
        central = self._central.repeat(len(energies) // len(self._central))
        return torch.where(central, energies, torch.zeros_like(energies))


def _places(graph: Graph) -> Tensor:
    """Positions for cutting, (N, 3) Å: wrapped into the cell along the vectors that edges cross."""
    places, cell = graph.positions.detach(), graph.cell[0]
    crossed = graph.shifts.to(places.dtype).abs().amax(dim=0) > 0 if len(graph.shifts) else torch.zeros(3) > 0
    if not bool(crossed.any()) or float(torch.linalg.det(cell).abs()) < 1e-6:
        return places
    fractional = torch.linalg.solve(cell.T, places.T).T
    return torch.where(crossed, fractional - fractional.floor(), fractional) @ cell


def _halves(group: Tensor, places: Tensor) -> list[Tensor]:
    """The two halves of some atoms across their longest extent."""
    if len(group) < 2:
        return [group]
    there = places[group]
    along = int((there.amax(dim=0) - there.amin(dim=0)).argmax())
    order, middle = there[:, along].argsort(stable=True), len(group) // 2
    return [group[order[:middle]], group[order[middle:]]]


def _extent(graph: Graph, group: Tensor, layers: int) -> tuple[Tensor, Tensor]:
    """Masks of the atoms (N,) and edges (E,) on which the energies of the group depend."""
    i, j = graph.edges
    atoms = torch.zeros(len(graph.numbers), dtype=torch.bool)
    atoms[group] = True
    edges = torch.zeros(len(i), dtype=torch.bool)
    for _ in range(layers):
        edges = atoms[i]  # an edge acts on its center: those of the outermost layer act on nothing
        atoms = atoms.clone()
        atoms[j[edges]] = True
    return atoms, edges


def _fits(extent: tuple[Tensor, Tensor], memory: Memory, limit: float) -> bool:
    return memory(int(extent[0].sum()), int(extent[1].sum())) <= limit


def _piece(graph: Graph, group: Tensor, atoms: Tensor, edges: Tensor) -> Piece:
    kept = atoms.nonzero()[:, 0]
    place = torch.zeros_like(graph.numbers)
    place[kept] = torch.arange(len(kept))
    central = torch.zeros(len(graph.numbers), dtype=torch.bool)
    central[group] = True
    part = replace(
        graph,
        numbers=graph.numbers[kept],
        positions=graph.positions[kept],
        edges=place[graph.edges[:, edges]],
        shifts=graph.shifts[edges],
        batch=graph.batch[kept],
    )
    return Piece(part, kept, central[kept])
