"""ViSNet as published: against stored outputs of the original codes and against its equations written literally."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from literal_visnet import Settings, literal_visnet, random_state
from torch import Tensor

from mlcalc import import_checkpoint
from mlcalc.errors import ModelFileError
from mlcalc.graphs.graphs import atoms_to_graph
from mlcalc.importing.visnet_weights import visnet_tensors
from mlcalc.models import Graph, ModelError, ViSNet, ViSNetConfig, join_graphs, predict
from mlcalc.models import visnet as visnet_module
from mlcalc.models import visnet_layers as layers_module

ORACLES = Path(__file__).parents[3] / "shared/oracles/visnet"
needs_oracles = pytest.mark.skipif(not ORACLES.exists(), reason=f"the original codes' outputs {ORACLES} are not here")
CASES = (
    "a_pyg_lmax1",
    "b_pyg_lmax2_maxmin",
    "d_branch_atomref",
    "x_branch_edge_lmax1",
    "x_branch_node_lmax1_rms",
    "x_branch_dipole",
)
MOLECULES = ("ethanol", "aspirin", "water64")
RELATIVE, FORCE, FEATURE = 1e-12, 1e-11, 1e-11  # eV, eV/Å; a thousand times what is asked for


def stored(case: str, **changes: Any) -> ViSNet:
    """The checkpoint of a case in float64, for H, C and O."""
    settings = json.loads((ORACLES / case / "config.json").read_text(encoding="utf-8"))["hparams"]
    path = ORACLES / case / "model.pt"
    if path.exists():
        network = import_checkpoint(path, settings=settings, elements=("H", "C", "O"), **changes)
    else:
        network = import_checkpoint(path.with_suffix(".ckpt"), elements=("H", "C", "O"), units="eV", **changes)
    return network.double()


def molecule(name: str, cutoff: float) -> Graph:
    structures = np.load(ORACLES / "structures.npz")
    atoms = Atoms(numbers=structures[f"{name}/numbers"], positions=structures[f"{name}/positions"])
    return atoms_to_graph(atoms, cutoff)


def deviations(network: ViSNet, case: str, name: str, suffix: str = "") -> dict[str, float]:
    """Largest differences to the stored outputs; the energy relative to its size."""
    reference = np.load(ORACLES / case / "reference.npz")
    graph = molecule(name, network.cutoff)
    found = predict(network, graph)
    y = found.energy if network.quantity == "energy" else found.scalar
    expected = reference[f"{name}/y{suffix}"].item()
    result = {"energy": abs(float(y) - expected) / abs(expected)}
    if found.forces is not None:
        result["forces"] = float(np.abs(found.forces.numpy() - reference[f"{name}/forces{suffix}"]).max())
    if not suffix:
        features = network.node_features(graph)
        result["x"] = float(np.abs(features.scalars.numpy() - reference[f"{name}/x"]).max())
        result["vec"] = float(np.abs(features.vectors.numpy() - reference[f"{name}/vec"]).max())
    return result


LIMITS = {"energy": RELATIVE, "forces": FORCE, "x": FEATURE, "vec": FEATURE}


@needs_oracles
@pytest.mark.parametrize("case", CASES)
def test_stored_outputs_of_the_originals(case: str) -> None:
    network = stored(case)
    for name in MOLECULES:
        for quantity, deviation in deviations(network, case, name).items():
            assert deviation <= LIMITS[quantity], f"{name}, {quantity}"


@needs_oracles
@pytest.mark.parametrize("case", CASES)
def test_neighbor_limit_of_the_gpu_code(case: str) -> None:
    network, unlimited = stored(case, max_num_neighbors=32), stored(case)
    for name in MOLECULES:
        for quantity, deviation in deviations(network, case, name, "_trunc32_cuda").items():
            assert deviation <= LIMITS[quantity], f"{name}, {quantity}"
    assert deviations(unlimited, case, "water64", "_trunc32_cuda")["energy"] > 1e-6  # the broken twin
    assert deviations(network, case, "water64", "_trunc32_cpu")["energy"] > 1e-7  # whose order is another one


@needs_oracles
def test_neighbor_limit_in_a_batch_and_in_any_order_of_edges() -> None:
    network = stored("a_pyg_lmax1", max_num_neighbors=32)
    graphs = [molecule(name, network.cutoff) for name in ("water64", "ethanol", "water64")]
    shuffled = torch.randperm(graphs[0].edges.shape[1], generator=torch.Generator().manual_seed(1))
    graphs[0] = replace(graphs[0], edges=graphs[0].edges[:, shuffled], shifts=graphs[0].shifts[shuffled])
    together, alone = predict(network, join_graphs(graphs)), predict(network, graphs[2])
    torch.testing.assert_close(together.energy[[0, 2]], alone.energy.expand(2), rtol=1e-13, atol=0)


def _twin(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    layer, network = layers_module, visnet_module
    cosine, harmonics, block = network.cosine_cutoff, network.spherical_harmonics, layer.Block
    message, products, improper = block._vector_message, block._vector_products, block._improper_sums
    changes: dict[str, tuple[object, str, Callable[..., Any]]] = {
        "another cutoff function": (network, "cosine_cutoff", lambda r, rc: cosine(r, rc) ** 2),
        "smaller harmonics": (network, "spherical_harmonics", lambda u, lmax: 0.99 * harmonics(u, lmax)),
        "the smooth norm": (network, "plain_norm", network.smooth_norm),
        "the vector message with an envelope": (
            block,
            "_vector_message",
            lambda self, m, v, edges: message(self, m, v, edges) * edges.envelope[:, :, None],
        ),
        "products without rejection": (block, "_rejected", lambda self, products, p, q, edges: products),
        "improper angles without self loops": (
            block,
            "_improper_sums",
            lambda self, vec, edges: improper(self, vec, edges) - torch.mul(*self.t_proj(vec).chunk(2, 2)).sum(1),
        ),
        "no edge update": (block, "_vector_products", lambda self, vec, edges: 0 * products(self, vec, edges)),
    }
    owner, attribute, broken = changes[name]
    monkeypatch.setattr(owner, attribute, broken)


@needs_oracles
@pytest.mark.parametrize(
    ("case", "twin"),
    [
        ("a_pyg_lmax1", "another cutoff function"),
        ("b_pyg_lmax2_maxmin", "smaller harmonics"),
        ("a_pyg_lmax1", "the smooth norm"),
        ("d_branch_atomref", "the vector message with an envelope"),
        ("a_pyg_lmax1", "products without rejection"),
        ("x_branch_edge_lmax1", "products without rejection"),
        ("x_branch_node_lmax1_rms", "improper angles without self loops"),
        ("b_pyg_lmax2_maxmin", "no edge update"),
    ],
)
def test_stored_outputs_reject_a_broken_network(monkeypatch: pytest.MonkeyPatch, case: str, twin: str) -> None:
    _twin(monkeypatch, twin)
    found = deviations(stored(case), case, "ethanol")
    assert max(found["energy"], found["forces"]) > 1e-7


@needs_oracles
@pytest.mark.parametrize(
    ("case", "change"),
    [
        ("b_pyg_lmax2_maxmin", {"num_heads": 4}),
        ("b_pyg_lmax2_maxmin", {"vecnorm_type": "none"}),
        ("d_branch_atomref", {"structure_shift": 1e-3}),
        ("d_branch_atomref", {"energy_shift": (0.0, 0.0, 0.0)}),
        ("x_branch_node_lmax1_rms", {"vecnorm_type": "max_min"}),
        ("a_pyg_lmax1", {"activation": "ssp"}),
        ("a_pyg_lmax1", {"attn_activation": "tanh"}),
        ("a_pyg_lmax1", {"reduce": "mean"}),
    ],
    ids=str,
)
def test_stored_outputs_reject_another_setting(case: str, change: dict[str, Any]) -> None:
    network = stored(case)
    changed = ViSNet(replace(network.config, **change)).double().requires_grad_(False)
    changed.load_state_dict(network.state_dict())
    assert deviations(changed, case, "aspirin")["energy"] > 1e-10


ELEMENTS = ("H", "C", "O")
COMBINATIONS = [
    Settings(),
    Settings(lmax=1),
    Settings(vertex="edge"),
    Settings(lmax=1, vertex="edge", vecnorm="max_min"),
    Settings(vertex="node", rbf="gauss"),
    Settings(lmax=1, vertex="node", activation="ssp"),
    Settings(vecnorm="rms", activation="tanh", attn_activation="sigmoid"),
    Settings(lmax=1, vecnorm="max_min", rbf="gauss", attn_activation="tanh"),
    Settings(vecnorm="max_min", vertex="node", activation="swish", attn_activation="ssp"),
    Settings(vecnorm="rms", vertex="edge", activation="sigmoid", prior=True),
    Settings(layers=1, prior=True),
    Settings(layers=2, lmax=1, vertex="edge"),
    Settings(layers=1, vertex="node"),
    Settings(reduce="mean", prior=True),
    Settings(heads=4),
    *(
        Settings(head=head, lmax=lmax, reduce=reduce, activation=activation)
        for head in ("dipole", "electronic_spatial_extent", "vector")
        for lmax, reduce, activation in ((2, "add", "silu"), (1, "mean", "ssp"))
    ),
]


def our_config(s: Settings, state: dict[str, Tensor]) -> ViSNetConfig:
    numbers = [1, 6, 8]
    masses = state.get("output_model.atomic_mass")
    return ViSNetConfig(
        elements=ELEMENTS,
        cutoff=s.cutoff,
        hidden_channels=s.channels,
        num_layers=s.layers,
        num_heads=s.heads,
        num_rbf=s.num_rbf,
        lmax=s.lmax,
        energy_scale=float(state["std"]),
        energy_shift=tuple(state["prior_model.atomref.weight"][numbers, 0].tolist()) if s.prior else (),
        variant="original",
        vertex_type=s.vertex,
        rbf_type=s.rbf,
        activation=s.activation,
        attn_activation=s.attn_activation,
        head=s.head,
        masses=() if masses is None else tuple(masses[numbers].tolist()),
        vecnorm_type=s.vecnorm,
        trainable_vecnorm=True,
        reduce=s.reduce,
        structure_shift=float(state["mean"]),
    )


def our_network(s: Settings, state: dict[str, Tensor]) -> ViSNet:
    network = ViSNet(our_config(s, state)).double().requires_grad_(False).eval()
    network.load_state_dict(visnet_tensors(state, network.config))
    return network


def _molecule(seed: int = 5) -> Atoms:
    """Seven atoms, some of them out of each other's reach."""
    random = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(range(2), range(2), range(2)), axis=-1).reshape(-1, 3)[:7] * 1.8
    return Atoms(numbers=[8, 1, 6, 1, 6, 8, 1], positions=grid + random.uniform(-0.25, 0.25, (7, 3)))


