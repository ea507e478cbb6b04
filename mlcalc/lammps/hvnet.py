"""The smooth HVNet on several ranks, which tell each other the states of atoms after every step of its kernels."""

# The kernels let several threads each walk through a share of the atoms and wait for the others between steps.  Here
# the atoms of other ranks are one more share, which nobody walks through: between steps their states are fetched.

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mlcalc.kernels.hvnet.arrays import BLOCK, Array, Atoms, Given, Results, Settings
from mlcalc.kernels.hvnet.geometry import number_edges
from mlcalc.kernels.hvnet.hvnet import FusedHVNet
from mlcalc.kernels.hvnet.painn import walk_painn
from mlcalc.kernels.hvnet.rmconv import walk_rmconv
from mlcalc.kernels.hvnet.space import Space
from mlcalc.kernels.threads import even_shares, run_shares
from mlcalc.lammps.ranks import Halo, OwnResults, own_results
from mlcalc.models import Graph, ModelError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class DistributedHVNet(FusedHVNet):
    """The fused HVNet for the atoms of one rank."""

    def evaluate_own(self, graph: Graph, own: int, halo: Halo) -> OwnResults:
        """Energies of the first `own` atoms of the graph and their derivatives.

        The graph has all edges of these atoms, sorted, and none of the others, which are those of other ranks.  All
        ranks call this at the same time.
        """
        atoms = len(graph.numbers)
        first = np.empty(atoms + 1, np.int64)
        edges = np.ascontiguousarray(graph.edges.numpy())
        numbered: Any = number_edges  # kernels have no types
        if not numbered(edges, first):
            raise ModelError("the edges of the graph are not sorted by their central atoms, edges[0]: sort them")
        element = self._network.element_index(graph.numbers)
        settings = self._settings(atoms, back=True)
        bounds = _bounds(first[: own + 1], atoms, self.shares(graph))
        given = _given(graph, edges, element.numpy(), first, bounds)
        shares = len(bounds) - 2
        results = Results(
            y=np.zeros(atoms, self._kind),
            forces=np.zeros((shares, atoms, 3)),
            virial=np.zeros((shares, 1, 3, 3)),
            mirrored=np.zeros(shares, np.uint64),
        )
        with torch.no_grad(), self._spaces.taken(lambda space: True, self._new_space) as space:
            rooms = space.rooms(shares, settings.channels)
            near = space.edges(atoms, edges.shape[1], settings.elements, self._weights.filters.shape[2])
            states = space.atoms(settings, atoms)
            walk: Any = walk_painn if settings.painn else walk_rmconv
            after = _after_painn if settings.painn else _after_rmconv

            def take(step: int, share: int) -> None:
                walk((step, step + 1), share, True, settings, self._weights, given, near, states, rooms, results)

            for step in range(1 + settings.layers * (1 if settings.painn else 2) * 2):
                run_shares(partial(take, step), shares)
                if changed := after(step, settings, states):
                    halo.fetch(changed, given.place[:own], given.place[own:])
            energies = self._network.atomic_energies(torch.from_numpy(results.y), element)
        return own_results(energies, own, halo, results.forces.sum(0), -results.virial.sum((0, 1)))

    def _new_space(self) -> Any:
        return Space(self._kind)


def _after_painn(step: int, settings: Settings, atoms: Atoms) -> list[Array]:
    """What a step has changed that the next one wants to know of neighbors, with the atoms as the first index."""
    L = settings.layers
    if step < L:
        vectors = [atoms.v[step % settings.states]] if step else []  # before the first layer they are zero
        return [*vectors, *atoms.phi[step % settings.kept]]
    layer = 2 * L - 1 - step  # whose derivatives are known
    return [atoms.G_S[layer % 2], atoms.G_V[layer % 2]] if layer >= 0 else []


def _after_rmconv(step: int, settings: Settings, atoms: Atoms) -> list[Array]:
    """The same for the sub-networks of the paper, with two steps to a layer."""
    L = settings.layers
    done, second = divmod(step - 1, 2)
    if step == 0:
        return list(atoms.phi[0])
    if done < L and not second:
        return [atoms.V[done % settings.states], *atoms.t[done % settings.kept]]
    if done + 1 < L:
        return [atoms.v[(done + 1) % settings.states], *atoms.phi[(done + 1) % settings.kept]]
    layer = 2 * L - 1 - done
    if not second:
        return [atoms.G_S[layer % 2], atoms.G_V[layer % 2]]
    return [atoms.g_mean, atoms.g_norm] if layer > 0 else []


def _bounds(first: Ints, atoms: int, shares: int) -> Ints:
    """Bounds of shares of the own atoms, one for each thread, and of the last one, that of the other atoms."""
    own = len(first) - 1
    threads = even_shares(first, min(shares, max(own, 1)))
    return np.append(threads, atoms)


def _given(graph: Graph, edges: Array, element: Ints, first: Ints, bounds: Ints) -> Given:
    share = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    order = np.lexsort((element, share)).astype(np.int64)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    blocks, first_block = _blocks(element[order], bounds[:-1])
    return Given(
        positions=np.ascontiguousarray(graph.positions.numpy()),
        cell=np.ascontiguousarray(graph.cell.numpy()),
        batch=np.ascontiguousarray(graph.batch.numpy()),
        shifts=np.ascontiguousarray(graph.shifts.to(torch.float64).numpy()),
        edges=edges,
        first=first,
        order=order,
        place=place,
        element=element[order],
        blocks=blocks,
        first_block=first_block,
    )


def _blocks(element: Ints, bounds: Ints) -> tuple[Ints, Ints]:
    """Blocks of at most BLOCK atoms of one element in each share, and the first block of each share."""
    blocks: list[tuple[int, int, int]] = []
    first_block = [0]
    for start, stop in pairwise(bounds.tolist()):
        changes = start + 1 + np.flatnonzero(np.diff(element[start:stop]))
        for a, b in pairwise([start, *changes.tolist(), stop]):
            blocks += [(k, min(k + BLOCK, b), int(element[a])) for k in range(a, b, BLOCK)]
        first_block.append(len(blocks))
    return np.array(blocks, dtype=np.int64).reshape(-1, 3), np.array(first_block, dtype=np.int64)
