"""How the ranks share the work on a structure: one whole, pieces with a rim, or states of atoms exchanged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from mlcalc.engine.cautions import Cautions
from mlcalc.engine.engine import Engine
from mlcalc.engine.pieces import CentralEnergies, piece_around, receptive_layers
from mlcalc.errors import NonFiniteResultError, OverlapError
from mlcalc.graphs.neighbors import DEFAULT_MAX_EDGES, NeighborList
from mlcalc.graphs.validation import check_cell, check_positions
from mlcalc.ground.errors import Use
from mlcalc.lammps.hvnet import DistributedHVNet
from mlcalc.lammps.ranks import Halo, Ranks
from mlcalc.lammps.visnet import DistributedViSNet, distributes
from mlcalc.md_protocols.errors import ConfigError, EvaluationError
from mlcalc.models import Graph, HVNet, Prediction, ViSNet, predict

__all__ = ["Exchanged", "Pieces", "Results", "Scheme", "View", "Whole", "choose_scheme"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
FUSED = "fused CPU kernels"


@dataclass(frozen=True, eq=False)
class View:
    """What a rank sees of the structure at one moment: its own n atoms, then ghosts, that is, images of any atoms."""

    own: int
    tags: Ints  # (n + ghosts,) IDs
    numbers: Ints  # (n + ghosts,) atomic numbers
    positions: Floats  # (n + ghosts, 3) Å
    cell: Floats  # (3, 3) Å, rows are vectors
    pbc: NDArray[np.bool_]  # (3,)


@dataclass(frozen=True, eq=False)
class Results:
    """Of the whole structure, the same on all ranks, but for what belongs to a rank's own atoms."""

    energy: float  # eV
    virial: Floats  # (6,) eV, -dE/d(strain): xx, yy, zz, xy, xz, yz as LAMMPS has them
    energies: Floats  # (n,) eV
    forces: Floats  # (n, 3) eV/Å


class Scheme(Protocol):
    """One way to share the work."""

    def evaluate(self, view: View) -> Results:
        """Energy, forces and virial; called by all ranks at the same time, errors are those of all of them."""
        ...

    def describe(self) -> str:
        """In a few words."""
        ...


def choose_scheme(engine: Engine, ranks: Ranks, *, skin: float, min_distance: float) -> Scheme:
    """The scheme for this model on these ranks.

    Raises ConfigError for models whose energies are not sums over atoms with a finite reach, on more than one rank.
    """
    graphs = _Graphs(engine, skin, min_distance)
    if ranks.size == 1:
        return Whole(engine, graphs)
    network, cpu = engine.potential, engine.device.type == "cpu"
    if cpu and isinstance(network, HVNet) and engine.path == FUSED:
        return Exchanged(DistributedHVNet(network, engine.dtype), graphs, ranks)
    if cpu and isinstance(network, ViSNet) and engine.path == FUSED and distributes(network):
        return Exchanged(DistributedViSNet(network, engine.dtype), graphs, ranks)
    layers = receptive_layers(network)
    if isinstance(layers, str):
        raise ConfigError(
            f"this model runs on one rank only, and here are {ranks.size}: {layers}",
            setting="ranks",
            value=ranks.size,
            limit=1,
            remedies=[Use("ranks", 1, python="start one process only")],
        )
    return Pieces(engine, graphs, ranks, layers)


class Whole:
    """One rank, which has all atoms: what the calculator computes."""

    def __init__(self, engine: Engine, graphs: _Graphs) -> None:
        self._engine, self._graphs = engine, graphs

    def describe(self) -> str:
        """In a few words."""
        return "the whole structure on one rank"

    def evaluate(self, view: View) -> Results:
        """What the engine finds; ghosts are not looked at, since they are images of the rank's own atoms."""
        n = view.own
        order = np.argsort(view.tags[:n], kind="stable")  # not LAMMPS' order, which changes
        if n == 0:
            raise EvaluationError("there are no atoms")
        _check_unique(view.tags[:n][order])
        graph = self._graphs.graph(view.numbers[:n][order], view.positions[:n][order], view, view.tags[:n][order])
        found = self._engine.evaluate(graph, forces=True, stress=True)
        energies, forces = np.empty(n), np.empty((n, 3))
        energies[order], forces[order] = _numpy(found.energies), _numpy(found.forces)
        return Results(float(_numpy(found.energy)[0]), _virial(found, view.cell), energies, forces)


