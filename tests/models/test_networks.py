"""What is particular to each network: its algebra, radial functions, settings and sub-networks."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import eval_legendre
from small_networks import random_network, small_settings
from structures import cluster, crystal, graph_of
from torch import Tensor, nn

from mlcalc.models import HVNet, HVNetConfig, ModelError, ViSNet, ViSNetConfig, build_network, network_settings, predict
from mlcalc.models.radial import BesselBasis, ExpNormBasis, polynomial_envelope
from mlcalc.models.visnet_layers import spherical_harmonics

CHO = ("H", "C", "O")
DISTANCES = np.linspace(0.3, 4.4, 83)  # Å


def _visnet(lmax: int, **settings: Any) -> ViSNet:
    sizes = {"cutoff": 4.0, "hidden_channels": 16, "num_layers": 3, "num_heads": 2, "num_rbf": 8, "neighbor_norm": 3.0}
    network = random_network("visnet", {"elements": CHO, **sizes, "lmax": lmax, **settings})
    assert isinstance(network, ViSNet)
    return network


def _rejection_products(block: nn.Module, vec: Tensor, edges: Any) -> Tensor:
    """w_ij as the paper writes it: on every edge, the inner product of what is left of two vectors beside d_ij."""
    target, source = block.w_proj.weight.chunk(2, dim=0)  # (F, F) each
    d = edges.harmonics[:, :, None]

    def rejection(w: Tensor, direction: Tensor) -> Tensor:
        return w - (w * direction).sum(1, keepdim=True) * direction

    t = rejection(torch.einsum("esf,gf->esg", vec[edges.center], target), d)
    s = rejection(torch.einsum("esf,gf->esg", vec[edges.neighbor], source), -d)
    return (t * s).sum(1)


@pytest.mark.parametrize("lmax", [1, 2])
def test_products_on_nodes_are_rejections_on_edges(lmax: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network = _visnet(lmax)
    graph = graph_of([cluster(CHO), crystal(CHO)], network.cutoff)
    block, edges = network.blocks[1], network._edges(graph)
    generator = torch.Generator().manual_seed(1)
    vec = torch.randn(len(graph.numbers), 3 if lmax == 1 else 8, 16, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(
        block._vector_products(vec, edges), _rejection_products(block, vec, edges), rtol=0, atol=1e-12
    )
    ours = predict(network, graph)
    monkeypatch.setattr(type(block), "_vector_products", _rejection_products)
    literal = predict(network, graph)
    torch.testing.assert_close(ours.energies, literal.energies, rtol=0, atol=1e-12)
    torch.testing.assert_close(ours.forces, literal.forces, rtol=0, atol=1e-12)
    monkeypatch.setattr(type(block), "_vector_products", lambda *args: 0.9 * _rejection_products(*args))
    assert float((predict(network, graph).forces - ours.forces).abs().max()) > 1e-4, "the products have no effect"


def test_without_the_rejection_lmax_1_is_another_network() -> None:
    block, edges = (network := _visnet(1)).blocks[1], network._edges(graph_of(cluster(CHO), 4.0))
    vec = torch.ones(7, 3, 16, dtype=torch.float64)
    block.lmax = 2  # takes the formula for |d|^2 = 2 where it does not hold
    assert float((block._vector_products(vec, edges) - _rejection_products(block, vec, edges)).abs().max()) > 1e-2


def test_spherical_harmonics_obey_the_addition_theorem() -> None:
    """sum_m Y_lm(u) Y_lm(v) = P_l(u.v) for each order: an orthonormal basis, norm one, turning along with u."""
    generator = torch.Generator().manual_seed(2)
    u, v = (x / x.norm(dim=1, keepdim=True) for x in torch.randn(2, 50, 3, generator=generator, dtype=torch.float64))
    Yu, Yv, cosine = spherical_harmonics(u, 2), spherical_harmonics(v, 2), (u * v).sum(1)
    for order, block in ((1, slice(0, 3)), (2, slice(3, 8))):
        expected = torch.tensor(eval_legendre(order, cosine.numpy()))
        torch.testing.assert_close((Yu[:, block] * Yv[:, block]).sum(1), expected, rtol=0, atol=1e-14)
        torch.testing.assert_close(Yu[:, block].square().sum(1), torch.ones(50).double(), rtol=0, atol=1e-14)
    R = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))[0]
    D = torch.linalg.lstsq(Yu, spherical_harmonics(u @ R.T, 2)).solution  # fitted on some directions, right for all
    torch.testing.assert_close(Yv @ D, spherical_harmonics(v @ R.T, 2), rtol=0, atol=1e-13)
    torch.testing.assert_close(D @ D.T, torch.eye(8).double(), rtol=0, atol=1e-13)
    torch.testing.assert_close(spherical_harmonics(u, 1), u, rtol=0, atol=0)


def _derivatives(f: Callable[[Tensor], Tensor], at: float) -> list[float]:
    """f, f' and f'' by autograd."""
    x = torch.tensor([at], dtype=torch.float64, requires_grad=True)
    value = f(x)
    (first,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    return [float(x.detach()) for x in (value, first, second)]


@pytest.mark.parametrize("exponent", [3, 5, 8])
def test_envelope(exponent: int) -> None:
    def u(r: Tensor) -> Tensor:
        return polynomial_envelope(r, 4.0, exponent)

    assert _derivatives(u, 1e-9) == pytest.approx([1, 0, 0], abs=1e-7)
    for at in (4.0 - 1e-9, 4.0, 4.0 + 1e-9):
        assert _derivatives(u, at) == pytest.approx([0, 0, 0], abs=1e-6)
    x = DISTANCES / 4.0
    p = exponent  # in powers of 1 - x the threefold zero at the cutoff is manifest
    expected = (1 - x) ** 3 * sum((k + 1) * (k + 2) / 2 * x**k for k in range(p)) * (x < 1)
    np.testing.assert_allclose(u(torch.tensor(DISTANCES)), expected, rtol=0, atol=1e-12)
    assert np.all(np.diff(u(torch.tensor(DISTANCES)).numpy()) <= 0)


def test_envelope_check_can_fail() -> None:
    def cosine(r: Tensor) -> Tensor:
        return 0.5 * (1 + torch.cos(torch.pi * r / 4))

    assert abs(_derivatives(cosine, 4.0)[2]) > 0.1


def test_bessel_functions() -> None:
    basis = BesselBasis(6, 4.4).double()
    n = np.arange(1, 7)
    expected = np.sqrt(2 / 4.4) * np.sin(n * np.pi * DISTANCES[:, None] / 4.4) / DISTANCES[:, None]
    np.testing.assert_allclose(basis(torch.tensor(DISTANCES)), expected, rtol=0, atol=1e-13)

    def overlap(a: int, b: int) -> float:
        def integrand(r: float) -> float:
            e = basis(torch.tensor([r], dtype=torch.float64))[0]
            return float(e[a] * e[b]) * r**2

        return quad(integrand, 0, 4.4)[0]

    assert [overlap(0, 0), overlap(3, 3), overlap(1, 4)] == pytest.approx([1, 1, 0], abs=1e-10)


def test_exponential_gaussians() -> None:
    basis = ExpNormBasis(7, 4.0)
    start = np.exp(-4.0)
    beta = (2 / 7 * (1 - start)) ** -2
    expected = np.exp(-beta * (np.exp(-5 / 4.0 * DISTANCES[:, None]) - np.linspace(start, 1, 7)) ** 2)
    np.testing.assert_allclose(basis.double()(torch.tensor(DISTANCES)), expected, rtol=0, atol=1e-6)  # float32 buffers


BAD_SETTINGS: list[tuple[str, dict[str, Any], str]] = []
for _kind in ("hvnet", "visnet"):
    BAD_SETTINGS += [
        *[(_kind, {"cutoff": bad}, f"cutoff is {bad}.*positive.*Å") for bad in (0.0, -1.0, float("nan"), float("inf"))],
        (_kind, {"num_rbf": 1}, "num_rbf is 1.*at least 2"),
        (_kind, {"num_rbf": 8.5}, "num_rbf"),
        (_kind, {"envelope_exponent": 2}, "envelope_exponent is 2.*at least 3"),
        (_kind, {"hidden_channels": 0}, "hidden_channels is 0.*at least 1"),
        (_kind, {"num_layers": -1}, "num_layers is -1"),
        (_kind, {"neighbor_norm": 0.0}, "neighbor_norm is 0.0.*positive"),
        (_kind, {"neighbor_norm": float("inf")}, "neighbor_norm is inf"),
        (_kind, {"variant": "original-2050"}, "unknown .* variant 'original-2050'.*'smooth'"),
        (_kind, {"energy_shift": (1.0,)}, "energy_shift has 1 values for 3 elements.*H, C, O"),
        (_kind, {"energy_shift": (1.0, float("nan"), 0.0)}, "must be finite"),
        (_kind, {"energy_scale": 0.0}, "energy_scale 0.0"),
        (_kind, {"elements": ("H", "Xx")}, "'Xx' is not an element.*chemical symbol"),
        (_kind, {"elements": ("H", 119)}, "119 is not an element"),
        (_kind, {"elements": ("H", "C", "H")}, "lists an element twice"),
        (_kind, {"elements": ()}, "elements is empty"),
        (_kind, {"chanels": 3}, "unknown setting chanels.*allowed are.*hidden_channels"),
        (_kind, {"cutoff": "5 A"}, "wrong type"),
    ]
BAD_SETTINGS += [
    ("visnet", {"lmax": 3}, "lmax is 3.*1 and 2"),
    ("visnet", {"hidden_channels": 18, "num_heads": 4}, "hidden_channels 18 does not divide into 4 heads.*multiple"),
    ("visnet", {"num_heads": 0}, "num_heads is 0"),
]


def _settings(kind: str) -> dict[str, Any]:
    return next(settings for known, settings in small_settings() if known == kind and len(settings["elements"]) == 3)


@pytest.mark.parametrize(("kind", "change", "text"), BAD_SETTINGS, ids=str)
def test_bad_settings_are_refused(kind: str, change: dict[str, Any], text: str) -> None:
    build_network(kind, _settings(kind))  # good without the change
    with pytest.raises(ModelError, match=text):
        build_network(kind, _settings(kind) | change)


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(ModelError, match=r"unknown model kind 'hvnett'.*hvnet, visnet"):
        build_network("hvnett", {})


@pytest.mark.parametrize("kind", ["hvnet", "visnet"])
def test_atom_of_another_element_is_refused(kind: str) -> None:
    network = random_network(kind, _settings(kind))
    with pytest.raises(ModelError, match=r"\[29\] are not among the elements"):
        network(graph_of(cluster(("H", "Cu")), network.cutoff))


@pytest.mark.parametrize("kind", ["hvnet", "visnet"])
def test_settings_survive_json(kind: str) -> None:
    network = random_network(kind, _settings(kind))
    found, settings = network_settings(network)
    again = build_network(found, json.loads(json.dumps(settings)))
    assert found == kind
    assert asdict(again.config) == settings


@pytest.mark.parametrize("make", [HVNetConfig, ViSNetConfig])
def test_elements_are_kept_by_atomic_number(make: type[Any]) -> None:
    assert make(elements=("O", "H", "C")).elements == CHO
    assert make(elements=(8, "H", 6)).elements == CHO


def _hvnet(elements: tuple[str, ...], layers: int) -> HVNet:
    settings = _settings("hvnet") | {"elements": elements, "num_layers": layers, "energy_shift": ()}
    network = random_network("hvnet", settings)
    assert isinstance(network, HVNet)
    return network


@pytest.mark.parametrize("elements", [("Cu",), ("H", "O"), CHO])
def test_one_sub_network_per_element(elements: tuple[str, ...]) -> None:
    for convolution in _hvnet(elements, 2).hermconv:
        assert tuple(convolution.mods) == elements


@pytest.mark.parametrize("part", ["angular", "whole"])
def test_sub_network_acts_on_the_atoms_of_its_element_only(part: str) -> None:
    """In one layer; beyond, changed atoms pass the change on.

    The angular part ends a layer, so nobody else can see it.  The radial part starts one, so that the angular
    messages of the same layer carry it to atoms of other elements next to one, and no further.
    """
    pair = cluster(("H", "O"), atoms=2)
    pair.translate([30, 0, 0])
    for layers in (1, 2):
        network = _hvnet(CHO, layers)
        graph = graph_of([cluster(CHO) + pair, crystal(CHO)], network.cutoff)
        before = network(graph)
        for name, parameter in network.hermconv[0].mods["C"].named_parameters():
            if part == "whole" or name.startswith("us"):
                parameter.add_(0.1)
        change, carbon = (network(graph) - before).abs(), graph.numbers == 6
        assert bool((change[carbon] > 1e-6).all())
        i, j = graph.edges
        beside = torch.zeros_like(carbon).index_put((i[carbon[j]],), torch.tensor(True)) & ~carbon
        assert bool((change[beside] > 1e-9).all()) == (part == "whole" or layers > 1)
        if part == "angular" and layers == 1:
            assert bool((change[~carbon] == 0).all())
        assert bool((change[~carbon & ~beside] == 0).all())  # the pair far from any carbon
        assert bool((~carbon & ~beside).any())


def _dead(network: nn.Module) -> list[str]:
    """Names of the parameters that neither energies nor forces depend on."""
    network.requires_grad_(True)
    graph = graph_of([cluster(network.elements), crystal(network.elements)], network.cutoff)
    found = predict(network, graph, create_graph=True)
    loss = found.energies.square().sum() + found.forces.square().sum()
    names, parameters = zip(*network.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
    return [name for name, gradient in zip(names, gradients, strict=True) if not bool(gradient.any())]


@pytest.mark.parametrize(("kind", "settings"), list(small_settings()), ids=str)
def test_every_parameter_matters(kind: str, settings: dict[str, Any]) -> None:
    network = random_network(kind, settings)
    assert _dead(network) == []
    network.forgotten = nn.Parameter(torch.ones(2))
    assert _dead(network) == ["forgotten"]
