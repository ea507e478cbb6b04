"""Derivatives of the energies of the smooth HVNet by its weights, without automatic differentiation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlcalc.kernels.gradients import EnergyGradient, GradientKernels
from mlcalc.kernels.hvnet.arrays import Results
from mlcalc.kernels.hvnet.geometry import number_edges
from mlcalc.kernels.hvnet.hvnet import FusedHVNet, ordered
from mlcalc.kernels.hvnet.painn_gradients import walk_painn_gradient
from mlcalc.kernels.hvnet.rmconv_gradients import walk_rmconv_gradient
from mlcalc.kernels.hvnet.space import Space
from mlcalc.kernels.hvnet.weights import GradientSums, refresh_weights
from mlcalc.kernels.threads import run_shares
from mlcalc.models import Graph, HVNet, ModelError, Prediction, parameter_gradient
from mlcalc.models.network import Network

PACKET_ATOMS = 96  # fewer of them do not pay for a walk of their own; the states of more leave the processor's cache
DENSE = 0.1  # share of all pairs of atoms that are neighbors, from which on means are matrix products
_Found = TypeVar("_Found")


def hvnet_gradients(network: HVNet, dtype: torch.dtype) -> GradientKernels | str:
    """The kernels of this network, or why there are none."""
    if type(network) is not HVNet:
        return f"no fused kernels for gradients: there are none for {type(network).__name__}"
    if network.config.variant != "smooth":
        return f"no fused kernels for gradients: there are none for variant {network.config.variant!r} of HVNet"
    return FusedHVNetGradients(network, dtype)


@dataclass(frozen=True, eq=False)
class _Packet:
    """Whole structures of a graph that one thread takes from the first edge to the last derivative."""

    graph: Graph
    element: Tensor  # (n,) of its atoms
    atoms: slice
    structures: slice


class FusedHVNetGradients(FusedHVNet):
    """The smooth HVNet with weights that change."""

    def __init__(self, network: HVNet, dtype: torch.dtype) -> None:
        super().__init__(network, dtype)
        self._sums: list[GradientSums] = []  # one for each thread

    def refresh(self, network: Network) -> None:
        """Take over the weights that the network has now."""
        if type(network) is not HVNet or network.config != self._network.config:
            raise ModelError("these kernels are those of an HVNet of other settings: make new ones for this network")
        self._network = network
        refresh_weights(self._weights, network)

    def forces(self, graph: Graph, *, stress: bool) -> Prediction:
        """What `predict` gives for the graph, with the weights of the last `refresh`."""
        with torch.no_grad():
            packets = self._packets(graph)
            if packets is None or len(packets) < 2:
                return self.evaluate(graph, forces=True, stress=stress)
            found = self._by_packet(packets, partial(self._packet_forces, stress=stress))
            results = [result for result in found if result is not None]
            if len(results) < len(packets):
                return self.evaluate(graph, forces=True, stress=stress)
            element = torch.cat([packet.element for packet in packets])
            y = np.concatenate([result.y for result in results])
            forces = np.concatenate([result.forces.sum(0) for result in results])
            virial = np.concatenate([result.virial.sum(0) for result in results]) if stress else None
            return self._prediction(graph, element, y, forces, virial)

    def gradient(self, graph: Graph, seeds: Tensor) -> EnergyGradient:
        """Energies (S,) eV, and the derivatives of the sum of seeds (S,), float64, times energies.

        Autograd is asked where the list of edges is not full, not sorted, or that of no atoms.
        """
        with torch.no_grad():
            packets = self._packets(graph)
            found: list[NDArray[Any] | None] = [None]
            if packets is not None:
                for sums in self._sums:
                    sums.clear()
                found = self._by_packet(packets, partial(self._packet_gradient, seeds=seeds.detach().numpy()))
            rows = [y for y in found if y is not None]
            if packets is None or len(rows) < len(packets):
                return EnergyGradient(*parameter_gradient(self._network, graph, seeds))
            element = torch.cat([packet.element for packet in packets])
            energy = cast("Tensor", self._prediction(graph, element, np.concatenate(rows), None, None).energy)
            total, *others = self._sums
            for sums in others:
                total.add(sums)
            return EnergyGradient(energy, total.parameters(self._network))

    def _packets(self, graph: Graph) -> list[_Packet] | None:
        """The graph in parts, or None where its edges are not sorted or there are no atoms."""
        atoms, structures = len(graph.numbers), graph.n_structures
        element, batch = self._network.element_index(graph.numbers), graph.batch.numpy()
        first, edges = np.empty(atoms + 1, np.int64), np.ascontiguousarray(graph.edges.numpy())
        if atoms == 0 or not number_edges(edges, first):
            return None
        whole = _Packet(graph, element, slice(0, atoms), slice(0, structures))
        if structures == 1 or bool((np.diff(batch) < 0).any()):
            return [whole]
        bounds = np.searchsorted(batch, np.arange(structures + 1))
        packets, start = [], 0
        for stop in range(1, structures + 1):
            if bounds[stop] - bounds[start] >= PACKET_ATOMS or stop == structures:
                packets.append(_part(graph, element, bounds, first, slice(start, stop)))
                start = stop
        return [packet for packet in packets if len(packet.element)] if len(packets) > 1 else [whole]

    def _by_packet(self, packets: Sequence[_Packet], task: Callable[[_Packet, Sequence[int]], _Found]) -> list[_Found]:
        """task(packet, threads by number) of all: each packet in a thread of its own, or few of them by all threads."""
        threads = torch.get_num_threads()
        while len(self._sums) < threads:
            self._sums.append(GradientSums(self._weights))
        if len(packets) < threads:
            return [task(packet, range(self.shares(packet.graph))) for packet in packets]
        found: dict[int, _Found] = {}
        plan = _even_plan([packet.graph.edges.shape[1] + len(packet.element) for packet in packets], threads)

        def take(thread: int) -> None:
            with torch.no_grad():  # which holds for one thread
                for number in plan[thread]:
                    found[number] = task(packets[number], range(thread, thread + 1))

        run_shares(take, threads)
        return [found[number] for number in range(len(packets))]

    def _packet_forces(self, packet: _Packet, threads: Sequence[int], *, stress: bool) -> Results | None:
        with self._spaces.taken(lambda space: True, lambda: Space(self._kind)) as space:
            return self._results(
                packet.graph, packet.element, space, forces=True, stress=stress, shares=len(threads)
            )  # fmt: skip

    def _packet_gradient(self, packet: _Packet, threads: Sequence[int], *, seeds: NDArray[Any]) -> NDArray[Any] | None:
        """y of the atoms, or None where the list of edges is not full; the derivatives are added to those at hand."""
        graph, shares, atoms = packet.graph, len(threads), len(packet.element)
        edges, first = np.ascontiguousarray(graph.edges.numpy()), np.empty(atoms + 1, np.int64)
        number_edges(edges, first)
        settings = self._settings(atoms, back=True)
        forward = settings._replace(back=False)
        given = ordered(graph, edges, packet.element.numpy(), first, shares)
        results = Results(
            y=np.empty(atoms, self._kind),
            forces=np.empty((shares, 0, 3)),
            virial=np.empty((shares, 0, 3, 3)),
            mirrored=np.zeros(shares, np.uint64),
        )
        own = np.ascontiguousarray(seeds[packet.structures])
        walk: Any = walk_painn_gradient if settings.painn else walk_rmconv_gradient  # kernels have no types
        with self._spaces.taken(lambda space: True, lambda: Space(self._kind)) as space:
            rooms = space.rooms(shares, settings.channels)
            near = space.edges(atoms, graph.edges.shape[1], settings.elements, self._weights.filters.shape[2])
            states = space.atoms(settings, atoms)
            dense = not settings.painn and shares == 1 and edges.shape[1] >= DENSE * atoms**2
            matrix = space.matrix(atoms if dense else 0)

            def take(steps: tuple[int, int], share: int) -> None:
                arrays = (given, near, states, rooms, results, own, self._sums[threads[share]].arrays, matrix)
                walk(steps, share, forward, settings, self._weights, *arrays)

            last_step = 2 + 2 * settings.layers * (1 if settings.painn else 2)
            for steps in [(0, last_step)] if shares == 1 else [(step, step + 1) for step in range(last_step)]:
                run_shares(partial(take, steps), shares)
        for thread in threads:
            self._sums[thread].settle()
        return results.y if results.mirrored.sum() == 0 else None


def _part(
    graph: Graph, element: Tensor, bounds: NDArray[np.int64], first: NDArray[np.int64], structures: slice
) -> _Packet:
    """These structures; bounds (S + 1,) of the atoms of each, and the first edge (N + 1,) of each atom."""
    start, stop = int(bounds[structures.start]), int(bounds[structures.stop])
    edges = slice(int(first[start]), int(first[stop]))
    part = Graph(
        numbers=graph.numbers[start:stop],
        positions=graph.positions[start:stop],
        cell=graph.cell[structures],
        edges=graph.edges[:, edges] - start,
        shifts=graph.shifts[edges],
        batch=graph.batch[start:stop] - structures.start,
    )
    return _Packet(part, element[start:stop], slice(start, stop), structures)


def _even_plan(work: Sequence[int], threads: int) -> list[list[int]]:
    """Numbers of the packets of each thread, the largest ones first, each to the thread with the least to do."""
    plan: list[list[int]] = [[] for _ in range(threads)]
    loads = [0] * threads
    for number in sorted(range(len(work)), key=lambda k: -work[k]):
        thread = loads.index(min(loads))
        plan[thread].append(number)
        loads[thread] += work[number]
    return plan
