"""Checkpoints of the original codes: recognized, with the settings that they have and the numbers that follow."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
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

from mlcalc import MLCalculator, import_checkpoint, load_model, save_model
from mlcalc.graphs import atoms_to_graph
from mlcalc.importing.hermnet_weights import hvnet_tensors
from mlcalc.importing.visnet_weights import visnet_tensors
from mlcalc.models import HVNetConfig, Network, Prediction, ViSNetConfig, network_settings, predict
from mlcalc.models.registry import build_network

SHARED = Path(__file__).parents[2] / "shared"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no reference data in {SHARED}")
WATER = Atoms("OH2", positions=[[0, 0, 0], [0.96, 0.1, 0], [-0.3, 0.9, 0.2]])


def prediction(network: Network, atoms: Atoms = WATER, *, forces: bool = True) -> Prediction:
    return predict(network, atoms_to_graph(atoms, network.cutoff), forces=forces)


def energy(network: Network, atoms: Atoms = WATER) -> float:
    value = prediction(network, atoms, forces=False).energy
    assert value is not None
    return float(value[0])


def built(config: HVNetConfig | ViSNetConfig, state: dict[str, torch.Tensor]) -> Network:
    """The network of a config written by hand, with the original's weights."""
    kind, tensors = ("hvnet", hvnet_tensors) if isinstance(config, HVNetConfig) else ("visnet", visnet_tensors)
    network = build_network(kind, vars(config)).to(torch.float64)
    network.load_state_dict(tensors(state, config))  # type: ignore[operator]
    return network.eval().requires_grad_(False)


def hv(**changes: Any) -> HVNetConfig:
    small = {"hidden_channels": 8, "num_rbf": 5, "cutoff": CUTOFF, "variant": "dgl"}
    return HVNetConfig(("H", "O"), **(small | changes))


def vis(state: dict[str, torch.Tensor], **changes: Any) -> ViSNetConfig:
    """The config of the small ViSNets, with scale and shifts read from the tensors."""
    values = {name: float(state[name]) for name in ("mean", "std")}
    shift = state["prior_model.atomref.weight"][[1, 8], 0].tolist() if "prior_model.atomref.weight" in state else ()
    small = {"hidden_channels": 8, "num_rbf": 6, "num_layers": 2, "num_heads": 2, "cutoff": CUTOFF, "lmax": 2}
    own = {"variant": "original", "trained_max_num_neighbors": 32, "structure_shift": values["mean"]}
    more = {"energy_scale": values["std"], "energy_shift": tuple(shift)}
    return ViSNetConfig(("H", "O"), **(small | own | more | changes))


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
        {"quantity": "isotropic_polarizability"},
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


