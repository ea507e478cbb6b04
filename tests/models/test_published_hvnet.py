"""The published HVNets where no output of the original codes is at hand: parts, settings, names of tensors."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.geometry import get_distances
from scipy.special import binom
from small_networks import random_network
from structures import cluster, crystal, graph_of
from torch import Tensor

from mlcalc import MLCalculator
from mlcalc.errors import ModelFileError
from mlcalc.graphs.graphs import atoms_to_graph
from mlcalc.importing.hermnet_weights import hvnet_tensors
from mlcalc.models import HVNet, HVNetConfig, ModelError, build_network, network_settings, predict
from mlcalc.models.hvnet_dgl import nearest_images
from mlcalc.models.hvnet_pyg import BASES, exponential_envelope

CHO = ("H", "C", "O")
SMALL = {"elements": CHO, "cutoff": 4.0, "hidden_channels": 8, "num_layers": 2, "num_rbf": 6}
DGL, PYG = SMALL | {"variant": "dgl"}, SMALL | {"variant": "pyg"}
BESSEL = {"radial_basis": "spherical_bessel", "envelope": "exponential"}
BERNSTEIN = {"radial_basis": "bernstein", "envelope": "exponential"}
VARIANTS: list[dict[str, Any]] = [
    DGL,
    DGL | {"legacy_mic": True, "n_ref": 5, "structure_shift": -3.0},
    DGL | {"aggregation": "sum", "intensive": True},
    DGL | {"n_relations": 3},
    PYG | {"structure_shift": 7.0, "envelope_exponent": 2},
    PYG | BESSEL | {"intensive": True},
    PYG | BERNSTEIN,
]


def network_of(settings: dict[str, Any]) -> HVNet:
    network = random_network("hvnet", settings)
    assert isinstance(network, HVNet)
    return network


# ---- parts


def test_nearest_images_are_those_of_ase() -> None:
    for atoms in (crystal(CHO), crystal(CHO, atoms=12, seed=3), cluster(CHO)):
        graph = graph_of(atoms, 4.0)
        kept = nearest_images(graph)
        i, j = graph.edges[:, kept]
        found = graph.edge_vectors()[kept].norm(dim=1)
        _, shortest = get_distances(atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        pairs = [(a, b) for a in range(len(atoms)) for b in range(len(atoms)) if a != b and shortest[a, b] < 4.0]
        assert list(zip(i.tolist(), j.tolist(), strict=True)) == pairs
        np.testing.assert_allclose(found, [shortest[pair] for pair in pairs], rtol=0, atol=1e-12)


def test_of_equally_near_images_the_first_counts() -> None:
    atoms = Atoms("CuO", positions=[[0, 0, 0], [1.5, 0, 0]], cell=[3, 9, 9], pbc=True)
    graph = graph_of(atoms, 2.0)
    assert len(graph.edges[0]) == 4
    assert nearest_images(graph).tolist() == [0, 2]


def test_radial_bases_of_the_pyg_network() -> None:
    r = np.linspace(0.4, 4.3, 40)
    x, k = r[:, None] / 4.0, np.arange(6)
    gamma = np.log1p(np.exp(0.45264))
    expected = {
        "gaussian": np.exp(-0.5 * ((x - k / 5) * 5) ** 2),
        "spherical_bessel": np.sqrt(2 / 4.0**3) / x * np.sin((k + 1) * np.pi * x),
        "bernstein": binom(5, k) * np.exp(-gamma * x) ** k * (1 - np.exp(-gamma * x)) ** (5 - k),
    }
    for name, values in expected.items():
        found = BASES[name](6, 4.0).double()(torch.tensor(r)).detach()
        np.testing.assert_allclose(found, values, rtol=0, atol=3e-7, err_msg=name)  # constants drawn in float32


def test_exponential_envelope() -> None:
    r = torch.tensor([0.0, 1.0, 2.0, 3.9, 4.0 - 1e-9, 4.0, 4.1], dtype=torch.float64, requires_grad=True)
    x = np.array([0.0, 0.25, 0.5, 0.975])
    found = exponential_envelope(r, 4.0)
    np.testing.assert_allclose(found[:4].detach(), np.exp(-(x**2) / ((1 - x) * (1 + x))), rtol=1e-13)
    (slope,) = torch.autograd.grad(found.sum(), r, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), r)
    for values in (found, slope, curvature):
        assert bool(torch.isfinite(values).all())
        assert bool((values[4:] == 0).all())


# ---- energies of structures, and training on them


def _mixed_batch() -> list[Atoms]:
    """A molecule, an isolated atom, two atoms out of reach of each other, an element that only once has neighbors."""
    far = Atoms("OHH", positions=[[0, 0, 0], [0.9, 0.1, 0], [20, 0, 0]])
    return [cluster(CHO), Atoms("O"), Atoms("CH", positions=[[0, 0, 0], [9, 0, 0]]), far]


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_second_derivatives_are_finite(settings: dict[str, Any]) -> None:
    """What training needs: gradients of forces in every parameter, isolated atoms and symmetric sites included."""
    network = network_of(settings).requires_grad_(True)
    straight = Atoms("OCO", positions=[[-1.2, 0, 0], [0, 0, 0], [1.2, 0, 0]])
    found = predict(network, graph_of([*_mixed_batch(), straight], 4.0), create_graph=True)
    loss = found.energy.square().sum() + found.forces.square().sum()
    names, parameters = zip(*network.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
    for name, gradient in zip(names, gradients, strict=True):
        assert bool(torch.isfinite(gradient).all()), name
        assert bool(gradient.any()), f"{name} matters to nothing"


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_settings_and_weights_make_the_network_again(settings: dict[str, Any]) -> None:
    network = network_of(settings)
    kind, stored = network_settings(network)
    again = build_network(kind, json.loads(json.dumps(stored))).double()
    again.load_state_dict(network.state_dict())
    graph = graph_of(_mixed_batch(), 4.0)
    assert torch.equal(again(graph), network(graph))
    assert again.conventions() == network.conventions()
    assert again.caveats() == network.caveats()


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_structure_shift_counts_once_per_structure(settings: dict[str, Any]) -> None:
    network = network_of(settings)
    kind, stored = network_settings(network)
    shifted = build_network(kind, stored | {"structure_shift": stored["structure_shift"] + 100.0}).double()
    shifted.load_state_dict(network.state_dict())
    graph = graph_of(_mixed_batch(), 4.0)
    one, other = predict(network, graph), predict(shifted, graph)
    torch.testing.assert_close(other.energy - one.energy, torch.full((4,), 100.0).double(), rtol=0, atol=1e-10)
    torch.testing.assert_close(graph.sum_by_structure(other.energies), other.energy, rtol=0, atol=1e-10)


def test_shares_are_equal_where_there_are_no_atomic_energies() -> None:
    graph = graph_of(_mixed_batch(), 4.0)
    for settings in VARIANTS:
        network = network_of(settings)
        spread = [float(network(graph)[graph.batch == k].std(unbiased=False)) for k in (0, 3)]
        assert (max(spread) < 1e-12) == (not network.has_atomic_energies)
        assert network.energy_jumps
        assert network.periodic == (network.config.variant == "dgl")
        assert network.conventions()
        assert network.caveats()
    smooth = network_of(SMALL)
    assert (smooth.conventions(), smooth.caveats(), smooth.energy_jumps, smooth.periodic) == ((), (), False, True)


def test_states_without_neighbors() -> None:
    """In the dgl network an atom without neighbors stays as embedded; in the pyg network its element's state is zero.

    Unless another atom of the element has neighbors: then the element's sub-network acts on it.
    """
    lone, bonded = Atoms("OHC", positions=[[0, 0, 0], [0.9, 0.1, 0], [20, 0, 0]]), _mixed_batch()[3]
    for settings in (DGL, PYG):
        network = network_of(settings)
        embedded = network.original.embed.weight.detach()
        for atoms, element, acts in ((lone, 1, False), (bonded, 0, settings is PYG)):
            features = network.node_features(graph_of(atoms, 4.0))
            rest = embedded[element] if settings is DGL else torch.zeros(8)
            assert torch.equal(features.scalars[2], rest.double()) != acts
            assert not features.vectors[2].any()


def test_sum_and_mean_over_elements() -> None:
    """The sum is E times the mean of the elements' states, so the same for one element and not for two."""
    for elements, same in ((("Cu",), True), (("H", "O"), False)):
        mean = network_of(DGL | {"elements": elements, "num_layers": 1})
        added = HVNet(HVNetConfig(**DGL | {"elements": elements, "num_layers": 1, "aggregation": "sum"})).double()
        added.load_state_dict(mean.state_dict())
        graph = graph_of(cluster(elements), 4.0)
        expected, found = (network.node_features(graph).scalars for network in (mean, added))
        torch.testing.assert_close(found, len(elements) * expected, rtol=1e-12, atol=0)
        assert torch.allclose(found, expected) == same


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (SMALL | {"legacy_mic": True}, "legacy_mic True means nothing for variant 'smooth'.*'dgl'"),
        (SMALL | {"n_ref": 5}, "n_ref 5 means nothing"),
        (SMALL | {"structure_shift": 1.0}, "structure_shift 1.0 means nothing.*'dgl' and 'pyg'"),
        (SMALL | {"intensive": True}, "intensive True means nothing"),
        (DGL | {"sub_network": "painn"}, "sub_network 'painn' means nothing for variant 'dgl'"),
        (DGL | {"neighbor_norm": 2.0}, "neighbor_norm 2.0 means nothing"),
        (DGL | {"radial_basis": "bernstein"}, "radial_basis 'bernstein' means nothing.*'pyg'"),
        (DGL | {"n_ref": 5, "intensive": True}, "n_ref and intensive exclude each other"),
        (DGL | {"n_relations": 2, "aggregation": "sum"}, "n_relations divides a mean"),
        (DGL | {"n_ref": 0}, "n_ref is 0"),
        (DGL | {"n_relations": 1.5}, "n_relations is 1.5"),
        (DGL | {"legacy_mic": "yes"}, "legacy_mic is 'yes'.*true or false"),
        (DGL | {"aggregation": "max"}, "unknown HVNet aggregation 'max'.*'mean', 'sum'"),
        (DGL | {"structure_shift": float("nan")}, "structure_shift is nan"),
        (PYG | {"legacy_mic": True}, "legacy_mic True means nothing for variant 'pyg'"),
        (PYG | {"hidden_channels": 7}, "hidden_channels is 7.*even"),
        (PYG | {"envelope": "exponential", "envelope_exponent": 4}, "envelope_exponent 4 means nothing"),
        (PYG | {"envelope_exponent": 0}, "envelope_exponent is 0"),
        (PYG | {"radial_basis": "bernstein", "num_rbf": 129}, "num_rbf is 129.*at most 128"),
        (PYG | {"radial_basis": "sine"}, "unknown HVNet radial_basis 'sine'.*'gaussian', 'spherical_bessel'"),
    ],
    ids=str,
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ModelError, match=text):
        HVNetConfig(**settings)


