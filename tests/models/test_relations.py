"""HPNet, HTNet and the sub-networks: against their equations written out atom by atom, and by counting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import checks
import pytest
import smoothness
import torch
from small_networks import random_network
from structures import cluster, crystal, graph_of
from torch import Tensor, nn
from torch.nn.functional import silu

from mlcalc.models import Graph, HPNet, HTNet, HVNet, HVNetConfig, ModelError, build_network
from mlcalc.models.htnet import TripletLayer
from mlcalc.models.hvnet_subnetworks import SUB_NETWORKS, Neighborhood, SubNetwork
from mlcalc.models.layers import shifted_softplus, smooth_norm
from mlcalc.models.radial import BesselBasis, polynomial_envelope
from mlcalc.models.relational import Pair

CHO = ("H", "C", "O")
SIZES = {"cutoff": 4.0, "hidden_channels": 8, "num_layers": 2, "num_rbf": 6, "neighbor_norm": 3.0}
FEATURES = 1e-12  # where the same sums are added in another order


def network_of(kind: str, elements: tuple[str, ...] = CHO, **settings: Any) -> Any:
    return random_network(kind, SIZES | {"elements": elements, **settings})


def graph_of_several() -> Graph:
    """A molecule, a crystal, and structures that lack an element."""
    return graph_of([cluster(CHO), crystal(CHO), cluster(("H", "O"), atoms=4), cluster(("C",), atoms=2)], 4.0)


# ---- equations, atom by atom


class Literal:
    """The network's equations around one atom at a time, over its edges one by one."""

    def __init__(self, network: Any, graph: Graph) -> None:
        self.config, self.channels = network.config, network.config.hidden_channels
        self.i, self.j = graph.edges
        vectors = graph.edge_vectors()
        r = vectors.norm(dim=1)
        self.u = vectors / r[:, None]
        self.c = polynomial_envelope(r, self.config.cutoff, 5)
        basis = BesselBasis(self.config.num_rbf, self.config.cutoff)
        self.e = torch.cat([basis(r), torch.ones_like(r)[:, None]], dim=1)
        self.element = [CHO[k] for k in network.element_index(graph.numbers).tolist()]
        self.s = network.embed(network.element_index(graph.numbers))
        self.v = self.s.new_zeros(len(self.s), 3, self.channels)

    def edges_of(self, atom: int, *elements: str) -> list[int]:
        """Edges of an atom to neighbors of these elements."""
        mine = (self.i == atom).nonzero().squeeze(1).tolist()
        return [edge for edge in mine if self.element[int(self.j[edge])] in elements]

    def filtered(self, phi: Tensor, weights: nn.Linear, edge: int) -> Tensor:
        return phi * self.c[edge] * (weights.weight @ self.e[edge])

    def vectors_along(self, message: Tensor, edge: int) -> tuple[Tensor, Tensor]:
        """The message's scalars, and its vectors a v_j + g u_ij."""
        a, b, g = message.split(self.channels)
        return b, a * self.v[self.j[edge]] + self.u[edge][:, None] * g


def literal_hpnet(network: HPNet, graph: Graph) -> Tensor:
    """Scalars after the last layer."""
    work = Literal(network, graph)
    for layer in network.hermconv:
        s = work.s.clone()
        for atom, own in enumerate(work.element):
            for edge in work.edges_of(atom, *CHO):
                j = int(work.j[edge])
                pair = layer.mods[f"{work.element[j]}-{own}"]
                phi = pair.ms2(shifted_softplus(pair.ms1(work.s[j])))
                s[atom] = s[atom] + work.filtered(phi, pair.mv, edge) / network.config.neighbor_norm
        work.s = s
    return work.s