def test_settings_of_a_lightning_file_may_come_separately(tmp_path: Path) -> None:
    state = visnet()
    path = written(tmp_path / "a.pt", {f"model.{name}": tensor for name, tensor in state.items()})
    network = import_checkpoint(path, settings=HYPER_PARAMETERS, elements=["H", "O"])
    assert network.config == vis(state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_round_trip_through_a_model_file(tmp_path: Path, dtype: torch.dtype) -> None:
    for name, content, given in (
        ("dgl", dgl_hermnet(dtype=dtype), {"cutoff": CUTOFF, "energy_shift": {"H": -1.25, "O": -7.5}}),
        ("visnet", lightning(visnet(dtype=dtype)), {"elements": ["H", "O"]}),
        (
            "dipole",
            lightning(visnet(head="dipole", dtype=dtype), output_model="DipoleMoment"),
            {"elements": "H O".split()},
        ),
    ):
        network = import_checkpoint(written(tmp_path / f"{name}.pt", content), **given)
        assert {parameter.dtype for parameter in network.parameters()} == {dtype}
        save_model(network, tmp_path / f"{name}.safetensors", info=network.info)
        loaded = load_model(tmp_path / f"{name}.safetensors")
        assert network_settings(loaded) == network_settings(network)
        one, other = prediction(network), prediction(loaded)
        for field in ("energy", "forces", "dipole"):
            value = getattr(one, field)
            assert value is None or torch.equal(value, getattr(other, field))


def test_numbers_of_numpy_and_any_sequence_of_elements(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pt", DGL)
    given = {"cutoff": np.float32(CUTOFF), "energy_shift": np.float32(-1.5), "elements": np.array([8, 1])}
    network = import_checkpoint(path, **given)
    assert network.config == hv(structure_shift=-1.5)
    assert network.info.provenance["given_at_import"]["energy_shift"] == -1.5
    zero = import_checkpoint(path, cutoff=CUTOFF, energy_shift=0.0)
    assert zero.info.provenance["given_at_import"] == {"cutoff": CUTOFF, "energy_shift": 0.0}


def test_long_histories_do_not_swell_the_header(tmp_path: Path) -> None:
    content = SCRIPT | {"model": DGL, "trn_mean": 0.5, "trn_e_loss": [0.1] * 10**5, "note": "x" * 10**6}
    network = import_checkpoint(written(tmp_path / "a.pt", content))
    save_model(network, tmp_path / "a.safetensors", info=network.info)
    about = load_model(tmp_path / "a.safetensors").info.provenance["trained_settings"]
    assert about["trn_e_loss"] == "100000 values"
    assert len(about["note"]) == 1000


def test_the_header_says_where_it_comes_from(tmp_path: Path) -> None:
    import hashlib

    path = written(tmp_path / "water.v2.ckpt", lightning(visnet(), seed=7))
    network = import_checkpoint(path, elements=["H", "O"], units="kcal/mol", max_num_neighbors=32)
    save_model(network, tmp_path / "water.safetensors", info=network.info)
    info = load_model(tmp_path / "water.safetensors").info
    about = info.provenance
    assert info.name == "water.v2"
    assert info.kind == "visnet"
    assert about["source_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert about["source_file"] == "water.v2.ckpt"
    assert about["layout"] == "ViSNet, Lightning checkpoint (AI2BMD)"
    assert about["licence"] == "unknown"
    assert about["trained_settings"]["seed"] == 7
    assert about["given_at_import"] == {"elements": ["H", "O"], "units": "kcal/mol", "max_num_neighbors": 32}
    assert about["conventions"] == list(network.conventions())
    assert about["caveats"] == list(network.caveats())
    assert info.settings["max_num_neighbors"] == info.settings["trained_max_num_neighbors"] == 32


def test_a_limit_of_neighbors_is_not_applied_unless_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path / "a.ckpt", lightning(visnet(), max_num_neighbors=2))
    free, limited = (import_checkpoint(path, elements=["H", "O"], max_num_neighbors=limit) for limit in (None, 2))
    assert (free.config.max_num_neighbors, free.config.trained_max_num_neighbors) == (None, 2)
    assert abs(energy(free) - energy(limited)) > 1e-3


def test_masses_of_the_file_are_taken(tmp_path: Path) -> None:
    state = visnet(head="dipole", prior=False)
    network = import_checkpoint(
        written(tmp_path / "a.ckpt", lightning(state, output_model="DipoleMoment")), elements=["H", "O"]
    )
    assert network.config.masses == (float(MASSES[1]), float(MASSES[8]))


def test_half_precision_is_converted_and_said(tmp_path: Path) -> None:
    full = dgl_hermnet(dtype=torch.float32)
    for dtype in (torch.float16, torch.bfloat16):
        path = written(tmp_path / "a.pt", {name: tensor.to(dtype) for name, tensor in full.items()})
        with pytest.warns(UserWarning, match="half precision .*converted to float32"):
            network = import_checkpoint(path, cutoff=CUTOFF, energy_shift=0.0)
        assert network.info.dtype == "float32"
        expected = {name: tensor.to(dtype).to(torch.float32).to(torch.float64) for name, tensor in full.items()}
        assert energy(network.double()) == energy(built(hv(), expected))


def test_the_file_is_neither_changed_nor_kept(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pt", DGL)
    before, seed = path.read_bytes(), torch.get_rng_state()
    network = import_checkpoint(path, cutoff=CUTOFF, energy_shift=0.0)
    assert path.read_bytes() == before
    assert torch.equal(torch.get_rng_state(), seed)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.pt"]
    one = energy(network)
    network.original.embed.weight.zero_()  # type: ignore[union-attr, operator]
    assert energy(import_checkpoint(path, cutoff=CUTOFF, energy_shift=0.0)) == one != energy(network)


def test_old_zipless_files_are_read(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pt", DGL, _use_new_zipfile_serialization=False)
    network = import_checkpoint(path, cutoff=CUTOFF, energy_shift=0.0)
    assert energy(network) == energy(built(hv(), DGL))


def test_it_works_in_the_calculator(tmp_path: Path) -> None:
    network = import_checkpoint(written(tmp_path / "a.pt", DGL), cutoff=CUTOFF, energy_shift=-2.0)
    atoms = WATER.copy()
    atoms.calc = MLCalculator(network, dtype="float64")
    assert atoms.get_potential_energy() == pytest.approx(energy(network), abs=1e-12)


ORACLES = {
    "cu108_rattled": {"cutoff": 5.0},
    "cu32_rattled_mic": {"cutoff": 5.0, "legacy_mic": True},
    "cu32_rattled_full_N0_108": {"cutoff": 5.0, "n_ref": 108},
    "cho_random_ethanol": {"cutoff": 5.0},
    "head_cho_random_ethanol": {"cutoff": 5.0},
}


@needs_shared
@pytest.mark.parametrize("name", ORACLES)
def test_published_hermnet_weights(name: str) -> None:
    with np.load(SHARED / "oracles/hvnet" / f"{name}.npz") as stored:
        case = dict(stored)
    weights = Path(str(case["weights"])).name if "weights" in case else "head_cho_random_h16_l2_r12.pt"
    (path,) = (entry for entry in SHARED.glob(f"*/**/{weights}"))
    network = import_checkpoint(path, energy_shift=0.0, **ORACLES[name]).double()
    atoms = Atoms(numbers=case["numbers"], positions=case["positions"], cell=case.get("cell"), pbc=case.get("pbc"))
    found = prediction(network, atoms)
    assert float(found.energy[0]) == pytest.approx(float(case["energy"]), rel=1e-9)  # type: ignore[index]
    np.testing.assert_allclose(found.forces, case["forces"], atol=1e-9, rtol=0)


@needs_shared
def test_published_visnet_checkpoints() -> None:
    import json

    root = SHARED / "oracles/visnet"
    with np.load(root / "structures.npz") as stored:
        ethanol = Atoms(numbers=stored["ethanol/numbers"], positions=stored["ethanol/positions"])
    for case in sorted(folder for folder in root.iterdir() if (folder / "config.json").exists()):
        given: dict[str, Any] = {"elements": ["H", "C", "O"], "units": "eV"}
        if (case / "model.pt").exists():
            given["settings"] = json.loads((case / "config.json").read_text())["hparams"]
        (path,) = case.glob("model.*")
        network = import_checkpoint(path, **given).double()
        with np.load(case / "reference.npz") as reference:
            found = prediction(network, ethanol)
            value = found.energy if found.scalar is None else found.scalar
            assert value is not None
            np.testing.assert_allclose(value, reference["ethanol/y"].ravel(), rtol=1e-9, err_msg=case.name)
            if found.forces is not None:
                np.testing.assert_allclose(found.forces, reference["ethanol/forces"], atol=1e-9, err_msg=case.name)


@needs_shared
def test_trained_elements_of_a_real_optimizer() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        network = import_checkpoint(SHARED / "oracles/visnet/t_training/lightning2.ckpt")
    assert network.elements == ("H", "C", "O")
