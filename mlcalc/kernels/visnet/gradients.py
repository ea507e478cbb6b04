"""Derivatives of ViSNet's energies and of losses by its parameters, without automatic differentiation."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlcalc.kernels.arrangement import spread
from mlcalc.kernels.gradients import EnergyGradient
from mlcalc.kernels.threads import run_shares
from mlcalc.kernels.visnet.by_weights import ByWeights
from mlcalc.kernels.visnet.geometry_tangents import displace_edges
from mlcalc.kernels.visnet.gradient_call import GradientCall
from mlcalc.kernels.visnet.parts import Part, parts_of
from mlcalc.kernels.visnet.tangent_call import ForcesCall, TangentCall
from mlcalc.kernels.visnet.tangent_space import TangentSpace
from mlcalc.kernels.visnet.visnet import FusedViSNet, visnet_path
from mlcalc.kernels.visnet.weights import packed
from mlcalc.models import Graph, ModelError, Network, Prediction, ViSNet
from mlcalc.models.prediction import assembled


def visnet_gradients(network: ViSNet, dtype: torch.dtype) -> ViSNetGradients | str:
    """The kernels for the training of this network, or why there are none."""
    path = visnet_path(copy.deepcopy(network).requires_grad_(False), dtype)
    return path if isinstance(path, str) else ViSNetGradients(path)


@dataclass(frozen=True, eq=False)
class _Tape:
    """What the kernels keep of the last energies and forces."""

    graph: Graph
    parts: list[Part]
    calls: dict[int, ForcesCall]


class ViSNetGradients:
    """Kernels on the CPU for the training of a ViSNet of energies; for one thread, and with weights of its own."""

    name = "fused CPU kernels"

    def __init__(self, path: FusedViSNet) -> None:
        self.path = path
        path.sizes = replace(path.sizes, kept_bytes=2**62)  # whatever is computed forward is needed on the way back
        self.totals: list[ByWeights] = []
        self._parameters = list(path.network.parameters())
        self._spaces: dict[int, TangentSpace] = {}
        self._tape: _Tape | None = None

    def refresh(self, network: Network) -> None:
        """Take over the weights of the network as they are now."""
        with torch.no_grad():
            for target, source in zip(self._parameters, network.parameters(), strict=True):
                target.copy_(source)
        self.path.weights = packed(self.path.network)
        self._tape = None

    def forces(self, graph: Graph, *, stress: bool) -> Prediction:
        """What `predict` gives for the graph, with the weights of the last `refresh`."""
        network, element = self.path.network, self.path.network.element_index(graph.numbers)
        tape = _Tape(graph, self._parts(graph), {})
        y, gradient = np.empty(len(element), self.path.kind), np.zeros((len(element), 3))
        strain_gradient = np.zeros((graph.n_structures if stress else 0, 3, 3))

        def run(k: int) -> None:
            part = tape.parts[k]
            space, edges = self._space(k, part.graph)
            seeds = self.path.seeds(part.graph).numpy().astype(self.path.kind)
            call = ForcesCall(self.path.weights, self.path.constants, space, element[part.atoms].numpy(), seeds)
            y[part.atoms] = call.run()
            by_strain = strain_gradient[part.structures] if stress else strain_gradient
            spread(
                edges, space.center, space.neighbor, space.vectors, space.g_vectors, part.graph.batch.numpy(),
                gradient[part.atoms], by_strain,
            )  # fmt: skip
            tape.calls[k] = call

        self._tape = None
        run_shares(run, len(tape.parts))
        self._tape = tape
        return assembled(
            network,
            graph,
            network.energies_of(torch.from_numpy(y).to(torch.float64), element, graph),
            gradient=torch.from_numpy(gradient),
            strain_gradient=torch.from_numpy(strain_gradient) if stress else None,
        )

    def gradient(self, graph: Graph, seeds: Tensor) -> EnergyGradient:
        """Energies (S,) eV, and the derivatives of the sum of seeds (S,), float64, times energies by the parameters."""
        _check("seeds", seeds, (graph.n_structures,))
        path, element = self.path, self.path.network.element_index(graph.numbers)
        parts, y = self._parts(graph), np.empty(len(element), self.path.kind)

        def run(k: int) -> None:
            part, total = parts[k], self.totals[k]
            space, _ = self._space(k, part.graph)
            by_y = self._by_y(part, seeds)
            call = GradientCall(path.weights, path.constants, space, element[part.atoms].numpy(), by_y, total)
            y[part.atoms] = call.run()

        self._tape = None
        self._clear_totals(len(parts))
        run_shares(run, len(parts))
        return self._finished(graph, y, element, len(parts))

    def tangent(self, graph: Graph, seeds: Tensor, directions: Tensor, strains: Tensor) -> EnergyGradient:
        """Energies, and derivatives of sum_s seeds_s E_s + d/d(eps) E_s(x + eps u, strain eps h) by the parameters.

        directions: u (N, 3) Å; strains: h (S, 3, 3), symmetric; all float64.  That is the gradient of a loss of
        energies, forces F and stress for seeds = dL/dE, u = -dL/dF and h = dL/d(dE/dstrain).  What `forces` has kept
        of the same graph is used.
        """
        _check("seeds", seeds, (graph.n_structures,))
        _check("directions", directions, graph.positions.shape)
        _check("strains", strains, (graph.n_structures, 3, 3))
        if self._tape is None or self._tape.graph is not graph:
            self.forces(graph, stress=False)
        tape = self._tape
        if tape is None:
            raise RuntimeError("these kernels are used by several threads at once: give each its own")
        y, element = np.empty(len(graph.numbers), self.path.kind), self.path.network.element_index(graph.numbers)

        def run(k: int) -> None:
            part, call = tape.parts[k], tape.calls[k]
            space = call.space
            displace_edges(
                call.bounds[0][1], space.center, space.neighbor, space.vectors, directions[part.atoms].numpy(),
                strains[part.structures].numpy(), part.graph.batch.numpy(), space.t_vectors,
            )  # fmt: skip
            TangentCall(call, self._by_y(part, seeds), self.totals[k]).run()
            y[part.atoms] = call.y

        self._clear_totals(len(tape.parts))
        run_shares(run, len(tape.parts))
        return self._finished(graph, y, element, len(tape.parts))

    def _parts(self, graph: Graph) -> list[Part]:
        """Shares of the threads."""
        return parts_of(graph, self.path.threads(len(graph.numbers), graph.edges.shape[1]))

    def _clear_totals(self, parts: int) -> None:
        """Sums for each thread, at zero."""
        self.totals += [ByWeights(self.path.network) for _ in range(parts - len(self.totals))]
        for total in self.totals:
            total.clear()

    def _space(self, k: int, graph: Graph) -> tuple[TangentSpace, int]:
        """The workspace of one thread, with the edges of the graph arranged in it, and their number."""
        limited, loops = self.path.network.limited(graph)
        atoms, edges = len(graph.numbers), limited.edges.shape[1] + len(loops)
        space = self._spaces.pop(k, None)
        if space is None or not space.fits(atoms, edges, 1):
            space = None  # the old memory is free before the new one is taken
            space = TangentSpace(self.path.weights, self.path.sizes, atoms, edges + edges // 16)
        self.path.arrange(limited, loops, space)
        self._spaces[k] = space  # not after an error: whatever should be zero may not be
        return space, edges

    def _by_y(self, part: Part, seeds: Tensor) -> NDArray[Any]:
        shares = seeds[part.structures].index_select(0, part.graph.batch)
        return (self.path.seeds(part.graph) * shares).numpy().astype(self.path.kind)

    def _finished(self, graph: Graph, y: NDArray[Any], element: Tensor, parts: int) -> EnergyGradient:
        network, total = self.path.network, self.totals[0]
        for other in self.totals[1:parts]:
            total.add(other)
        energies = network.energies_of(torch.from_numpy(y).to(torch.float64), element, graph)
        energy = graph.sum_by_structure(energies) + network.structure_shift
        return EnergyGradient(energy=energy, parameters=total.finished(network))


def _check(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tensor.shape != shape or tensor.dtype != torch.float64:
        raise ModelError(
            f"{name} of shape {tuple(tensor.shape)}, {tensor.dtype}: give shape {tuple(shape)} and torch.float64"
        )
