"""Energies and forces of the smooth HVNet without automatic differentiation."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlcalc.kernels.hvnet.arrays import BLOCK, Array, Given, Results, Settings
from mlcalc.kernels.hvnet.geometry import number_edges
from mlcalc.kernels.hvnet.painn import walk_painn
from mlcalc.kernels.hvnet.rmconv import walk_rmconv
from mlcalc.kernels.hvnet.space import Space, state_shapes
from mlcalc.kernels.hvnet.weights import packed_weights
from mlcalc.kernels.threads import even_shares, run_shares
from mlcalc.kernels.workspace import Workspaces
from mlcalc.models import Graph, HVNet, Prediction, predict
from mlcalc.models.network import Network
from mlcalc.models.prediction import assembled

KEPT_BYTES = 2**30  # of what can be computed again on the way back
EDGES_PER_SHARE = 600  # for fewer, a thread takes longer to wake up than to compute


def hvnet_path(network: Network, dtype: torch.dtype) -> FusedHVNet | str:
    """The fused network, or why this one has none."""
    if type(network) is not HVNet:
        return f"no fused kernels: there are none for {type(network).__name__}"
    if network.config.variant != "smooth":
        return f"no fused kernels: there are none for variant {network.config.variant!r} of HVNet"
    return FusedHVNet(network, dtype)


class FusedHVNet:
    """The smooth HVNet with the weights it has now, by kernels; several threads may use one."""

    name = "fused CPU kernels"

    def __init__(self, network: HVNet, dtype: torch.dtype) -> None:
        self._network = network
        self._kind = np.dtype(str(dtype).removeprefix("torch."))
        self._weights = packed_weights(network, self._kind)
        self._spaces: Workspaces[Space] = Workspaces()

    def evaluate(self, graph: Graph, *, forces: bool, stress: bool) -> Prediction:
        """What `predict` gives for the graph.

        `predict` itself is asked where the list of edges is not full, not sorted, or that of no atoms.
        """
        with torch.no_grad():
            element = self._network.element_index(graph.numbers)
            with self._spaces.taken(lambda space: True, lambda: Space(self._kind)) as space:
                shares = self.shares(graph)
                results = self._results(graph, element, space, forces=forces, stress=stress, shares=shares)
            if results is None:
                return predict(self._network, graph, forces=forces, stress=stress)
            found = results.forces.sum(0) if forces else None
            virial = results.virial.sum(0) if stress else None
            return self._prediction(graph, element, results.y, found, virial)

    @property
    def held_bytes(self) -> int:
        """Memory that it keeps for the next call."""
        return self._spaces.held_bytes

    def memory(self, atoms: int, edges: int) -> int:
        """Peak bytes of one call."""
        settings, size = self._settings(atoms, back=True), self._kind.itemsize
        states = sum(math.prod(shape) for shape in state_shapes(settings, atoms).values())
        per_edge: int = size * (2 * self._weights.filters.shape[2] + 10) + 4
        return int(size * states * 17 // 16) + edges * per_edge * 9 // 8 + atoms * 200

    def shares(self, graph: Graph) -> int:
        """Threads that are worth their while for this graph, of those that torch may use."""
        worth: int = graph.edges.shape[1] // EDGES_PER_SHARE
        return max(1, min(torch.get_num_threads(), worth))

    def _settings(self, atoms: int, *, back: bool) -> Settings:
        config = self._network.config
        L, F, K = config.num_layers, config.hidden_channels, len(config.elements)
        numbers = 4 * K + 10 if config.sub_network == "painn" else 8 * K  # per atom, layer and channel
        keeps = back and numbers * atoms * L * F * self._kind.itemsize <= KEPT_BYTES
        return Settings(
            painn=config.sub_network == "painn",
            layers=L,
            elements=len(config.elements),
            channels=config.hidden_channels,
            cutoff=config.cutoff,
            exponent=config.envelope_exponent,
            scale=config.energy_scale,
            states=L + 1 if back else 2,
            kept=L if keeps else 2,
            back=back,
        )

    def _prediction(
        self, graph: Graph, element: Tensor, y: Array, forces: Array | None, virial: Array | None
    ) -> Prediction:
        gradient = None if forces is None else torch.from_numpy(-forces)
        strained = None if virial is None else torch.from_numpy((virial + virial.transpose(0, 2, 1)) / 2)
        energies = self._network.atomic_energies(torch.from_numpy(y), element)
        return assembled(self._network, graph, energies, gradient=gradient, strain_gradient=strained)

    def _results(
        self, graph: Graph, element: Tensor, space: Space, *, forces: bool, stress: bool, shares: int
    ) -> Results | None:
        """What the kernels find, or None where the graph is not as they need it."""
        atoms = len(graph.numbers)
        first = np.empty(atoms + 1, np.int64)
        if atoms == 0 or not number_edges(edges := np.ascontiguousarray(graph.edges.numpy()), first):
            return None
        settings = self._settings(atoms, back=forces or stress)
        given = ordered(graph, edges, element.numpy(), first, shares)
        rooms = space.rooms(shares, settings.channels)
        results = Results(
            y=np.empty(atoms, self._kind),
            forces=np.zeros((shares, atoms, 3)),
            virial=np.zeros((shares, graph.n_structures if stress else 0, 3, 3)),
            mirrored=np.zeros(shares, np.uint64),
        )
        near = space.edges(atoms, graph.edges.shape[1], settings.elements, self._weights.filters.shape[2])
        states = space.atoms(settings, atoms)
        last_step = 1 + settings.layers * (1 if settings.painn else 2) * (2 if settings.back else 1)

        walk = walk_painn if settings.painn else walk_rmconv

        def take(steps: tuple[int, int], share: int) -> None:
            walk(steps, share, stress, settings, self._weights, given, near, states, rooms, results)

        for steps in [(0, last_step)] if shares == 1 else [(step, step + 1) for step in range(last_step)]:
            run_shares(partial(take, steps), shares)
        return results if results.mirrored.sum() == 0 else None


def ordered(graph: Graph, edges: Array, element: NDArray[Any], first: NDArray[np.int64], shares: int) -> Given:
    bounds = even_shares(first, shares) if shares > 1 else np.array([0, len(element)])
    share = np.repeat(np.arange(shares), np.diff(bounds))
    order = np.lexsort((element, share)).astype(np.int64)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    blocks, first_block = _blocks(element[order], bounds)
    return Given(
        positions=np.ascontiguousarray(graph.positions.detach().numpy()),
        cell=np.ascontiguousarray(graph.cell.detach().numpy()),
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


def _blocks(element: NDArray[Any], bounds: NDArray[np.int64]) -> tuple[Array, Array]:
    """Blocks of at most BLOCK atoms of one element, and the first block of each share."""
    cuts = np.union1d(np.flatnonzero(np.diff(element)) + 1, bounds)
    blocks: list[tuple[int, int, int]] = []
    first_block = [0] * len(bounds)
    for start, stop in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
        blocks += [(k, min(k + BLOCK, stop), int(element[start])) for k in range(start, stop, BLOCK)]
        for share in np.flatnonzero(bounds >= stop):
            first_block[share] = len(blocks)
    return np.array(blocks, dtype=np.int64), np.array(first_block, dtype=np.int64)
