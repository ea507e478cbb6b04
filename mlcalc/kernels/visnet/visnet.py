"""Energies and forces of ViSNet without automatic differentiation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlcalc.kernels.arrangement import arrange, spread
from mlcalc.kernels.visnet.call import Call, Constants
from mlcalc.kernels.visnet.space import Sizes, Space
from mlcalc.kernels.visnet.weights import packed
from mlcalc.kernels.workspace import Workspaces
from mlcalc.models import Graph, ModelError, Prediction, ViSNet
from mlcalc.models.prediction import assembled

KEPT_BYTES = 2**30  # of edge projections that are kept for the way back; those of other blocks are computed again
_WORTH_A_THREAD = 2e7  # floating-point operations of one pass over the edges
_KNOWN = {
    "vertex_type": ("none", "edge"),
    "vecnorm_type": ("none",),
    "trainable_vecnorm": (False,),
    "activation": ("silu", "swish"),
    "attn_activation": ("silu", "swish"),
}


def visnet_path(network: ViSNet, dtype: torch.dtype) -> FusedViSNet | str:
    """The fused network, or why this one has none."""
    config = network.config
    if config.quantity != "energy":
        return f"no fused kernels: they are for energies, and this ViSNet predicts {config.quantity}"
    for name, known in _KNOWN.items():
        if getattr(config, name) not in known:
            return f"no fused kernels: there are none for {name} {getattr(config, name)!r} of ViSNet"
    if config.num_layers < 2:
        return "no fused kernels: there are none for a ViSNet of one layer"
    return FusedViSNet(network, dtype)


class FusedViSNet:
    """A ViSNet of energies, by kernels on the CPU; several threads may use one."""

    name = "fused CPU kernels"

    def __init__(self, network: ViSNet, dtype: torch.dtype) -> None:
        self.network = network.to(dtype)
        self.weights = packed(self.network)
        config = network.config
        self.kind = self.weights.readout[0].dtype
        self.constants = Constants(
            heads=_heads(config.hidden_channels, config.num_heads, self.kind),
            smooth=config.variant == "smooth",
            rejects=config.lmax == 1,
            scale=self.kind.type(1 / config.neighbor_norm),
            epsilon=self.kind.type(network.out_norm.eps),
        )
        components = 8 if config.lmax == 2 else 3
        self.sizes = Sizes(config.hidden_channels, components, config.num_rbf, config.num_heads, KEPT_BYTES)
        self._spaces: Workspaces[Space] = Workspaces()

    def evaluate(self, graph: Graph, *, forces: bool, stress: bool) -> Prediction:
        """What `predict` gives for the graph."""
        element = self.network.element_index(graph.numbers)
        limited, loops = self.network.limited(graph)
        atoms, edges = len(graph.numbers), limited.edges.shape[1] + len(loops)
        wanted = atoms, edges, self.threads(atoms, edges)
        gradient = np.zeros((atoms, 3)) if forces or stress else None
        strain_gradient = np.zeros((graph.n_structures if stress else 0, 3, 3))
        with self._spaces.taken(lambda space: space.fits(*wanted), lambda: self._space(*wanted)) as space:
            self.arrange(limited, loops, space)
            seeds = None if gradient is None else self.seeds(graph).numpy().astype(self.kind)
            y = Call(self.weights, self.constants, space, element.numpy(), seeds).run()
            if gradient is not None:
                spread(
                    edges, space.center, space.neighbor, space.vectors, space.g_vectors, graph.batch.numpy(), gradient,
                    strain_gradient,
                )  # fmt: skip
        return assembled(
            self.network,
            graph,
            self.network.energies_of(torch.from_numpy(y).to(torch.float64), element, graph),
            gradient=torch.from_numpy(gradient) if forces and gradient is not None else None,
            strain_gradient=torch.from_numpy(strain_gradient) if stress else None,
        )

    @property
    def held_bytes(self) -> int:
        """Memory that it keeps for the next call."""
        return self._spaces.held_bytes

    def memory(self, atoms: int, edges: int) -> int:
        """Bytes of the workspace of one call."""
        F, S, blocks = self.sizes.channels, self.sizes.components, len(self.weights.blocks)
        threads, edges = self.threads(atoms, edges), edges + atoms
        per_edge = (blocks + 1) * F + 2 * self.sizes.num_rbf + 2 * S + 14
        per_atom = blocks * (7 + 6 * S) * F + (2 + 2 * S) * F * threads + (10 + 6 * S) * F
        kept = min(self.sizes.kept_bytes, edges * blocks * 5 * F * self.kind.itemsize)
        return int(1.06 * self.kind.itemsize * (edges * per_edge + atoms * per_atom) + kept)

    def _space(self, atoms: int, edges: int, threads: int) -> Space:
        """Room for this call and, the number of edges being different in each step of a run, for some more."""
        return Space(self.weights, self.sizes, atoms, edges + edges // 16, threads)

    def threads(self, atoms: int, edges: int) -> int:
        """How many threads a call of this size is worth."""
        work = 20.0 * self.sizes.channels**2 * edges
        return max(1, min(torch.get_num_threads(), int(work / _WORTH_A_THREAD), atoms))

    def arrange(self, graph: Graph, loops: Tensor, space: Space) -> None:
        """Puts the edges of the graph and these self loops into the workspace, in the order of their centers."""
        looped = np.zeros(len(graph.numbers), dtype=np.bool_)
        looped[loops.numpy()] = True
        is_sorted = arrange(
            graph.edges.numpy(), graph.shifts.to(torch.float64).numpy(), graph.positions.numpy(), graph.cell.numpy(),
            graph.batch.numpy(), looped, space.first_edges, space.center, space.neighbor, space.is_loop, space.vectors,
        )  # fmt: skip
        if not is_sorted:
            raise ModelError("the edges of the graph are not sorted by their central atoms, edges[0]: sort them")

    def seeds(self, graph: Graph) -> Tensor:
        """Derivatives of the structures' energies by y, (N,) float64."""
        scale = self.network.config.energy_scale
        if self.network.config.reduce == "add":
            return torch.full((len(graph.numbers),), scale, dtype=torch.float64)
        return graph.equal_shares(torch.full((graph.n_structures,), scale, dtype=torch.float64))


def _heads(channels: int, heads: int, kind: np.dtype[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Sums over the channels of each head as a matrix product, and back."""
    spread = np.repeat(np.eye(heads, dtype=kind), channels // heads, axis=1)
    return np.ascontiguousarray(spread.T), spread
