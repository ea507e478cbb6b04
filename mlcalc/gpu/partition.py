"""Networks that take their graph apart by element, given the parts from outside in fixed sizes."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mlcalc.gpu.padding import Sizes, bucket
from mlcalc.models import Graph, HVNet, Potential
from mlcalc.models.hvnet_subnetworks import Neighborhood, weight_matrix


@dataclass(frozen=True, eq=False)
class Parts:
    """Of each element, its atoms and the edges into them, filled up with a dummy atom and a dummy edge."""

    atoms: tuple[Tensor, ...]
    edges: tuple[Tensor, ...]

    def copy_from(self, other: Parts) -> None:
        for mine, new in zip((*self.atoms, *self.edges), (*other.atoms, *other.edges), strict=True):
            mine.copy_(new)


def needs_parts(potential: Potential) -> bool:
    """Whether this is a network whose graph must be taken apart by element before it runs on fixed sizes."""
    return isinstance(potential, HVNet) and potential.original is None and len(potential.elements) > 1


def part_sizes(graph: Graph, network: HVNet) -> tuple[int, ...]:
    """Padded numbers of atoms and of edges of each element, in Parts' order."""
    element = element_of(graph.numbers, network)
    kinds = len(network.elements)
    atoms = torch.bincount(element, minlength=kinds)
    edges = torch.bincount(element.index_select(0, graph.edges[0]), minlength=kinds)
    return tuple(bucket(count + 1) for count in torch.cat([atoms, edges]).tolist())


def parts_of(graph: Graph, network: HVNet, sizes: tuple[int, ...], padded: Sizes) -> Parts:
    """The real graph's atoms and edges by element, filled up with the last atom and edge of the padded one: dummies."""
    element = element_of(graph.numbers, network)
    center = element.index_select(0, graph.edges[0])
    kinds = len(network.elements)
    atoms, edges = padded.atoms - 1, padded.edges - 1
    return Parts(
        tuple(filled(element == kind, sizes[kind], atoms) for kind in range(kinds)),
        tuple(filled(center == kind, sizes[kinds + kind], edges) for kind in range(kinds)),
    )


def element_of(numbers: Tensor, network: HVNet) -> Tensor:
    """Place of each atom's element in the network's list, (N,), on the device of the numbers."""
    return network.element_index.table.to(numbers.device)[numbers]


def filled(mine: Tensor, size: int, dummy: int) -> Tensor:
    """Indices where `mine` is true, filled up to the size with the dummy's."""
    found = mine.nonzero().squeeze(1)
    return torch.cat([found, found.new_full((size - len(found),), dummy)])


class PartitionedHVNet:
    """A smooth HVNet of several elements whose neighborhoods are cut out by `parts`, not by looking at the elements."""

    def __init__(self, network: Potential) -> None:
        if not isinstance(network, HVNet):
            raise TypeError(f"{type(network).__name__} is not taken apart by element")
        self.parts: Parts | None = None
        self._whole = copy.copy(network)  # the same weights, told that there is one element: all edges together
        self._whole.elements = network.elements[:1]
        network._neighborhoods = self._neighborhoods  # type: ignore[method-assign]

    def _neighborhoods(self, graph: Graph, element: Tensor) -> list[Neighborhood]:
        (whole,) = self._whole._neighborhoods(graph, element)
        if self.parts is None:
            raise RuntimeError("the parts of the graph must be given before the network runs")
        return [_part(whole, *part) for part in zip(self.parts.atoms, self.parts.edges, strict=True)]


def _part(whole: Neighborhood, atoms: Tensor, edges: Tensor) -> Neighborhood:
    center, neighbor, weight = (x.index_select(0, edges) for x in (whole.center, whole.neighbor, whole.weight))
    return replace(
        whole,
        atoms=atoms,
        center=center,
        neighbor=neighbor,
        weight=weight,
        radial=whole.radial.index_select(0, edges),
        direction=whole.direction.index_select(0, edges),
        weights=weight_matrix(weight, center, neighbor, len(whole.mean_norm)),
    )
