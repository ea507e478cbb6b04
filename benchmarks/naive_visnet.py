"""The published equations of ViSNet in plain torch, edge by edge: what one writes down after reading the paper.

Vectorized over edges, differentiated by autograd, without any of the identities that make it cheaper.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.functional import silu

from benchmarks.networks import State
from mlcalc.models import Graph, ViSNetConfig


class _Edges(NamedTuple):
    """Those of the neighbors, then the self loops."""

    i: Tensor  # targets
    j: Tensor  # sources
    r: Tensor
    C: Tensor  # (E, 1) cosine cutoff
    d: Tensor  # (E, S, 1) harmonics


class NaiveViSNet:
    """Energy of each structure, (S,), of the weights in `state`, on edges with the self loops appended."""

    def __init__(self, state: State, config: ViSNetConfig, dtype: torch.dtype, device: str = "cpu") -> None:
        self.state = {name: tensor.to(device, dtype) for name, tensor in state.items()}
        self.config, self.dtype = config, dtype

    def __call__(self, graph: Graph, positions: Tensor) -> Tensor:
        config, root = self.config, "representation_model"
        edges = self._edges(graph, positions)
        i, j, r, C, _ = edges
        means, betas = (self.state[f"{root}.distance_expansion.{name}"] for name in ("means", "betas"))
        phi = C * torch.exp(-betas * (torch.exp(-5 / config.cutoff * r)[:, None] - means) ** 2)
        x = self.state[f"{root}.embedding.weight"][graph.numbers]
        near = self.state[f"{root}.neighbor_embedding.embedding.weight"][graph.numbers]
        real = (torch.arange(len(i), device=i.device) < graph.edges.shape[1])[
            :, None
        ]  # an atom is no neighbor of itself
        filters = self._linear(f"{root}.neighbor_embedding.distance_proj", phi) * C * real
        around = torch.zeros_like(x).index_add(0, i, near[j] * filters)
        x = self._linear(f"{root}.neighbor_embedding.combine", torch.cat([x, around], 1))
        f = (x[i] + x[j]) * self._linear(f"{root}.edge_embedding.edge_proj", phi)
        vec = x.new_zeros(len(x), edges.d.shape[1], config.hidden_channels)
        for layer in range(config.num_layers):
            name, last = f"{root}.vis_mp_layers.{layer}", layer == config.num_layers - 1
            x, vec, f = self._block(name, (x, vec, f), edges, last=last)
        x, vec = self._norm(f"{root}.out_norm", x), vec * self.state[f"{root}.vec_out_norm.weight"]
        energies = config.energy_scale * self._readout(x, vec)[:, 0]
        return energies.new_zeros(graph.n_structures).index_add(0, graph.batch, energies)

    def _edges(self, graph: Graph, positions: Tensor) -> _Edges:
        loops = torch.arange(len(positions), device=positions.device)
        i, j = torch.cat([graph.edges, loops.expand(2, -1)], dim=1)
        shifts = (graph.shifts[:, None] @ graph.cell[graph.batch[graph.edges[0]]])[:, 0].to(self.dtype)
        vectors = positions[graph.edges[1]] - positions[graph.edges[0]] + shifts
        r = vectors.norm(dim=1)
        d = _harmonics(vectors / r[:, None], self.config.lmax)
        r, d = torch.cat([r, r.new_zeros(len(loops))]), torch.cat([d, d.new_zeros(len(loops), d.shape[1])])
        C = 0.5 * (torch.cos(r * math.pi / self.config.cutoff) + 1)
        return _Edges(i, j, r, C[:, None], d[:, :, None])

    def _block(
        self, name: str, state: tuple[Tensor, Tensor, Tensor], edges: _Edges, *, last: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        (x, vec, f), (i, j, _, C, d) = state, edges
        H = self.config.hidden_channels
        x_, v_ = self._norm(f"{name}.layernorm", x), vec * self.state[f"{name}.vec_layernorm.weight"]
        q, k, v = (self._heads(f"{name}.{part}_proj", x_) for part in "qkv")
        dk, dv = (silu(self._heads(f"{name}.{part}_proj", f)) for part in ("dk", "dv"))
        v1, v2, v3 = self._linear(f"{name}.vec_proj", v_).split(H, dim=2)
        attention = silu((q[i] * k[j] * dk).sum(2)) * C
        m = (attention[:, :, None] * v[j] * dv).flatten(1)
        s1, s2 = silu(self._linear(f"{name}.s_proj", m)).split(H, dim=1)
        messages = v_[j] * s1[:, None] + s2[:, None] * d
        sums = torch.zeros_like(x).index_add(0, i, m)
        o1, o2, o3 = self._linear(f"{name}.o_proj", sums).split(H, dim=1)
        dx = (v1 * v2).sum(1) * o2 + o3
        dvec = v3 * o1[:, None] + torch.zeros_like(vec).index_add(0, i, messages)
        if not last:
            target = _rejected(self._linear(f"{name}.w_trg_proj", v_[i]), d)
            source = _rejected(self._linear(f"{name}.w_src_proj", v_[j]), d)
            f = f + silu(self._linear(f"{name}.f_proj", f)) * (target * source).sum(1)
        return x + dx, vec + dvec, f

    def _readout(self, x: Tensor, vec: Tensor) -> Tensor:
        for number in (0, 1):
            name = f"output_model.output_network.{number}"
            lengths = _norm_of(self._linear(f"{name}.vec1_proj", vec))
            hidden = silu(self._linear(f"{name}.update_net.0", torch.cat([x, lengths], 1)))
            x, gate = self._linear(f"{name}.update_net.2", hidden).chunk(2, dim=1)
            vec = gate[:, None] * self._linear(f"{name}.vec2_proj", vec)
            x = x if number else silu(x)
        return x

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return functional.linear(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"))

    def _heads(self, name: str, x: Tensor) -> Tensor:
        return self._linear(name, x).view(len(x), self.config.num_heads, -1)

    def _norm(self, name: str, x: Tensor) -> Tensor:
        return functional.layer_norm(x, x.shape[1:], self.state[f"{name}.weight"], self.state[f"{name}.bias"])


def _rejected(w: Tensor, d: Tensor) -> Tensor:
    return w - (w * d).sum(1, keepdim=True) * d


def _norm_of(v: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(v, dim=1)
    return length


def _harmonics(u: Tensor, lmax: int) -> Tensor:
    if lmax == 1:
        return u
    x, y, z = u.unbind(1)
    root = math.sqrt(3)
    second = [root * x * z, root * x * y, y**2 - (x**2 + z**2) / 2, root * y * z, root / 2 * (z**2 - x**2)]
    return torch.cat([u, torch.stack(second, 1)], 1)