class Pieces:
    """Each rank knows where all atoms are, and computes its own with as much around them as these depend on."""

    def __init__(self, engine: Engine, graphs: _Graphs, ranks: Ranks, layers: int) -> None:
        self._engine, self._graphs, self._ranks, self._layers = engine, graphs, ranks, layers
        self.evaluated = 0  # atoms of the last piece, its rim included

    def describe(self) -> str:
        """In a few words."""
        reach = self._layers * self._engine.scope.cutoff
        return f"{self._ranks.size} ranks, each computing a rim of {reach:g} Å beside its own atoms"

    def evaluate(self, view: View) -> Results:
        """Sums over ranks of what the energies of their atoms give."""
        n, ranks = view.own, self._ranks
        rows = np.column_stack([view.tags[:n], view.numbers[:n], view.positions[:n]])
        everyone, counts = ranks.gather(rows)
        order = np.argsort(everyone[:, 0], kind="stable")  # the same on all ranks, and at all times
        everyone, owner = everyone[order], np.repeat(np.arange(ranks.size), counts)[order]
        own = np.flatnonzero(owner == ranks.rank)
        here = np.argsort(view.tags[:n], kind="stable")  # own[k] is LAMMPS' atom here[k]
        energies, sums = ranks.attempt(lambda: self._piece(everyone, own, view))
        sums = ranks.sum(sums)
        total, virial, forces = sums[0], sums[1:7], sums[7:].reshape(-1, 3)
        ranks.attempt(lambda: _check_finite(total, virial, forces))
        found = Results(float(total + self._graphs.shift), virial, np.empty(n), np.empty((n, 3)))
        found.energies[here], found.forces[here] = energies + self._graphs.shift / len(everyone), forces[own]
        return found

    def _piece(self, everyone: Floats, own: Ints, view: View) -> tuple[Floats, Floats]:
        """Energies (n,) of the own atoms, and in one array their sum, virial and forces on all atoms."""
        tags, numbers, positions = everyone[:, 0].astype(np.int64), everyone[:, 1].astype(np.int64), everyone[:, 2:]
        _check_unique(tags)
        sums = np.zeros(7 + 3 * len(tags))
        if not len(own):
            return np.zeros(0), sums
        graph = self._graphs.graph(numbers, np.ascontiguousarray(positions), view, tags)
        piece = piece_around(graph, torch.from_numpy(own), self._layers)
        self.evaluated = len(piece.atoms)
        central = CentralEnergies(self._engine.potential, piece.central.to(self._engine.device))
        found = predict(central, piece.graph.to(self._engine.device), forces=True, stress=True)
        energies = _numpy(found.energies)[piece.central.numpy()]
        sums[0], sums[1:7] = energies.sum(), _virial(found, view.cell)
        sums[7:].reshape(-1, 3)[piece.atoms.numpy()] = _numpy(found.forces)
        return energies, sums


class Exchanged:
    """Each rank computes its own atoms only, and asks for the states of neighbors that belong to others.

    Ghosts are known to LAMMPS as far as the cutoff of its pair style and its skin reach, which is enough here.
    """

    def __init__(self, network: DistributedHVNet | DistributedViSNet, graphs: _Graphs, ranks: Ranks) -> None:
        self._network, self._graphs, self._ranks = network, graphs, ranks
        self._tags: tuple[int, Ints] | None = None  # of the atoms that the halo is for
        self._halo: Halo | None = None
        self._chosen = np.zeros(0, np.int64)  # one ghost for each remote atom

    @property
    def remote(self) -> int:
        """Atoms of other ranks that this one needs."""
        return len(self._chosen)

    def describe(self) -> str:
        """In a few words."""
        return f"{self._ranks.size} ranks, exchanging the states of atoms between layers"

    def evaluate(self, view: View) -> Results:
        """Sums over ranks of what the energies of their atoms give."""
        n, ranks = view.own, self._ranks
        halo = self._halo_of(view)
        rows = np.concatenate([np.arange(n), self._chosen])
        graph = ranks.attempt(lambda: self._own_graph(view, rows))
        found = self._network.evaluate_own(graph, n, halo)
        forces = found.forces
        sums = ranks.sum(np.array([found.energies.sum(), *found.virial[_PLACES]]))
        ranks.attempt(lambda: _check_finite(sums[0], sums[1:], forces))
        share = self._graphs.shift / max(int(ranks.sum(np.array([float(n)]))[0]), 1) if self._graphs.shift else 0.0
        return Results(float(sums[0] + self._graphs.shift), sums[1:], found.energies + share, forces)

    def _halo_of(self, view: View) -> Halo:
        """The halo of these atoms: the last one, until on any rank they are others or in another order."""
        last = self._tags
        same = last is not None and last[0] == view.own and np.array_equal(last[1], view.tags)
        if self._halo is not None and not self._ranks.any(not same):
            return self._halo
        self._halo, self._tags = None, (view.own, view.tags.copy())
        own, ghosts = view.tags[: view.own], view.tags[view.own :]
        self._ranks.attempt(lambda: _check_unique(np.sort(own)))
        tags, first = np.unique(ghosts, return_index=True)
        remote = ~np.isin(tags, own)  # a ghost of an own atom is an image, which the list of neighbors knows
        self._chosen = view.own + first[remote]
        self._halo = Halo(self._ranks, own, tags[remote])
        return self._halo

    def _own_graph(self, view: View, rows: Ints) -> Graph:
        """The graph of these atoms with the edges of the rank's own."""
        graph = self._graphs.graph(view.numbers[rows], view.positions[rows], view, view.tags[rows])
        last = int(torch.searchsorted(graph.edges[0].contiguous(), view.own))
        return Graph(
            numbers=graph.numbers,
            positions=graph.positions,
            cell=graph.cell,
            edges=graph.edges[:, :last],
            shifts=graph.shifts[:last],
            batch=graph.batch,
        )


