"""Small random networks of every registered architecture, and the same potential with other shifts or precision."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

import torch
from checks import ElementPotential, defined
from structures import graph_of, samples
from torch import nn

from mlcalc import load_model
from mlcalc.bundled import bundled_models
from mlcalc.models import architectures, build_network, network_settings, predict

# Settings an architecture does not have are left out, so that a new one is tested without a line here.
COMMON = {
    "cutoff": 4.0,
    "hidden_channels": 16,
    "num_layers": 3,
    "num_heads": 2,
    "num_rbf": 8,
    "neighbor_norm": 3.0,
}
ELEMENTS = {
    "Cu": {"elements": ("Cu",), "energy_shift": (-3.75,)},
    "HCO": {"elements": ("H", "C", "O"), "energy_shift": (-13.6, -1029.5, -2041.3)},
}
# (name, kind, settings) of the potentials that claim every law, each for one and for three elements
SOUND: list[tuple[str, str, dict[str, Any]]] = [
    ("hvnet", "hvnet", {}),
    ("hvnet painn", "hvnet", {"sub_network": "painn", "neighbor_norm": 4.0}),
    ("visnet lmax 1", "visnet", {"lmax": 1}),
    ("visnet lmax 2", "visnet", {"lmax": 2}),
    (
        "visnet edge",
        "visnet",
        {"lmax": 1, "vertex_type": "edge", "rbf_type": "gauss", "activation": "ssp", "neighbor_norm": 6.0},
    ),
    ("visnet node", "visnet", {"lmax": 1, "vertex_type": "node", "attn_activation": "tanh"}),
]
# (name, kind, settings) of the published networks, with the elements at the end of the name; the laws that they
# break by construction are listed in named_exceptions.py
_ORIGINAL = {"neighbor_norm": 1.0}
# small: without a division of its sums, a random ViSNet of more layers gives 1e9 eV among many neighbors
_VISNET = _ORIGINAL | {"variant": "original", "lmax": 1, "num_layers": 2, "hidden_channels": 8, "num_rbf": 6}
PUBLISHED: list[tuple[str, str, dict[str, Any]]] = [
    ("hvnet dgl HCO", "hvnet", _ORIGINAL | {"variant": "dgl"}),
    ("hvnet dgl legacy_mic HCO", "hvnet", _ORIGINAL | {"variant": "dgl", "legacy_mic": True}),
    ("hvnet pyg HCO", "hvnet", _ORIGINAL | {"variant": "pyg"}),
    ("visnet original HCO", "visnet", _VISNET | {"lmax": 2}),
    ("visnet original edge max_min HCO", "visnet", _VISNET | {"vertex_type": "edge", "vecnorm_type": "max_min"}),
    (
        "visnet original node rms HCO",
        "visnet",
        _VISNET | {"vertex_type": "node", "vecnorm_type": "rms", "rbf_type": "gauss"},
    ),
    ("visnet original 12 neighbors HCO", "visnet", _VISNET | {"max_num_neighbors": 12}),
    ("visnet original mean HCO", "visnet", _VISNET | {"reduce": "mean", "structure_shift": -2.5}),
]


def named_settings() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(name, kind, settings) of small networks of every registered architecture."""
    listed = {kind for _, kind, _ in SOUND}
    others: list[tuple[str, str, dict[str, Any]]] = [(kind, kind, {}) for kind in architectures() if kind not in listed]
    for name, kind, changes in [*SOUND, *others]:
        for chemistry in ELEMENTS:
            yield f"{name} {chemistry}", kind, _settings(kind, chemistry) | changes
    for name, kind, changes in PUBLISHED:
        yield name, kind, _settings(kind, name.rsplit(" ", 1)[1]) | changes


def small_settings() -> Iterator[tuple[str, dict[str, Any]]]:
    """(kind, settings) of the small networks that claim every law."""
    published = {name for name, _, _ in PUBLISHED}
    return ((kind, settings) for name, kind, settings in named_settings() if name not in published)


def _settings(kind: str, chemistry: str) -> dict[str, Any]:
    known = {field.name for field in fields(architectures()[kind].config)}
    return {name: value for name, value in (COMMON | ELEMENTS[chemistry]).items() if name in known}


def random_network(kind: str, settings: Mapping[str, Any], *, seed: int = 0) -> ElementPotential:
    """A float64 network with random weights and biases, scaled to forces of 1 eV/Å (rms).

    Biases are drawn too: at their usual initial value of zero they hide discontinuities.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(kind, settings).to(torch.float64)
        for parameter in network.parameters():
            parameter.data += 0.2 * torch.randn_like(parameter)
    return _scaled(network)


def bundled_networks() -> Iterator[str]:
    """Names of the trained models that come with the package."""
    yield from sorted(bundled_models())


def bundled_network(name: str) -> ElementPotential:
    """A bundled model in float64, scaled to forces of 1 eV/Å on the structures of the laws."""
    return _scaled(load_model(name).to(torch.float64))


def _scaled(network: nn.Module) -> ElementPotential:
    network.requires_grad_(False).eval()
    structures = defined(network, samples(network.elements))
    forces = predict(network, graph_of(structures, network.cutoff)).forces
    return variant(network, energy_scale=network.config.energy_scale / float(forces.square().mean().sqrt()))


def variant(potential: ElementPotential, *, dtype: torch.dtype = torch.float64, **changes: Any) -> ElementPotential:
    """The same potential with some settings changed, in another precision."""
    if not isinstance(potential, nn.Module):
        return replace(potential, dtype=dtype, **changes)
    kind, settings = network_settings(potential)
    network = build_network(kind, settings | changes)
    network.to(torch.float64).load_state_dict(copy.deepcopy(potential.state_dict()))
    return network.requires_grad_(False).eval().to(dtype)
