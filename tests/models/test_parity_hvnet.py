"""The published HVNets against outputs of the original codes, float64: energies, forces, stress, features, edges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from numpy.typing import NDArray
from structures import graph_of
from torch import Tensor

from mlcalc.importing.hermnet_weights import hvnet_tensors
from mlcalc.models import Graph, HVNet, HVNetConfig, predict
from mlcalc.models import hvnet_dgl as hv_dgl
from mlcalc.models import hvnet_pyg as hv_pyg

SHARED = Path(__file__).parents[3] / "shared"
ORACLES = SHARED / "oracles" / "hvnet"
CASES = sorted(path.stem for path in ORACLES.glob("*.npz"))
DGL = [name for name in CASES if not name.startswith("head")]
RELATIVE, FORCE, FEATURE = 1e-9, 1e-9, 1e-9  # energy and stress; eV/Å; node features

needs_oracles = pytest.mark.skipif(not CASES, reason=f"needs the outputs of the original codes in {ORACLES}")


@dataclass(frozen=True, eq=False)
class Case:
    """A structure, what the original says of it, and the weights and settings it says so with."""

    atoms: Atoms
    expected: dict[str, NDArray[np.float64]]
    state: dict[str, Tensor]
    config: HVNetConfig

    def network(self, **changes: Any) -> HVNet:
        return _network(self.state, replace(self.config, **changes))


def _network(state: dict[str, Tensor], config: HVNetConfig) -> HVNet:
    network = HVNet(config).to(torch.float64)
    network.load_state_dict(hvnet_tensors(state, config))
    return network.requires_grad_(False).eval()


@cache
def case(name: str) -> Case:
    with np.load(ORACLES / f"{name}.npz") as file:
        expected = {key: file[key] for key in file.files}
    atoms = Atoms(expected["numbers"], positions=expected["positions"])
    if "cell" in expected:
        atoms.set_cell(expected["cell"])
        atoms.pbc = expected["pbc"]
    weights = str(expected["weights"])
    folder = ORACLES if (ORACLES / weights).exists() else SHARED / "data" / "hvnet_pretrained"
    state = torch.load(folder / weights, weights_only=True)
    return Case(atoms, expected, state, _config(expected, state))


def _config(expected: dict[str, Any], state: dict[str, Tensor]) -> HVNetConfig:
    common = {
        "elements": tuple(str(element) for element in expected["elems"]),
        "cutoff": float(expected["rc"]),
        "hidden_channels": state["embed.weight"].shape[1],
    }
    if "num_rbf" in expected:
        layers = {"num_layers": int(expected["num_layers"]), "num_rbf": int(expected["num_rbf"])}
        return HVNetConfig(variant="pyg", **common, **layers)
    size, mic = int(expected["N0"]), str(expected["mode"]) == "mic"
    return HVNetConfig(variant="dgl", num_rbf=30, legacy_mic=mic, n_ref=size if size > 0 else None, **common)


def check_parity(name: str, network: HVNet) -> None:
    """AssertionError unless everything the original computed comes out the same."""
    expected, atoms = case(name).expected, case(name).atoms
    graph = graph_of(atoms, network.cutoff)
    has_stress = bool(np.isfinite(expected.get("stress", np.nan)).all())
    found = predict(network, graph, stress=has_stress)
    _same(found.energy[0], expected["energy"], RELATIVE * abs(float(expected["energy"])), "energy")
    _same(found.forces, expected["forces"], FORCE, "forces")
    if has_stress:
        _same(found.stress[0], expected["stress"], RELATIVE * float(np.abs(expected["stress"]).max()), "stress")
    if "h4" in expected:
        features = network.node_features(graph)
        _same(features.scalars, expected["h4"], FEATURE, "scalars")
        _same(features.vectors.norm(dim=1), expected["v4_norm"], FEATURE, "norms of the vectors")
        assert len(network.original.edges(graph).center) == int(expected["n_edges"]), "number of edges"


def _same(found: Tensor, expected: NDArray[np.float64], tolerance: float, what: str) -> None:
    error = float(np.abs(found.numpy() - expected).max())
    assert error <= tolerance, f"{what}: off by {error:.3g}, allowed {tolerance:.3g}"


@needs_oracles
@pytest.mark.parametrize("name", CASES)
def test_parity(name: str) -> None:
    check_parity(name, case(name).network())


# ---- what is computed, changed in one place: each change must be caught


def _eps_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = hv_dgl.DGLHermNet.edges

    def edges(self: hv_dgl.DGLHermNet, graph: Graph) -> Any:
        """The constant added to r, not under the root."""
        found = plain(self, graph)
        r = graph.edge_vectors().norm(dim=1, keepdim=True) + hv_dgl.EPS
        return replace(found, radial=torch.sin(r * self.orders * (torch.pi / self.config.cutoff)) / r)

    monkeypatch.setattr(hv_dgl.DGLHermNet, "edges", edges)


def _sums_for_means(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = hv_dgl.DGLHermNet.edges

    def edges(self: hv_dgl.DGLHermNet, graph: Graph) -> Any:
        found = plain(self, graph)
        return replace(found, count=torch.ones_like(found.count))

    monkeypatch.setattr(hv_dgl.DGLHermNet, "edges", edges)


def _new_state_of_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    def convolution(self: hv_dgl.DGLConvolution, s: Tensor, v: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        """Each element after the other, seeing what the one before left."""
        edges, _, taken = rest
        for network, into in zip(self.mods.values(), edges, strict=True):
            ds, dv = network(s, v, into)
            s, v = s + taken * ds, v + taken[:, :, None] * dv
        return s, v

    monkeypatch.setattr(hv_dgl.DGLConvolution, "forward", convolution)


def _first_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def first_of_each_pair(graph: Graph) -> Tensor:
        pairs = (graph.edges[0] * len(graph.numbers) + graph.edges[1]).tolist()
        return torch.tensor([k for k, pair in enumerate(pairs) if pairs.index(pair) == k])

    monkeypatch.setattr(hv_dgl, "nearest_images", first_of_each_pair)


def _plain_silu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hv_pyg, "scaled_silu", torch.nn.functional.silu)


def _no_envelope(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hv_pyg, "polynomial_envelope", lambda r, *settings: torch.ones_like(r))


TWINS: list[tuple[str, Callable[[pytest.MonkeyPatch], None]]] = [
    ("cu32_rattled_full", _eps_outside),
    ("cu32_rattled_full", _sums_for_means),
    ("cho_random_ethanol", _new_state_of_sources),
    ("cu32_rattled_mic", _first_image),
    ("head_cho_random_ethanol", _plain_silu),
    ("head_cho_random_ethanol", _no_envelope),
]


@needs_oracles
@pytest.mark.parametrize(("name", "change"), TWINS)
def test_parity_rejects_other_formulas(
    name: str, change: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    change(monkeypatch)
    with pytest.raises(AssertionError, match="off by"):
        check_parity(name, case(name).network())


@needs_oracles
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("cho_random_ethanol", {"n_relations": 1}),  # without the division by three elements
        ("cho_random_ethanol", {"n_relations": 4}),
        ("cho_random_ethanol", {"aggregation": "sum"}),
        ("cho_random_ethanol", {"intensive": True}),
        ("cho_random_ethanol", {"cutoff": 5.0001}),
        ("cu32_rattled_full", {"legacy_mic": True}),
        ("cu32_rattled_mic", {"legacy_mic": False}),
        ("cu32_rattled_full", {"n_ref": 108}),
        ("cu32_rattled_full_N0_108", {"n_ref": None}),
        ("head_cho_random_ethanol", {"envelope": "exponential"}),
        ("head_cho_random_ethanol", {"envelope_exponent": 6}),
        ("head_cho_random_ethanol", {"intensive": True}),
    ],
    ids=str,
)
def test_parity_rejects_other_settings(name: str, changes: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match="off by"):
        check_parity(name, case(name).network(**changes))


@needs_oracles
@pytest.mark.parametrize("name", ["cho_random_ethanol", "cu32_rattled_full_N0_108"])
def test_settings_that_change_nothing(name: str) -> None:
    """The number of elements present given as such, and a reference size that is the size."""
    elements, atoms = len(case(name).config.elements), len(case(name).atoms)
    check_parity(name, case(name).network(n_relations=elements))
    plain, sized = case(name).network(n_ref=None), case(name).network(n_ref=atoms)
    graph = graph_of(case(name).atoms, plain.cutoff)
    torch.testing.assert_close(sized(graph), plain(graph), rtol=1e-13, atol=0)


@needs_oracles
def test_reference_size_makes_supercells_add_up() -> None:
    atoms = case("cu32_rattled_full").atoms
    sizes = {}
    for n_ref in (None, 108):
        network = case("cu32_rattled_full").network(n_ref=n_ref)
        one, two = (
            predict(network, graph_of(cell, 5.0), forces=False).energy[0] for cell in (atoms, atoms.repeat((2, 1, 1)))
        )
        sizes[n_ref] = float((two - 2 * one).abs())
    assert sizes[108] < 1e-9
    assert sizes[None] > 1e-4