class _Graphs:
    """Graphs of atoms in LAMMPS' box, checked."""

    def __init__(self, engine: Engine, skin: float, min_distance: float) -> None:
        self._scope, self._min_distance = engine.scope, min_distance
        self.shift = float(getattr(engine.potential, "structure_shift", 0.0))
        self._cautions: Cautions | None = Cautions.of(engine.potential)
        self._neighbors = NeighborList(engine.scope.cutoff, skin=skin, max_edges=DEFAULT_MAX_EDGES)

    def graph(self, numbers: Ints, positions: Floats, view: View, tags: Ints) -> Graph:
        """The graph of some atoms with all edges between them and their images."""
        check_positions(positions)
        check_cell(view.cell, view.pbc)
        found = self._neighbors.edges(positions, view.cell, view.pbc, numbers)
        if found.shortest < self._min_distance:
            raise self._overlap(found.pairs(), positions, view.cell, tags)
        graph = Graph(
            numbers=torch.from_numpy(numbers),
            positions=torch.from_numpy(positions),
            cell=torch.from_numpy(view.cell)[None],
            edges=found.edges,
            shifts=found.shifts,
            batch=torch.zeros(len(numbers), dtype=torch.int64),
        )
        if not self._scope.periodic:
            self._scope.check_images(graph)
        if self._cautions is not None:  # of the first structure; that the energy may jump has been said
            atoms = Atoms(numbers, positions, cell=view.cell, pbc=view.pbc)
            self._cautions.tell(atoms, graph, dynamics=False)
            self._cautions = None
        return graph

    def _overlap(self, pairs: object, positions: Floats, cell: Floats, tags: Ints) -> OverlapError:
        i, j, shifts = pairs.i, pairs.j, pairs.shifts  # type: ignore[attr-defined]
        distances = np.linalg.norm(positions[j] - positions[i] + shifts @ cell, axis=1)
        closest = int(np.argmin(distances))
        return OverlapError(
            f"atoms with the IDs {tags[i[closest]]} and {tags[j[closest]]} are {distances[closest]:.6g} Å apart, "
            f"closer than {self._min_distance:g} Å: no model knows such structures",
            setting="min_distance",
            value=float(distances[closest]),
            limit=self._min_distance,
            remedies=["look at the time step and at the structure that the run started from"],
        )


_PLACES = (np.array([0, 1, 2, 0, 0, 1]), np.array([0, 1, 2, 1, 2, 2]))  # xx, yy, zz, xy, xz, yz


def _virial(found: Prediction, cell: Floats) -> Floats:
    """-V stress in LAMMPS' order, from ASE's xx, yy, zz, yz, xz, xy."""
    return -abs(float(np.linalg.det(cell))) * _numpy(found.stress)[0, [0, 1, 2, 5, 4, 3]]


def _numpy(values: torch.Tensor | None) -> Floats:
    array: Floats = values.detach().to("cpu", torch.float64).numpy()  # type: ignore[union-attr]  # all were asked for
    return array


def _check_unique(tags: Ints) -> None:
    """EvaluationError where IDs (sorted) are not positive numbers without repetition."""
    if len(tags) and (tags[0] < 1 or (np.diff(tags) == 0).any()):
        raise EvaluationError(
            "atom IDs are missing or not unique", remedies=["use `atom_modify id yes` and `reset_atoms id`"]
        )


def _check_finite(energy: float, virial: Floats, forces: Floats) -> None:
    if np.isfinite(energy) and np.isfinite(virial).all() and np.isfinite(forces).all():
        return
    raise NonFiniteResultError(
        "the model returned NaN or infinity as energy, forces or virial: the structure lies outside what it can "
        "describe",
        remedies=["look at the last frames for atoms that come too close, and at the time step"],
    )