@pytest.mark.parametrize("s", COMBINATIONS, ids=str)
def test_every_choice_is_the_published_equations(s: Settings) -> None:
    state, atoms = random_state(s), _molecule()
    network, graph = our_network(s, state), atoms_to_graph(atoms, s.cutoff)
    positions = torch.tensor(atoms.positions, requires_grad=True)
    expected = literal_visnet(state, s, torch.tensor(atoms.numbers), positions)
    features, found = network.node_features(graph), predict(network, graph)
    torch.testing.assert_close(features.scalars, expected["x"].detach(), rtol=0, atol=1e-12)
    torch.testing.assert_close(features.vectors, expected["vec"].detach(), rtol=0, atol=1e-12)
    if s.head == "scalar":
        (gradient,) = torch.autograd.grad(expected["y"].sum(), positions)
        torch.testing.assert_close(found.energy, expected["y"].detach(), rtol=0, atol=1e-12)
        torch.testing.assert_close(found.forces, -gradient, rtol=0, atol=1e-11)
        torch.testing.assert_close(found.energies.sum(0, keepdim=True), found.energy, rtol=0, atol=1e-12)
        return
    y = found.vector[0] if s.head == "vector" else found.scalar
    torch.testing.assert_close(y, expected["y"].detach(), rtol=0, atol=1e-12)
    assert found.energy is None
    assert found.forces is None