def literal_htnet(network: HTNet, graph: Graph, cosine: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Scalars and vectors after the last layer."""
    work = Literal(network, graph)
    for layer in network.hermconv:
        work.s, work.v = _literal_radial(layer, work)
        work.s, work.v = _literal_angular(layer, work, cosine)
    return work.s, work.v


def _triplets(layer: Any, center: str) -> list[tuple[str, str, Any]]:
    names = [(name.split("-"), network) for name, network in layer.mods.items()]
    return [(a, c, network) for (a, b, c), network in names if b == center]


def _literal_radial(layer: Any, work: Literal) -> tuple[Tensor, Tensor]:
    s, v, factor = work.s.clone(), work.v.clone(), 1 / (len(CHO) * work.config.neighbor_norm)
    for atom, own in enumerate(work.element):
        for a, c, network in _triplets(layer, own):
            for edge in work.edges_of(atom, a, c):
                phi = network.ms2(shifted_softplus(network.ms1(work.s[work.j[edge]])))
                scalar, vector = work.vectors_along(work.filtered(phi, network.mv, edge), edge)
                s[atom], v[atom] = s[atom] + factor * scalar, v[atom] + factor * vector
    return s, v


def _literal_angular(layer: Any, work: Literal, cosine: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    s, v = work.s.clone(), work.v.clone()

    def mean(values: Callable[[int], Tensor], edges: list[int], zero: Tensor) -> Tensor:
        total = sum((work.c[edge] * values(int(work.j[edge])) for edge in edges), start=zero)
        return total / (1 + sum(float(work.c[edge]) for edge in edges))

    for atom, own in enumerate(work.element):
        for a, c, network in _triplets(layer, own):

            def message(j: int, network: Any = network) -> Tensor:
                state = torch.cat([smooth_norm((work.v[j] ** 2).sum(0)), work.s[j]])
                return network.us2(shifted_softplus(network.us1(state)))

            none = torch.zeros(3, work.channels).double()
            U, U_A, U_C = (mean(lambda j: work.v[j], work.edges_of(atom, *of), none) for of in ((a, c), (a,), (c,)))
            t = mean(message, work.edges_of(atom, a, c), torch.zeros(3 * work.channels).double())
            a_vv, a_sv, a_ss = t.split(work.channels)
            s[atom] = s[atom] + (a_sv * cosine(U_A, U_C) + a_ss) / len(CHO)
            v[atom] = v[atom] + a_vv * U / len(CHO)
    return s, v


def _smooth_cosine(U_A: Tensor, U_C: Tensor) -> Tensor:
    return (U_A * U_C).sum(0) / ((1 + (U_A**2).sum(0)) * (1 + (U_C**2).sum(0))) ** 0.5


def test_hpnet_is_its_equations() -> None:
    network, graph = network_of("hpnet"), graph_of_several()
    found = network.node_features(graph)
    torch.testing.assert_close(found.scalars, literal_hpnet(network, graph), rtol=0, atol=FEATURES)
    assert found.vectors is None
    for layer in network.hermconv:  # with source and center exchanged it is another network
        for one, other in (("H-C", "C-H"), ("C-O", "O-C")):
            layer.mods[one], layer.mods[other] = layer.mods[other], layer.mods[one]
    assert float((network.node_features(graph).scalars - found.scalars).abs().max()) > 1e-3


def test_htnet_is_its_equations() -> None:
    network, graph = network_of("htnet"), graph_of_several()
    found = network.node_features(graph)
    scalars, vectors = literal_htnet(network, graph, _smooth_cosine)
    torch.testing.assert_close(found.scalars, scalars, rtol=0, atol=FEATURES)
    torch.testing.assert_close(found.vectors, vectors, rtol=0, atol=FEATURES)
    other, _ = literal_htnet(network, graph, lambda U_A, U_C: _smooth_cosine(U_A, U_A))  # without angles A-B-C
    assert float((found.scalars - other).abs().max()) > 1e-3


def test_messages_on_other_edges_break_the_permutation_law(monkeypatch: pytest.MonkeyPatch) -> None:
    """The defect of the published HTNet, in small: one row further, and the order of the atoms matters."""

    def shifted(self: TripletLayer, state: Tensor, pair: Pair) -> Tensor:
        t = self.us2(shifted_softplus(self.us1(state)))
        return pair.sum(pair.weight * t.index_select(0, pair.source).roll(1, 0))

    checks.check_permutation(network_of("htnet"))
    monkeypatch.setattr(TripletLayer, "angular", shifted)
    with pytest.raises(AssertionError, match="permutation"):
        checks.check_permutation(network_of("htnet"))


def test_painn_is_its_equations() -> None:
    network, graph = network_of("hvnet", sub_network="painn"), graph_of_several()
    work = Literal(network, graph)
    for layer in network.hermconv:
        s, v = work.s.clone(), work.v.clone()
        for atom, own in enumerate(work.element):
            part = layer.mods[own]
            for edge in work.edges_of(atom, *CHO):  # Eqs. 7 and 8
                phi = part.message2(silu(part.message1(work.s[work.j[edge]])))
                scalar, vector = work.vectors_along(work.filtered(phi, part.filters, edge), edge)
                s[atom], v[atom] = s[atom] + scalar / 3.0, v[atom] + vector / 3.0
            U, V = part.mix.weight.split(work.channels)
            Uv, Vv = v[atom] @ U.T, v[atom] @ V.T
            a_vv, a_sv, a_ss = part.update2(
                silu(part.update1(torch.cat([smooth_norm((Vv**2).sum(0)), s[atom]])))
            ).split(work.channels)
            s[atom], v[atom] = s[atom] + a_ss + a_sv * (Uv * Vv).sum(0), v[atom] + a_vv * Uv  # Eqs. 9 and 10
        work.s, work.v = s, v
    found = network.node_features(graph)
    torch.testing.assert_close(found.scalars, work.s, rtol=0, atol=FEATURES)
    torch.testing.assert_close(found.vectors, work.v, rtol=0, atol=FEATURES)


# ---- how many, and where each acts


@pytest.mark.parametrize("elements", [("Cu",), ("H", "O"), CHO, ("H", "C", "N", "O")])
def test_numbers_of_sub_networks(elements: tuple[str, ...]) -> None:
    Ne = len(elements)
    counts = {"hvnet": Ne, "hpnet": Ne**2, "htnet": Ne**2 * (Ne + 1) // 2}
    for kind, count in counts.items():
        for layer in build_network(kind, SIZES | {"elements": elements}).hermconv:
            assert len(layer.mods) == count, kind


def test_names_of_relations() -> None:
    """Pairs in both directions; of a triplet and its reverse the one whose first element is the lighter."""
    pairs = build_network("hpnet", SIZES | {"elements": ("H", "O")}).hermconv[0].mods
    triplets = build_network("htnet", SIZES | {"elements": ("H", "O")}).hermconv[0].mods
    assert set(pairs) == {"H-H", "H-O", "O-H", "O-O"}
    assert set(triplets) == {"H-H-H", "H-O-H", "H-H-O", "H-O-O", "O-H-O", "O-O-O"}


@pytest.mark.parametrize(
    ("kind", "relation", "part"), [("hpnet", "H-C", ""), ("htnet", "H-C-O", "us"), ("htnet", "H-C-H", "us")]
)
def test_relation_acts_on_its_own_atoms(kind: str, relation: str, part: str) -> None:
    """In one layer: centers C with a neighbor of the relation, and nothing else."""
    network, graph = network_of(kind, num_layers=1), graph_of_several()
    before = network.node_features(graph).scalars
    for name, parameter in network.hermconv[0].mods[relation].named_parameters():
        if name.startswith(part):
            parameter.add_(0.1)
    changed = ((network.node_features(graph).scalars - before).abs() > 1e-12).any(1)
    i, j = graph.edges
    sources = [{"H": 1, "C": 6, "O": 8}[name] for name in relation.split("-")]
    sources = sources[::2] if kind == "htnet" else sources[:1]
    of_relation = (graph.numbers[i] == 6) & torch.isin(graph.numbers[j], torch.tensor(sources))
    expected = torch.zeros_like(changed).index_fill(0, i[of_relation], True)
    assert torch.equal(changed, expected)
    assert bool((expected != (graph.numbers == 6)).any())  # some C has no such neighbor


@pytest.mark.parametrize(("kind", "expected"), [("hpnet", {"C-C"}), ("htnet", {"H-C-C", "C-C-C", "C-C-O"})])
def test_relations_that_are_absent_cost_nothing(kind: str, expected: set[str]) -> None:
    """Structures of one element ask only the sub-networks with that element at the center and as a source."""
    asked: set[str] = set()
    network = network_of(kind)
    for name, part in network.hermconv[0].mods.items():
        for linear in part.children():
            linear.register_forward_hook(lambda *_, name=name: asked.add(name))
    network(graph_of([cluster(("C",), atoms=4), crystal(("C",), atoms=3)], 4.0))
    assert asked == expected


@pytest.mark.parametrize(
    ("kind", "settings", "text"),
    [
        ("hpnet", {"variant": "dgl", "neighbor_norm": 1.0}, "unknown HPNet variant 'dgl'.*'smooth'"),
        ("htnet", {"variant": "pyg", "neighbor_norm": 1.0}, "unknown HTNet variant 'pyg'.*'smooth'"),
        ("hpnet", {"sub_network": "painn"}, "sub_network 'painn' is a choice of HVNet: HPNet"),
        ("hvnet", {"sub_network": "schnet"}, "unknown HVNet sub_network 'schnet'.*'rmconv', 'painn'"),
    ],
)
def test_what_only_hvnet_has_is_refused(kind: str, settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ModelError, match=text):
        build_network(kind, SIZES | {"elements": CHO} | settings)


# ---- a sub-network of one's own


class Continuous(SubNetwork):
    """Continuous-filter convolution (SchNet, arXiv:1706.08566), with directions summed beside."""

    def __init__(self, channels: int, num_rbf: int, neighbor_norm: float) -> None:
        super().__init__(channels, num_rbf, neighbor_norm)
        self.filters = nn.Linear(num_rbf + 1, 3 * channels, bias=False)
        self.mix = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(2 * channels, channels)

    def radial(self, s: Tensor, v: Tensor | None, near: Neighborhood) -> tuple[Tensor, Tensor]:
        return near.message_sums(self.mix(s).index_select(0, near.neighbor) * self.filters(near.radial), v)

    def angular(self, s: Tensor, v: Tensor, near: Neighborhood) -> tuple[Tensor, Tensor]:
        s, v = near.own(s), near.own(v)
        return shifted_softplus(self.out(torch.cat([s, smooth_norm((v * v).sum(1))], dim=1))), torch.zeros_like(v)


def test_a_third_sub_network_is_a_class_and_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUB_NETWORKS, "continuous", Continuous)
    network = network_of("hvnet", sub_network="continuous", neighbor_norm=1.0)
    assert isinstance(network, HVNet)
    assert isinstance(network.hermconv[0].mods["C"], Continuous)
    for law in (
        checks.check_rotation,
        checks.check_batch,
        smoothness.check_forces,
        smoothness.check_scan_across_cutoff,
    ):
        law(network)


def test_sub_networks_are_different() -> None:
    graph = graph_of_several()
    assert HVNetConfig(elements=CHO).sub_network == "rmconv"
    found = [network_of("hvnet", sub_network=name)(graph) for name in SUB_NETWORKS]
    assert float((found[0] - found[1]).abs().max()) > 1e-3
