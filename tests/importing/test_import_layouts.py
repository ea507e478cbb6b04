"""Checkpoints of the original codes: every layout is recognized, with the settings and the numbers that follow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_files import (
    CUTOFF,
    HYPER_PARAMETERS,
    MASSES,
    PYG_SETTINGS,
    dgl_hermnet,
    lightning,
    old_readout,
    pyg_hermnet,
    visnet,
    written,
)
from import_cases import built, energy, hv, prediction, vis

from mlcalc import import_checkpoint
from mlcalc.models import HVNetConfig

DGL, PYG = dgl_hermnet(), pyg_hermnet()
SCRIPT = {"rc": CUTOFF, "model_rc": CUTOFF, "elems": ["O", "H"], "l": (5,), "in_feats": (8,), "is_molecule": True}
SCRIPT |= {"md": True, "intensive": False, "trn_e_loss": 0.1, "val_f_loss": torch.tensor(0.2)}
HERMNET: dict[str, tuple[Any, dict[str, Any], HVNetConfig]] = {
    "bare": (DGL, {"cutoff": CUTOFF, "energy_shift": 0.0}, hv()),
    "distributed": (
        {f"module.{name}": tensor for name, tensor in DGL.items()},
        {"cutoff": CUTOFF, "energy_shift": -2.5},
        hv(structure_shift=-2.5),
    ),
    "save_model": ({"model_params": DGL, "rc": CUTOFF, "trn_mean": -7.5, "loss": 0.1}, {}, hv(structure_shift=-7.5)),
    "script": (
        SCRIPT | {"model": DGL, "trn_mean": torch.tensor(-3.0, dtype=torch.float64)},
        {},
        hv(structure_shift=-3.0),
    ),
    "intensive": (
        SCRIPT | {"model": DGL, "trn_mean": 1.0, "intensive": True},
        {},
        hv(structure_shift=1, intensive=True),
    ),
    "old mean": (
        old_readout(DGL),
        {"cutoff": CUTOFF, "energy_shift": 0, "settings": {"aggregation": "mean"}},
        hv(),
    ),
    "old sum": (
        old_readout(DGL),
        {"cutoff": CUTOFF, "energy_shift": 0, "settings": {"aggregation": "sum"}},
        hv(aggregation="sum"),
    ),
    "per element": (
        DGL,
        {"cutoff": CUTOFF, "energy_shift": {"O": -5.0, "H": -1.0}, "legacy_mic": True, "n_ref": 6},
        hv(energy_shift=(-1.0, -5.0), legacy_mic=True, n_ref=6),
    ),
    "relations": (DGL, {"cutoff": CUTOFF, "energy_shift": 0, "settings": {"n_relations": 3}}, hv(n_relations=3)),
    "head": (
        PYG,
        {"cutoff": CUTOFF, "energy_shift": 0.0},
        hv(variant="pyg", num_layers=2),
    ),
    "head training": (
        {"model": pyg_hermnet(basis="frequencies"), "trn_mean": -1.5},
        {"settings": {"rc": CUTOFF, "envelope": {"name": "polynomial", "exponent": 4}}},
        hv(variant="pyg", num_layers=2, radial_basis="spherical_bessel", envelope_exponent=4, structure_shift=-1.5),
    ),
    "head exponential": (
        pyg_hermnet(basis="pregamma"),
        {"cutoff": CUTOFF, "energy_shift": 0.0, "settings": {"envelope": {"name": "exponential"}}},
        hv(variant="pyg", num_layers=2, radial_basis="bernstein", envelope="exponential"),
    ),
}


@pytest.mark.parametrize("name", HERMNET)
def test_hermnet_layouts(tmp_path: Path, name: str) -> None:
    content, given, config = HERMNET[name]
    network = import_checkpoint(written(tmp_path / "a.pt", content), **given)
    assert network.config == config
    state = next((content[key] for key in ("model", "model_params") if key in content), content)
    ours = built(config, {key.removeprefix("module."): tensor for key, tensor in state.items()})
    assert energy(network) == energy(ours)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def heads() -> Iterator[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]]:
    """Name, arguments of the weights, hyper-parameters and config, each as far as they differ from the usual."""
    masses = tuple(float(MASSES[z]) for z in (1, 8))
    yield "scalar", {}, {}, {}
    yield "edge", {"vertex": "edge"}, {"vertex_type": "Edge"}, {"vertex_type": "edge"}
    yield "node", {"vertex": "node"}, {"vertex_type": "Node", "lmax": 1}, {"vertex_type": "node", "lmax": 1}
    yield "gauss", {"rbf": "gauss"}, {"rbf_type": "gauss"}, {"rbf_type": "gauss"}
    yield (
        "max_min",
        {},
        {"vecnorm_type": "max_min", "trainable_vecnorm": True},
        {
            "vecnorm_type": "max_min",
            "trainable_vecnorm": True,
        },
    )
    yield (
        "rms",
        {},
        {"vecnorm_type": "rms", "activation": "ssp", "attn_activation": "tanh"},
        {
            "vecnorm_type": "rms",
            "activation": "ssp",
            "attn_activation": "tanh",
        },
    )
    yield "swish mean", {}, {"activation": "swish", "reduce_op": "mean"}, {"activation": "swish", "reduce": "mean"}
    yield "trained basis", {}, {"trainable_rbf": True}, {"trainable_rbf": True}
    none = {"prior_model": None}
    yield (
        "dipole",
        {"head": "dipole", "prior": False},
        {"output_model": "DipoleMoment"} | none,
        {
            "head": "dipole",
            "masses": masses,
        },
    )
    extent = "electronic_spatial_extent"
    yield (
        "R2",
        {"head": extent, "prior": False},
        {"output_model": "ElectronicSpatialExtent"} | none,
        {
            "head": extent,
            "masses": masses,
        },
    )
    yield "vector", {"prior": False}, {"output_model": "VectorOutput"} | none, {"head": "vector"}
    yield (
        "QM9",
        {},
        {"dataset": "QM9", "dataset_arg": "isotropic_polarizability"},
        {"quantity": "isotropic_polarizability", "unit": "bohr^3"},
    )
    yield "QM9 energy", {}, {"dataset": "QM9", "dataset_arg": "energy_U0"}, {}


HEADS = {name: rest for name, *rest in heads()}


@pytest.mark.parametrize("name", HEADS)
def test_visnet_lightning(tmp_path: Path, name: str) -> None:
    weights, hyper_parameters, changes = HEADS[name]
    state = visnet(**weights)
    path = written(tmp_path / "a.ckpt", lightning(state, **hyper_parameters))
    network = import_checkpoint(path, elements=["O", "H"])
    config = vis(state, **changes)
    assert network.config == config
    for field in ("energy", "dipole", "electronic_spatial_extent", "vector", "scalar"):
        one, other = (getattr(prediction(model, forces=False), field) for model in (network, built(config, state)))
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one, other)


def test_visnet_pyg(tmp_path: Path) -> None:
    state = visnet(vertex="edge")
    path = written(tmp_path / "a.pt", state)
    settings = PYG_SETTINGS | {"vertex": True, "vecnorm_type": "max_min", "reduce_op": "sum", "mean": None, "std": 1.0}
    network = import_checkpoint(path, settings=settings, elements=["H", "O"])
    config = vis(state, vertex_type="edge", vecnorm_type="max_min")
    assert network.config == config
    assert energy(network) == energy(built(config, state))


def test_pyg_constructor_defaults(tmp_path: Path) -> None:
    state = visnet()
    path = written(tmp_path / "a.pt", state)
    given = {name: PYG_SETTINGS[name] for name in ("num_heads", "num_layers", "hidden_channels", "num_rbf", "cutoff")}
    network = import_checkpoint(path, settings=given | {"max_z": 20}, elements=["H", "O"])
    assert network.config == vis(state, lmax=1)
    assert "lmax 1, reduce_op 'sum'" in network.info.provenance["notes"][0]
    assert energy(network) != energy(built(vis(state, lmax=2), state))  # the wrong order also fits the weights


def test_defaults_are_those_of_the_constructor(tmp_path: Path) -> None:
    """As PyTorch Geometric documents them: what a file of the default sizes gives when nothing is set."""
    state = visnet(layers=6, max_z=100, channels=128, num_rbf=32, cutoff=5.0)
    network = import_checkpoint(written(tmp_path / "a.pt", state), settings={}, elements=["H", "O"])
    sizes = {"hidden_channels": 128, "num_layers": 6, "num_heads": 8, "num_rbf": 32, "cutoff": 5.0, "lmax": 1}
    assert network.config == vis(state, **sizes)


def test_settings_of_a_lightning_file_may_come_separately(tmp_path: Path) -> None:
    state = visnet()
    path = written(tmp_path / "a.pt", {f"model.{name}": tensor for name, tensor in state.items()})
    network = import_checkpoint(path, settings=HYPER_PARAMETERS, elements=["H", "O"])
    assert network.config == vis(state)