@needs_oracles
@pytest.mark.parametrize("case", ["a_pyg_lmax1", "x_branch_node_lmax1_rms"])
def test_the_literal_equations_are_the_originals(case: str) -> None:
    """So that agreeing with them means something for what no output is stored of."""
    network, graph = stored(case), molecule("ethanol", 5.0)
    path = next((ORACLES / case).glob("model.*"))
    loaded = torch.load(path, weights_only=True)
    state = {k.removeprefix("model."): v.double() for k, v in loaded.get("state_dict", loaded).items()}
    config = network.config
    s = Settings(
        lmax=config.lmax,
        vertex=config.vertex_type,
        vecnorm=config.vecnorm_type,
        cutoff=config.cutoff,
        channels=config.hidden_channels,
        layers=config.num_layers,
        heads=config.num_heads,
        num_rbf=config.num_rbf,
    )
    expected = np.load(ORACLES / case / "reference.npz")["ethanol/y"].item()
    found = literal_visnet(state, s, graph.numbers, graph.positions)["y"]
    assert float(found) == pytest.approx(expected, rel=1e-12)


def test_heads_of_a_molecule() -> None:
    """A dipole turns along and does not depend on the origin; a vector turns along; |mu| and R^2 are numbers."""
    turn = torch.tensor(np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))[0])
    moved = _molecule()
    moved.positions = moved.positions @ turn.numpy().T + [3.0, -2.0, 11.0]
    for head in ("dipole", "vector", "electronic_spatial_extent"):
        s = Settings(head=head)
        network = our_network(s, {**random_state(s), "mean": torch.tensor(0.0).double()})
        one, other = (predict(network, atoms_to_graph(atoms, s.cutoff)) for atoms in (_molecule(), moved))
        if head != "electronic_spatial_extent":
            a, b = getattr(one, head), getattr(other, head)
            torch.testing.assert_close(b, a @ turn.T, rtol=0, atol=1e-12)
            assert float((a - b).abs().max()) > 1e-3
        if head != "vector":
            torch.testing.assert_close(one.scalar, other.scalar, rtol=1e-12, atol=0)
        with pytest.raises(ModelError, match=f"predicts {head}, not an energy: it has no stress"):
            predict(network, atoms_to_graph(moved, s.cutoff), stress=True)
        with pytest.raises(ModelError, match=f"predicts {head}, not the energy"):
            network(atoms_to_graph(moved, s.cutoff))


