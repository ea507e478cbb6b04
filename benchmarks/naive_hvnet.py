"""HVNet in plain torch, edge by edge: gather, multiply, index_add, autograd; the equations of docs/networks.md."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear, silu, softplus

from mlcalc.models import Graph, HVNet


@dataclass(frozen=True, eq=False)
class _Edges:
    """Those into the atoms of one element."""

    i: Tensor
    j: Tensor
    c: Tensor  # (E, 1) envelope
    radial: Tensor  # (E, num_rbf + 1)
    u: Tensor  # (E, 3, 1)


class NaiveHVNet:
    """Energy of each structure, (S,), of the weights of a smooth HVNet."""

    def __init__(self, network: HVNet, dtype: torch.dtype, device: str = "cpu") -> None:
        self.config = network.config
        self.state = {name: tensor.to(device, dtype) for name, tensor in network.state_dict().items()}
        self.dtype = dtype

    def __call__(self, graph: Graph, positions: Tensor) -> Tensor:
        config = self.config
        element = _element_index(graph.numbers, config.elements)
        every = self._edges(graph, positions)
        kinds = [_into(every, element == kind) for kind in range(len(config.elements))]
        s = self.state["embed.weight"][element]
        v = s.new_zeros(len(s), 3, config.hidden_channels)
        radial, angular = (_painn_radial, _painn_angular) if config.sub_network == "painn" else (_radial, _angular)
        for layer in range(config.num_layers):
            weights = [self._weights(f"hermconv.{layer}.mods.{symbol}.") for symbol in config.elements]
            sums = [radial(w, s, v, edges) for w, edges in zip(weights, kinds, strict=True)]
            s = s + sum(ds for ds, _ in sums) / config.neighbor_norm
            v = v + sum(dv for _, dv in sums) / config.neighbor_norm
            changes = [angular(w, s, v, edges) for w, edges in zip(weights, kinds, strict=True)]
            own = [(element == kind).to(s.dtype)[:, None] for kind in range(len(kinds))]
            s = s + sum(mask * ds for mask, (ds, _) in zip(own, changes, strict=True))
            v = v + sum(mask[:, :, None] * dv for mask, (_, dv) in zip(own, changes, strict=True))
        w = self._weights("readout.")
        y = linear(silu(linear(s, w["0.weight"], w["0.bias"])), w["2.weight"], w["2.bias"])[:, 0]
        energies: Tensor = config.energy_scale * y + s.new_tensor(config.energy_shift)[element]
        return energies.new_zeros(graph.n_structures).index_add(0, graph.batch, energies)

    def _weights(self, prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): w for name, w in self.state.items() if name.startswith(prefix)}

    def _edges(self, graph: Graph, positions: Tensor) -> _Edges:
        i, j = graph.edges
        shifts = (graph.shifts[:, None] @ graph.cell[graph.batch[i]])[:, 0].to(self.dtype)
        vectors = positions[j] - positions[i] + shifts
        r = vectors.norm(dim=1, keepdim=True)
        x, p = r / self.config.cutoff, self.config.envelope_exponent
        c = 1 - (p + 1) * (p + 2) / 2 * x**p + p * (p + 2) * x ** (p + 1) - p * (p + 1) / 2 * x ** (p + 2)
        orders = torch.arange(1, self.config.num_rbf + 1, dtype=self.dtype, device=r.device)
        bessel = math.sqrt(2 / self.config.cutoff) * torch.sin(orders * math.pi * x) / r
        return _Edges(i, j, c, c * torch.cat([bessel, torch.ones_like(r)], 1), (vectors / r)[:, :, None])


def _element_index(numbers: Tensor, elements: tuple[str, ...]) -> Tensor:
    from ase.data import atomic_numbers

    known = numbers.new_tensor([atomic_numbers[symbol] for symbol in elements])
    return (numbers[:, None] == known).to(torch.int64).argmax(1)


def _into(edges: _Edges, mine: Tensor) -> _Edges:
    if bool(mine.all()):
        return edges
    chosen = mine[edges.i].nonzero()[:, 0]
    return _Edges(edges.i[chosen], edges.j[chosen], edges.c[chosen], edges.radial[chosen], edges.u[chosen])


def _messages(phi: Tensor, filters: Tensor, s: Tensor, v: Tensor, edges: _Edges) -> tuple[Tensor, Tensor]:
    a, b, g = (phi[edges.j] * filters).chunk(3, dim=1)
    vectors = a[:, None] * v[edges.j] + g[:, None] * edges.u
    return torch.zeros_like(s).index_add(0, edges.i, b), torch.zeros_like(v).index_add(0, edges.i, vectors)


def _radial(w: dict[str, Tensor], s: Tensor, v: Tensor, edges: _Edges) -> tuple[Tensor, Tensor]:
    phi = linear(_ssp(linear(s, w["ms1.weight"], w["ms1.bias"])), w["ms2.weight"], w["ms2.bias"])
    return _messages(phi, linear(edges.radial, w["mv.weight"]), s, v, edges)


def _angular(w: dict[str, Tensor], s: Tensor, v: Tensor, edges: _Edges) -> tuple[Tensor, Tensor]:
    both = torch.cat([_smooth_norm(v), s], 1)
    t = linear(_ssp(linear(both, w["us1.weight"], w["us1.bias"])), w["us2.weight"], w["us2.bias"])
    a_vv, a_sv, a_ss = _mean(t, edges).chunk(3, dim=1)
    U = _mean(v.flatten(1), edges).view_as(v)
    return a_sv * _smooth_norm(U) + a_ss, a_vv[:, None] * U


def _mean(values: Tensor, edges: _Edges) -> Tensor:
    """(X_i + sum_j c_ij X_j) / (1 + sum_j c_ij)"""
    weights = values.new_ones(len(values), 1).index_add(0, edges.i, edges.c)
    return values.index_add(0, edges.i, edges.c * values[edges.j]) / weights


def _painn_radial(w: dict[str, Tensor], s: Tensor, v: Tensor, edges: _Edges) -> tuple[Tensor, Tensor]:
    hidden = silu(linear(s, w["message1.weight"], w["message1.bias"]))
    phi = linear(hidden, w["message2.weight"], w["message2.bias"])
    return _messages(phi, linear(edges.radial, w["filters.weight"]), s, v, edges)


def _painn_angular(w: dict[str, Tensor], s: Tensor, v: Tensor, edges: _Edges) -> tuple[Tensor, Tensor]:
    Uv, Vv = linear(v, w["mix.weight"]).chunk(2, dim=2)
    hidden = silu(linear(torch.cat([_smooth_norm(Vv), s], 1), w["update1.weight"], w["update1.bias"]))
    a_vv, a_sv, a_ss = linear(hidden, w["update2.weight"], w["update2.bias"]).chunk(3, dim=1)
    return a_sv * (Uv * Vv).sum(1) + a_ss, a_vv[:, None] * Uv


def _ssp(x: Tensor) -> Tensor:
    return softplus(x) - math.log(2)


def _smooth_norm(v: Tensor) -> Tensor:
    return torch.sqrt(1 + (v * v).sum(1)) - 1
