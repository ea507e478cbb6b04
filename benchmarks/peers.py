"""The codes that run on torch, each behind the same two methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from ase import Atoms
from torch import Tensor, nn

from benchmarks.calls import Call, Peer, neighborhood
from benchmarks.cases import Case
from benchmarks.naive_hvnet import NaiveHVNet
from benchmarks.naive_visnet import NaiveViSNet
from benchmarks.networks import RECIPES, Model, model
from mlcalc import evaluate
from mlcalc.engine.engine import Engine
from mlcalc.graphs.graphs import atoms_to_graph
from mlcalc.models import Graph, HVNet, join_graphs

_KERNELS = {"mlcalc": "auto", "mlcalc-torch": "torch", "mlcalc-compile": "compile", "reference": "torch"}
_EDGES_PER_BATCH = 6000  # of the peers, which have no batches of their own: about 175 atoms


def torch_peer(case: Case, structures: Sequence[Atoms]) -> Peer:
    """The peer of a case with the weights of its network; ModuleNotFoundError where it is not installed."""
    torch.set_num_threads(case.threads)
    built = built_model(case, structures)
    dtype = getattr(torch, case.dtype)
    if case.peer in _KERNELS:
        return Ours(built, case.dtype, _KERNELS[case.peer], case.device)
    if case.peer == "naive":
        network = built.network
        naive = (
            NaiveHVNet(network, dtype, case.device)
            if isinstance(network, HVNet)
            else NaiveViSNet(built.state, network.config, dtype, case.device)
        )
        return Differentiated(naive, built.network.cutoff, dtype, device=case.device)
    return PyG(built, dtype, create_graph=case.peer == "pyg-as-shipped", device=case.device)


def built_model(case: Case, structures: Sequence[Atoms]) -> Model:
    """The network of a case, for the elements of its structures."""
    elements = sorted({symbol for atoms in structures for symbol in atoms.symbols})
    small = neighborhood(structures[0])
    return model(RECIPES[case.network], elements, atoms_to_graph(small, 5.0), seed=case.seed)


class Ours:
    """This package's engine; many structures go through `evaluate`, neighbor lists included."""

    def __init__(self, built: Model, dtype: str, kernels: str, device: str = "cpu") -> None:
        self.network = built.network
        self.choice: dict[str, Any] = {"dtype": dtype, "kernels": kernels, "device": device}
        self.engine = Engine(built.network, **self.choice)
        self.path = self.engine.path

    def prepare(self, structures: list[Atoms]) -> tuple[Call, int]:
        graphs = [atoms_to_graph(atoms, self.network.cutoff) for atoms in structures]
        edges = sum(graph.edges.shape[1] for graph in graphs)
        return (self._one(graphs[0]) if len(graphs) == 1 else self._many(structures)), edges

    def _one(self, graph: Graph) -> Call:
        def call() -> tuple[np.ndarray, np.ndarray]:
            result = self.engine.evaluate(graph, forces=True, stress=False)
            return _array(result.energy), _array(result.forces)

        return call

    def _many(self, structures: list[Atoms]) -> Call:
        def call() -> tuple[np.ndarray, np.ndarray]:
            found = evaluate(self.network, structures, **self.choice)
            return np.array([e.energy for e in found]), np.concatenate([e.forces for e in found])

        return call


def _array(value: Tensor | None) -> np.ndarray:
    return cast("Tensor", value).detach().to("cpu", torch.float64).numpy()


class Differentiated:
    """Any function of graph and positions that returns energies (S,), differentiated by autograd."""

    path = "autograd"

    def __init__(
        self, energy: Callable[[Graph, Tensor], Tensor], cutoff: float, dtype: torch.dtype, *, device: str = "cpu"
    ) -> None:
        self.energy, self.cutoff, self.dtype, self.device = energy, cutoff, dtype, device
        self.create_graph = False

    def prepare(self, structures: list[Atoms]) -> tuple[Call, int]:
        graphs = [atoms_to_graph(atoms, self.cutoff) for atoms in structures]
        batches = [batch.to(self.device) for batch in _batches(graphs)]
        return lambda: self._results(batches), sum(graph.edges.shape[1] for graph in graphs)

    def _results(self, batches: list[Graph]) -> tuple[np.ndarray, np.ndarray]:
        energies, forces = zip(*map(self._both, batches), strict=True)
        return np.concatenate(energies), np.concatenate(forces)

    def _both(self, graph: Graph) -> tuple[np.ndarray, np.ndarray]:
        positions = graph.positions.to(self.dtype).requires_grad_(True)
        energy = self.energy(graph, positions)
        options = {"create_graph": True, "retain_graph": True} if self.create_graph else {}
        (gradient,) = torch.autograd.grad(energy, positions, torch.ones_like(energy), **options)
        return _array(energy), -_array(gradient)


def _batches(graphs: list[Graph]) -> list[Graph]:
    batches: list[list[Graph]] = [[]]
    edges = 0
    for graph in graphs:
        edges += graph.edges.shape[1]
        if batches[-1] and edges > _EDGES_PER_BATCH:
            batches.append([])
            edges = graph.edges.shape[1]
        batches[-1].append(graph)
    return [join_graphs(batch) for batch in batches]


class PyG(Differentiated):
    """PyTorch Geometric's ViSNet, its search for neighbors replaced by the edges everyone gets.

    Its own search needs a compiled package that pip cannot install everywhere, knows no periodic cells, and keeps 32
    neighbors at most.
    """

    def __init__(self, built: Model, dtype: torch.dtype, *, create_graph: bool, device: str = "cpu") -> None:
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own dependencies
            from torch_geometric.nn.models import ViSNet

        config = built.network.config
        names = ("lmax", "num_heads", "num_layers", "hidden_channels", "num_rbf", "cutoff")
        self.network = ViSNet(**{name: getattr(config, name) for name in names}).to(device, dtype).eval()
        self.network.std.fill_(config.energy_scale)
        # what is missing are the references of the elements, which are zero
        unknown = self.network.load_state_dict(built.state, strict=False).unexpected_keys
        if unknown:
            raise ValueError(f"PyTorch Geometric's ViSNet has no weights called {unknown[:3]}")
        super().__init__(self._energy, config.cutoff, dtype, device=device)
        self.create_graph = create_graph
        if not create_graph:  # as shipped its weights take part in the graph
            self.network.requires_grad_(False)

    def _energy(self, graph: Graph, positions: Tensor) -> Tensor:
        self.network.representation_model.distance = _GivenEdges(graph)
        before = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)  # from which it takes the dtype of some of its edges
        try:
            energy: Tensor = self.network(graph.numbers, positions, graph.batch)[0].view(-1)
        finally:
            torch.set_default_dtype(before)
        return energy


class _GivenEdges(nn.Module):
    """In the place of its Distance: (source, target), lengths and vectors x_source - x_target, self loops last."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        loops = torch.arange(len(graph.numbers), device=graph.numbers.device)
        self.edges = torch.cat([graph.edges.flip(0), loops.expand(2, -1)], dim=1)
        shifts = (graph.shifts[:, None] @ graph.cell[graph.batch[graph.edges[0]]])[:, 0]
        self.shifts = torch.cat([shifts, shifts.new_zeros(len(loops), 3)])

    def forward(self, positions: Tensor, batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        source, target = self.edges
        vectors = positions[source] - positions[target] + self.shifts.to(positions.dtype)
        real = source != target
        lengths = vectors.new_zeros(len(vectors))
        lengths[real] = torch.norm(vectors[real], dim=-1)
        return self.edges, lengths, vectors
