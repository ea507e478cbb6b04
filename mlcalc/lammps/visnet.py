"""ViSNet on several ranks, which tell each other the states of atoms between its blocks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mlcalc.kernels.arrangement import spread
from mlcalc.kernels.threads import even_shares
from mlcalc.kernels.visnet.call import Call
from mlcalc.kernels.visnet.visnet import FusedViSNet
from mlcalc.lammps.ranks import Array, Halo, OwnResults, own_results
from mlcalc.models import Graph, ViSNet


def distributes(network: ViSNet) -> bool:
    """Whether ranks can exchange the states of atoms: not where the order of neighbors counts, or the mean energy."""
    return network.config.max_num_neighbors is None and network.config.reduce == "add"


class DistributedViSNet(FusedViSNet):
    """The fused ViSNet for the atoms of one rank."""

    def evaluate_own(self, graph: Graph, own: int, halo: Halo) -> OwnResults:
        """Energies of the first `own` atoms of the graph and their derivatives.

        The graph has all edges of these atoms, sorted, and none of the others, which are those of other ranks.  All
        ranks call this at the same time.
        """
        element = self.network.element_index(graph.numbers)
        limited, loops = self.network.limited(graph)
        loops = loops[loops < own]
        atoms, edges = len(graph.numbers), limited.edges.shape[1] + len(loops)
        wanted = atoms, edges, self.threads(atoms, edges)
        gradient, strain_gradient = np.zeros((atoms, 3)), np.zeros((1, 3, 3))
        with self._spaces.taken(lambda space: space.fits(*wanted), lambda: self._space(*wanted)) as space:
            self.arrange(limited, loops, space)
            seeds = self.seeds(graph).numpy().astype(self.kind)
            call = _OwnCall(self.weights, self.constants, space, element.numpy(), seeds)
            y = call.run_own(own, halo)
            spread_out: Any = spread  # kernels have no types
            spread_out(
                edges, space.center, space.neighbor, space.vectors, space.g_vectors, graph.batch.numpy(), gradient,
                strain_gradient,
            )  # fmt: skip
        y[own:] = 0
        energies = self.network.energies_of(torch.from_numpy(y).to(torch.float64), element, graph)
        return own_results(energies, own, halo, -gradient, -strain_gradient[0])


class _OwnCall(Call):
    """A call for the first atoms, which fetches the states of the others and brings derivatives by them home."""

    def run_own(self, own: int, halo: Halo) -> Array:
        """y (N,) of the own atoms; the derivatives of sum_i seed_i y_i are left in the workspace as g_vectors."""
        space, blocks, F = self.space, range(len(self.weights.blocks)), self.space.gx.shape[1]
        bounds = even_shares(space.first_edges[: own + 1], space.threads).tolist()
        self.atoms = list(pairwise(bounds))
        self.bounds = [(int(space.first_edges[a]), int(space.first_edges[b])) for a, b in self.atoms]
        rows = np.arange(own), np.arange(own, len(self.element))
        self._each(self._embed)
        halo.fetch([space.x[0], *self._read(0)], *rows)
        for k in blocks:
            self._each(self._block, k)
            if k + 1 in blocks:
                halo.fetch(self._read(k + 1), *rows)
        self._each(self._read_out)
        for k in reversed(blocks):
            self._each(self._block_back, k)
            written = [space.any_kv, *([space.any_vec] if k else [])]
            written += [space.any_q] if space.pq[k].shape[2] else []
            _home(written, halo, rows)
            self._each(self._atoms_back, k)
        self._each(self._embed_edges_back)
        _home([space.any_kv[:, :, :F]], halo, rows)
        self._each(self._geometry_back)
        return self.y

    def _read(self, k: int) -> list[Array]:
        """What the edges of a block read of their neighbors: keys and values, vectors, and one of two projections."""
        space, F = self.space, self.space.gx.shape[1]
        states = [space.qkv[k][:, F:], *([space.vec[k]] if k else [])]
        return [*states, *([space.pq[k][:, :, F:]] if space.pq[k].shape[2] else [])]


def _home(shares: Sequence[Array], halo: Halo, rows: tuple[NDArray[np.int64], NDArray[np.int64]]) -> None:
    """Bring home what the threads (T, N, ...) have for remote atoms, all in the share of the first one."""
    for share in shares:
        for other in share[1:]:
            share[0][rows[1]] += other[rows[1]]
            other[rows[1]] = 0
    halo.bring_home([share[0] for share in shares], *rows)