@pytest.mark.parametrize("head", ["dipole", "electronic_spatial_extent"])
def test_center_of_mass_of_a_crystal_is_refused(head: str) -> None:
    s = Settings(head=head)
    atoms = _molecule()
    atoms.cell, atoms.pbc = [4.0, 4.0, 4.0], True
    with pytest.raises(ModelError, match=r"bonds across the boundary.*without periodicity"):
        predict(our_network(s, random_state(s)), atoms_to_graph(atoms, s.cutoff))


def test_tensors_that_do_not_fit_are_named() -> None:
    s = Settings(vertex="edge")
    state = random_state(s)
    config = our_config(s, state)
    name = "representation_model.vis_mp_layers.1.t_src_proj.weight"
    with pytest.raises(ModelFileError, match=f"lacks the tensor '{name}'.*vertex_type"):
        visnet_tensors({key: value for key, value in state.items() if key != name}, config)
    with pytest.raises(ModelFileError, match=rf"{name}' of the checkpoint has shape \(8, 7\).*ask for \(8, 8\)"):
        visnet_tensors({**state, name: state[name][:, 1:]}, config)
    with pytest.raises(ModelFileError, match="holds 1 tensors that .*does not have: extra"):
        visnet_tensors({**state, "extra": torch.ones(1)}, config)
    with pytest.raises(ModelFileError, match=r"does not have: .* and \d+ more"):
        visnet_tensors(state, replace(config, vertex_type="none", num_layers=1))
    with pytest.raises(ModelFileError, match=r"is not one everywhere.*trainable_vecnorm to true"):
        visnet_tensors(state, replace(config, trainable_vecnorm=False))
    heavy = replace(config, elements=("H", "Cu"), energy_shift=())
    with pytest.raises(ModelFileError, match=r"12 rows, which is no row for Cu \(Z = 29\)"):
        visnet_tensors(state, heavy)


def test_the_shifted_softplus_of_the_original_subtracts_a_rounded_logarithm() -> None:
    """Only in the original variant: 1e-8 in the function, which float64 shows."""
    x = torch.linspace(-3, 3, 7, dtype=torch.float64)
    settings: dict[str, Any] = {"elements": ("H",), "cutoff": 3.0, "activation": "ssp"}
    exact, rounded = (ViSNetConfig(variant=variant, **settings).functions[0] for variant in ("smooth", "original"))
    assert exact(torch.zeros(1, dtype=torch.float64)).item() == 0.0
    difference = torch.log(torch.tensor(2.0)).item() - float(np.log(2.0))
    assert 1e-9 < abs(difference) < 1e-7
    assert torch.allclose(exact(x) - rounded(x), torch.full_like(x, difference), atol=1e-15, rtol=0)
