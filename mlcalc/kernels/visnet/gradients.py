"""Derivatives of ViSNet's energies by its parameters, without automatic differentiation."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlcalc.kernels.gradients import EnergyGradient
from mlcalc.kernels.threads import run_shares
from mlcalc.kernels.visnet.by_weights import ByWeights
from mlcalc.kernels.visnet.gradient_call import GradientCall, GradientSpace
from mlcalc.kernels.visnet.parts import parts_of
from mlcalc.kernels.visnet.visnet import FusedViSNet, visnet_path
from mlcalc.kernels.visnet.weights import packed
from mlcalc.kernels.workspace import Workspaces
from mlcalc.models import Graph, ModelError, Network, Prediction, ViSNet


def visnet_gradients(network: ViSNet, dtype: torch.dtype) -> ViSNetGradients | str:
    """The kernels for the training of this network, or why there are none."""
    path = visnet_path(copy.deepcopy(network).requires_grad_(False), dtype)
    return path if isinstance(path, str) else ViSNetGradients(path)


class ViSNetGradients:
    """Kernels on the CPU for the training of a ViSNet of energies; it keeps weights of its own."""

    name = "fused CPU kernels"

    def __init__(self, path: FusedViSNet) -> None:
        self.path = path
        self.path.sizes = replace(path.sizes, kept_bytes=2**62)  # training batches are small
        self._spaces: Workspaces[GradientSpace] = Workspaces()
        self.totals: list[ByWeights] = []

    def refresh(self, network: Network) -> None:
        """Take over the weights of the network as they are now."""
        own = self.path.network
        with torch.no_grad():
            for target, source in zip(own.parameters(), network.parameters(), strict=True):
                target.copy_(source)
        self.path.weights = packed(own)

    def forces(self, graph: Graph, *, stress: bool) -> Prediction:
        """What `predict` gives for the graph, with the weights of the last `refresh`."""
        return self.path.evaluate(graph, forces=True, stress=stress)

    def gradient(self, graph: Graph, seeds: Tensor) -> EnergyGradient:
        """Energies (S,) eV, and the derivatives of the sum of seeds (S,), float64, times energies by the parameters."""
        if seeds.shape != (graph.n_structures,):
            raise ModelError(
                f"seeds of shape {tuple(seeds.shape)} for {graph.n_structures} structures: give one for each, (S,)"
            )
        network = self.path.network
        element = network.element_index(graph.numbers)
        parts = parts_of(graph, self.path.threads(len(graph.numbers), graph.edges.shape[1]))
        self.totals += [ByWeights(network) for _ in range(len(parts) - len(self.totals))]
        y = np.empty(len(graph.numbers), self.path.kind)

        def run(k: int) -> None:
            part, total = parts[k], self.totals[k]
            total.clear()
            y[part.atoms] = self._run(part.graph, element[part.atoms], seeds[part.structures], total)

        run_shares(run, len(parts))
        total = self.totals[0]
        for other in self.totals[1 : len(parts)]:
            total.add(other)
        energies = network.energies_of(torch.from_numpy(y).to(torch.float64), element, graph)
        energy = graph.sum_by_structure(energies) + network.structure_shift
        return EnergyGradient(energy=energy, parameters=total.finished(network))

    def _run(self, graph: Graph, element: Tensor, seeds: Tensor, total: ByWeights) -> NDArray[Any]:
        """y (N,) of the graph, and the derivatives of sum_s seed_s E_s by the weights, added to the total."""
        path = self.path
        limited, loops = path.network.limited(graph)
        atoms, edges = len(element), limited.edges.shape[1] + len(loops)
        with self._spaces.taken(
            lambda space: space.fits(atoms, edges, 1),
            lambda: GradientSpace(path.weights, path.sizes, atoms, edges + edges // 16),
        ) as space:
            path.arrange(limited, loops, space)
            by_y = (path.seeds(graph) * seeds.index_select(0, graph.batch)).numpy().astype(path.kind)
            return GradientCall(path.weights, path.constants, space, element.numpy(), by_y, total).run()
