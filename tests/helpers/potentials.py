"""Two sound analytic potentials: pairs in the closed form of ASE's MorsePotential, and a smooth many-body form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from ase.data import atomic_numbers
from torch import Tensor

from mlcalc.models import Graph


def quintic(r: Tensor, start: float, end: float) -> Tensor:
    """1 below `start`, 0 above `end`, two continuous derivatives: the cutoff of ASE's MorsePotential."""
    s = (1 - (r - start) / (end - start)).clamp(0, 1)
    return s**3 * (10 - 15 * s + 6 * s**2)


@dataclass(frozen=True, eq=False)
class Morse:
    """Morse pairs, the closed form and the cutoff of ASE's MorsePotential."""

    elements: tuple[str, ...] = ("Cu",)
    cutoff: float = 4.0  # Å
    epsilon: float = 0.35  # eV
    rho0: float = 4.0
    r0: float = 2.6  # Å
    start: float = 3.0  # Å, where the cutoff function begins
    energy_shift: tuple[float, ...] = (0.0,)
    dtype: torch.dtype = torch.float64

    def __call__(self, graph: Graph) -> Tensor:
        r = torch.linalg.vector_norm(graph.edge_vectors().to(self.dtype), dim=1)
        e = torch.exp(self.rho0 * (1 - r / self.r0))
        pairs = 0.5 * self.epsilon * e * (e - 2) * self.fade(r)
        energies = torch.zeros(len(graph.numbers), dtype=self.dtype).index_add(0, graph.edges[0], pairs)
        return energies.to(torch.float64) + self.energy_shift[0]

    def fade(self, r: Tensor) -> Tensor:
        return quintic(r, self.start, self.cutoff)


class Neighbors(NamedTuple):
    """The edges as the densities see them."""

    i: Tensor  # (E,) central atoms
    q: Tensor  # (E,) charges of the neighbors
    w: Tensor  # (E,) weights
    u: Tensor  # (E, 3) unit vectors
    atoms: int

    def sum(self, values: Tensor) -> Tensor:
        return values.new_zeros(self.atoms, *values.shape[1:]).index_add(0, self.i, values)


@dataclass(frozen=True, eq=False)
class ManyBody:
    """Embedded densities, squared vector sums and one round of messages; smooth, element-wise.

    With q the charge of an element and w a decaying, cut-off weight, rho_i = sum_j q_j w_ij, V_i = sum_j q_j w_ij u_ij:
    E_i = shift_i + q_i (rho_i^2 / (1 + rho_i) - 2 rho_i + |V_i|^2 + sum_j w_ij tanh(rho_j)).
    """

    elements: tuple[str, ...] = ("Cu",)
    cutoff: float = 4.0  # Å
    energy_shift: tuple[float, ...] = ()
    dtype: torch.dtype = torch.float64

    def __call__(self, graph: Graph) -> Tensor:
        q = self.charges(graph.numbers)
        i, j, vectors = self.edges(graph)
        r = torch.linalg.vector_norm(vectors, dim=1)
        w = self.weight(r, graph)
        rho, V = self.sums(Neighbors(i, q[j], w, vectors / r[:, None], len(q)))
        around = torch.zeros_like(q).index_add(0, i, w * torch.tanh(rho)[j])
        return self.total(q * self.local(rho, V, around), graph) + self.shifts(graph.numbers)

    def charges(self, numbers: Tensor) -> Tensor:
        return 1 + 0.02 * numbers.to(self.dtype)

    def edges(self, graph: Graph) -> tuple[Tensor, Tensor, Tensor]:
        i, j = graph.edges
        return i, j, graph.edge_vectors().to(self.dtype)

    def weight(self, r: Tensor, graph: Graph) -> Tensor:
        return torch.exp(-0.7 * r) * self.fade(r)

    def fade(self, r: Tensor) -> Tensor:
        return quintic(r, 0.0, self.cutoff)

    def sums(self, near: Neighbors) -> tuple[Tensor, Tensor]:
        return near.sum(near.q * near.w), near.sum((near.q * near.w)[:, None] * near.u)

    def local(self, rho: Tensor, V: Tensor, around: Tensor) -> Tensor:
        return rho**2 / (1 + rho) - 2 * rho + (V * V).sum(1) + around

    def total(self, energies: Tensor, graph: Graph) -> Tensor:
        return energies.to(torch.float64)

    def shifts(self, numbers: Tensor) -> Tensor:
        table = torch.zeros(119, dtype=torch.float64)
        table[[atomic_numbers[e] for e in self.elements]] = torch.tensor(
            self.energy_shift or (0.0,) * len(self.elements), dtype=torch.float64
        )
        return table[numbers]
