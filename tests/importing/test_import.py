"""What an imported network is: numbers, dtype, header, and the file it came from."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from checkpoint_files import CUTOFF, MASSES, dgl_hermnet, lightning, visnet, written
from import_cases import SHARED, WATER, built, energy, hv, needs_shared, prediction

from mlcalc import MLCalculator, import_checkpoint, load_model, save_model
from mlcalc.models import network_settings

DGL = dgl_hermnet()
SCRIPT = {"rc": CUTOFF, "trn_mean": 0.5, "l": (5,), "in_feats": (8,), "model": DGL}


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
    content = SCRIPT | {"trn_e_loss": [0.1] * 10**5, "note": "x" * 10**6}
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