def test_periodic_edges_are_refused_by_the_pyg_network() -> None:
    network = network_of(PYG)
    network(graph_of(cluster(CHO), 4.0))
    with pytest.raises(ModelError, match="knows no periodic cells.*shift.*molecules"):
        network(graph_of(crystal(CHO), 4.0))


# ---- the original's names


def _original_names(settings: dict[str, Any], last: str = "3") -> tuple[dict[str, Tensor], HVNet]:
    """Random tensors under the names of the original codes, as their description lists them, and the network."""
    F, L, config = 8, 6, HVNetConfig(**settings)
    linear = {"ms1": (F, F), "ms2": (3 * F, F), "mv": (3 * F, L), "us1": (F, 2 * F), "us2": (3 * F, F)}
    readout, layers = {"fc.0": (F, F), f"fc.{last}": (1, F)}, [f"hermconv{k}" for k in (1, 2)]
    if config.variant == "pyg":
        linear = {
            "message_layer.x_proj.0": (F, F),
            "message_layer.x_proj.2": (3 * F, F),
            "message_layer.rbf_proj": (3 * F, L),
            "message_layer.x_layernorm": (F,),
            "update_layer.xvec_proj.0": (F, 2 * F),
            "update_layer.xvec_proj.2": (3 * F, F),
            "update_layer.vec_proj": (2 * F, F),
        }
        readout, layers = {"out_energy.0": (F // 2, F), "out_energy.2": (1, F // 2)}, ["hermconvs.0", "hermconvs.1"]
    modules = {f"{k}.mods.{el}.{name}": shape for k in layers for el in CHO for name, shape in linear.items()} | readout
    shapes: dict[str, tuple[int, ...]] = {"embed.weight": (119, F)}
    for name, shape in modules.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    shapes = {name: shape for name, shape in shapes.items() if not name.endswith(".vec_proj.bias")}
    basis = {"gaussian": "offset", "spherical_bessel": "frequencies", "bernstein": "pregamma"}[config.radial_basis]
    if config.variant == "pyg":
        shapes[f"radial_basis.rbf.{basis}"] = () if basis == "pregamma" else (L,)
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}, HVNet(config)


@pytest.mark.parametrize("settings", [DGL, PYG, PYG | BESSEL, PYG | BERNSTEIN], ids=str)
def test_every_tensor_finds_its_place(settings: dict[str, Any]) -> None:
    state, network = _original_names(settings)
    found = hvnet_tensors(state, network.config)
    network.load_state_dict(found)
    assert sum(x.numel() for x in found.values()) == sum(x.numel() for x in state.values()) - (119 - 3) * 8
    torch.testing.assert_close(network.original.embed.weight, state["embed.weight"][[1, 6, 8]], rtol=0, atol=0)
    key = "hermconv2.mods.C.us1.bias" if settings is DGL else "hermconvs.1.mods.C.update_layer.xvec_proj.2.bias"
    ours = "hermconv.1.mods.C." + ("us1.bias" if settings is DGL else "xvec_proj.1.bias")
    assert torch.equal(found[f"original.{ours}"], state[key])


def test_readout_of_very_old_weights() -> None:
    (old, network), (new, _) = _original_names(DGL, last="2"), _original_names(DGL)
    assert "fc.3.weight" not in old
    for name, tensor in hvnet_tensors(old, network.config).items():
        assert torch.equal(tensor, hvnet_tensors(new, network.config)[name])


@pytest.mark.parametrize(
    ("change", "settings", "text"),
    [
        (lambda s: s.pop("fc.3.bias"), {}, "lacks tensors of an HVNet of variant 'dgl' with 2 layers for H, C, O: fc"),
        (lambda s: s.update(extra=torch.ones(2)), {}, "does not have: extra. Give the elements and settings"),
        (lambda s: s.update({"fc.0.bias": torch.ones(9)}), {}, r"'fc.0.bias'.*shape \(9,\), expected.*\(8,\)"),
        (lambda s: s.update({"fc.0.bias": torch.ones(8).int()}), {}, "'fc.0.bias'.*int32"),
        (lambda s: s.update({"embed.weight": torch.ones(8, 8)}), {}, r"'embed.weight'.*\(8, 8\), expected \(119, 8\)"),
        (lambda s: None, {"elements": ("H", "C")}, "does not have: hermconv1.mods.O.*and 17 more"),
        (lambda s: None, {"elements": ("H", "C", "N", "O")}, "lacks tensors.*mods.N"),
        (lambda s: None, {"num_layers": 3}, "lacks tensors.*hermconv3"),
        (lambda s: None, {"num_layers": 1}, "does not have: hermconv2"),
        (lambda s: None, {"hidden_channels": 16}, r"expected.*16"),
        (lambda s: None, {"num_rbf": 7}, r"mv.weight'.*\(24, 6\), expected.*\(24, 7\)"),
        (lambda s: None, {"variant": "pyg"}, "lacks tensors.*'pyg'"),
    ],
)
def test_other_tensors_are_refused_by_name(change: Any, settings: dict[str, Any], text: str) -> None:
    state, network = _original_names(DGL)
    hvnet_tensors(state, network.config)  # good without the change
    change(state)
    with pytest.raises(ModelFileError, match=text):
        hvnet_tensors(state, HVNetConfig(**DGL | settings))


def test_neighbors_at_exactly_the_cutoff_count() -> None:
    """In the DGL code d <= rc are neighbors, and a mean over neighbors does not fade out: a pair at rc matters."""
    settings = next(settings for settings in VARIANTS if settings["variant"] == "dgl")
    network = network_of(settings)

    def energy(distance: float) -> float:
        pair = Atoms("CO", positions=[[0, 0, 0], [0, 0, distance]])
        return float(predict(network, atoms_to_graph(pair, network.cutoff)).energy)

    rc = settings["cutoff"]
    inside, at, beyond = energy(rc - 1e-9), energy(rc), energy(rc + 1e-9)
    assert at == pytest.approx(inside, abs=1e-7)
    assert abs(beyond - at) > 1e-3
    assert MLCalculator(network).get_potential_energy(Atoms("CO", positions=[[0, 0, 0], [0, 0, rc]])) == pytest.approx(
        at, abs=1e-12
    )
