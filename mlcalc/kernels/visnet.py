"""Energies and forces of ViSNet without automatic differentiation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mlcalc.kernels.arrangement import spread
from mlcalc.kernels.visnet_call import Call, arranged
from mlcalc.kernels.visnet_weights import packed
from mlcalc.kernels.workspace import Workspaces
from mlcalc.models import Graph, Prediction, ViSNet
from mlcalc.models.prediction import assembled

KEPT_BYTES = 2**30  # of edge projections that are kept for the way back; those of other blocks are computed again
_SHARE = 2e7  # floating-point operations; a share of less is not worth a thread


def visnet_path(network: ViSNet, dtype: torch.dtype) -> FusedViSNet | str:
    """The fused network, or why this one has none."""
    config = network.config
    if config.quantity != "energy" or config.head != "scalar":
        return f"fused kernels are for energies, and this ViSNet predicts {config.quantity}"
    for name, allowed in (
        ("vertex_type", ("none", "edge")),
        ("vecnorm_type", ("none",)),
        ("trainable_vecnorm", (False,)),
        ("activation", ("silu", "swish")),
        ("attn_activation", ("silu", "swish")),
    ):
        if getattr(config, name) not in allowed:
            return f"fused kernels do not know {name} {getattr(config, name)!r} of ViSNet"
    if config.num_layers < 2:
        return "fused kernels are for a ViSNet of two layers or more"
    return FusedViSNet(network, dtype)


class FusedViSNet:
    """A ViSNet of energies, by kernels; several threads may use one."""

    name = "fused CPU kernels"

    def __init__(self, network: ViSNet, dtype: torch.dtype) -> None:
        self.network = network.to(dtype)
        self.kind = np.dtype(str(dtype).removeprefix("torch."))
        self.weights = packed(self.network)
        self.workspaces = Workspaces()

    def evaluate(self, graph: Graph, *, forces: bool, stress: bool) -> Prediction:
        """What `predict` gives for the graph."""
        network = self.network
        element = network.element_index(graph.numbers)
        limited, loops = network.limited(graph)
        y = np.empty(len(graph.numbers), self.kind)
        gradient = np.zeros((len(graph.numbers), 3)) if forces or stress else None
        strain_gradient = np.zeros((graph.n_structures if stress else 0, 3, 3))
        with self.workspaces.taken() as space:
            geometry = arranged(limited, loops, element, space, self.kind)
            call = Call(
                self.weights, network.config, space, geometry, shares=self.shares(graph), kept=KEPT_BYTES
            )
            g_vectors = None
            if gradient is not None:
                g_vectors = space.array("g_vectors", geometry.vectors.shape, self.kind)
            call.run(self._seeds(graph), y, g_vectors)
            if gradient is not None:
                spread(
                    geometry.center, geometry.neighbor, geometry.vectors, g_vectors, graph.batch.numpy(), gradient,
                    strain_gradient,
                )  # fmt: skip
        energies = network.energies_of(torch.from_numpy(y), element, graph)
        return assembled(
            network,
            graph,
            energies,
            gradient=torch.from_numpy(gradient) if forces else None,
            strain_gradient=torch.from_numpy(strain_gradient) if stress else None,
        )

    def _seeds(self, graph: Graph) -> NDArray[Any]:
        """Derivatives of the structures' energies by y, (N,)."""
        scale = self.network.config.energy_scale
        if self.network.config.reduce == "add":
            return np.full(len(graph.numbers), scale, self.kind)
        return graph.equal_shares(torch.full((graph.n_structures,), scale, dtype=torch.float64)).numpy().astype(self.kind)

    def shares(self, graph: Graph) -> int:
        F = self.network.config.hidden_channels
        work = 20.0 * F * F * graph.edges.shape[1]
        return max(1, min(torch.get_num_threads(), int(work / _SHARE), len(graph.numbers)))

    def memory(self, atoms: int, edges: int) -> int:
        """Estimate of the bytes of one call."""
        config = self.network.config
        F, L, S = config.hidden_channels, config.num_layers, 8 if config.lmax == 2 else 3
        threads = torch.get_num_threads()
        size = self.kind.itemsize
        edges += atoms
        kept = min(KEPT_BYTES, 5 * L * edges * F * size)
        per_edge = (L + 1) * F + config.num_rbf * 2 + 2 * S + 12
        per_atom = L * (8 + 6 * S) * F + threads * (2 + 2 * S) * F + (8 + 5 * S) * F
        return int(kept + size * (edges * per_edge + atoms * per_atom))
