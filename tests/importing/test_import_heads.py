"""What a ViSNet's head predicts, its atomic references and its limit of neighbors: the head and the file decide."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_files import MASSES, PYG_SETTINGS, lightning, visnet, written
from import_cases import HO, energy, prediction

from mlcalc import import_checkpoint, load_model, save_model
from mlcalc.errors import ModelFileError
from mlcalc.md_protocols.errors import PhysicsWarning
from mlcalc.scope import Scope

STATE = visnet()
TABLE, INITIAL = "prior_model.atomref.weight", "prior_model.initial_atomref"
BARE = {name: tensor for name, tensor in STATE.items() if not name.startswith("prior_model")}
ZERO = STATE | {TABLE: torch.zeros(20, 1).double(), INITIAL: torch.zeros(20, 1).double()}
EXTENT = "electronic_spatial_extent"
# Hyper-parameters and arguments of scalar heads, and what they are called.
SCALARS: tuple[tuple[dict[str, Any], dict[str, Any], str], ...] = (
    ({"dataset": "QM9", "dataset_arg": EXTENT}, {}, f"scalar_{EXTENT}"),
    ({"dataset": "QM9", "dataset_arg": "dipole"}, {}, "scalar_dipole"),
    ({"dataset": "QM9", "dataset_arg": "dipole_moment"}, {}, "dipole_moment"),
    ({}, {"quantity": EXTENT}, f"scalar_{EXTENT}"),
    ({}, {"quantity": "dipole"}, "scalar_dipole"),
    ({}, {"quantity": "vector"}, "scalar_vector"),
)


@pytest.mark.parametrize(("hyper_parameters", "given", "name"), SCALARS)
def test_scalar_heads_of_targets_that_have_heads(
    tmp_path: Path, hyper_parameters: dict[str, Any], given: dict[str, Any], name: str
) -> None:
    path = written(tmp_path / "a.ckpt", lightning(STATE, **hyper_parameters))
    network = import_checkpoint(path, **given, **HO)
    potential = import_checkpoint(path, quantity="energy", **HO)
    assert network.quantity == name
    scalar = prediction(network, forces=False).scalar
    assert scalar is not None
    assert float(scalar[0]) == pytest.approx(energy(potential), rel=1e-12)  # with its atomic references
    unit = {"scalar_dipole": "Debye", "dipole_moment": "Debye", f"scalar_{EXTENT}": "bohr^2"}.get(name)
    unit = unit if hyper_parameters else None
    assert f"in {unit or 'the unit of its training data'})" in Scope.of(network).describe()
    assert Scope.of(network).field == "scalar"
    save_model(network, tmp_path / "a.safetensors", info=network.info)
    assert load_model(tmp_path / "a.safetensors").quantity == name
    noted = [note for note in network.info.provenance["notes"] if "stays in the unit of its training" in note]
    assert len(noted) == name.startswith("scalar_")
    if unit:
        with pytest.raises(
            ModelFileError, match=f"the unit is .{re.escape(unit)}. according to the file .QM9., but 'm'"
        ):
            import_checkpoint(path, units="m", **given, **HO)
    else:
        named = import_checkpoint(path, units="my unit", **given, **HO)
        assert (named.config.unit, named.config.energy_scale) == ("my unit", network.config.energy_scale)


def test_heads_that_predict_no_energy_say_so(tmp_path: Path) -> None:
    for head, model in (("dipole", "DipoleMoment"), ("electronic_spatial_extent", "ElectronicSpatialExtent")):
        path = written(tmp_path / "a.ckpt", lightning(visnet(head=head), output_model=model))
        with pytest.raises(ModelFileError, match=f"a {head} head predicts {head}, not 'energy': leave quantity out"):
            import_checkpoint(path, quantity="energy", **HO)
        network = import_checkpoint(path, quantity=head, **HO)
        assert network.config.masses == tuple(float(MASSES[z]) for z in (1, 8))


LIGHTNING = lightning(STATE)
SILENT = {name: value for name, value in LIGHTNING["hyper_parameters"].items() if name != "prior_model"}
REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "a prior without its table": (lightning(BARE), {}, f"'Atomref', but its weights lack the tensor '{TABLE}'.*incomp"),
    "a table without a prior": (lightning(STATE, prior_model=None), {}, f"no prior_model, but its weights .*'{TABLE}'"),
    "a table and no word of a prior": (
        LIGHTNING | {"hyper_parameters": SILENT},
        {},
        "no prior_model, but its weights hold",
    ),
    "a table and the word for nothing": (lightning(STATE, prior_model="null"), {}, "no prior_model, but its weights"),
    "settings without a prior": (
        STATE,
        {"settings": SILENT | {"prior_model": None}},
        "no prior_model, but its weights hold",
    ),
    "another prior": (lightning(STATE, prior_model="ZBL"), {}, "prior_model is 'ZBL'; known are 'atomref'"),
    "other references": (
        STATE,
        {"settings": PYG_SETTINGS | {"atomref": torch.ones(20, 1)}},
        r"reference of H is .* the file, but 1.0 according to settings \(atomref\). Leave out what you gave",
    ),
    "references of a table of zeros": (ZERO, {"settings": PYG_SETTINGS | {"atomref": [1.0] * 20}}, "but 1.0 .*atomref"),
    "references without a table": (BARE, {"settings": PYG_SETTINGS | {"atomref": [1.0] * 20}}, "lack the tensor"),
    "too few references": (
        STATE,
        {"settings": PYG_SETTINGS | {"atomref": [1.0]}},
        r"a.pt: the table 'atomref' is of shape \(1,\).*up to Z = 8",
    ),
    "references that are none": (STATE, {"settings": PYG_SETTINGS | {"atomref": "yes"}}, "atomref in settings is no"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_references_that_contradict_the_settings(tmp_path: Path, name: str) -> None:
    content, given, text = REFUSED[name]
    with pytest.raises(ModelFileError, match=text):
        import_checkpoint(written(tmp_path / "a.pt", content), **given, **HO)


def test_references_that_agree_with_the_settings(tmp_path: Path) -> None:
    trained = STATE | {TABLE: STATE[TABLE] + 1.0}
    for content, settings, table in (
        (lightning(STATE), None, STATE),
        (lightning(ZERO, prior_model=None), None, ZERO),
        (lightning(BARE, prior_model="none"), None, ZERO),
        (lightning(STATE, prior_model=None), {"prior_model": "Atomref"}, STATE),
        (STATE, SILENT, STATE),
        (STATE, PYG_SETTINGS, STATE),
        (STATE, PYG_SETTINGS | {"atomref": STATE[TABLE].float()}, STATE),
        (STATE, PYG_SETTINGS | {"atomref": STATE[TABLE][:, 0].tolist()}, STATE),
        (trained, PYG_SETTINGS | {"atomref": STATE[INITIAL]}, trained),  # what it was constructed with
        (ZERO, PYG_SETTINGS | {"atomref": [0.0] * 20}, ZERO),
    ):
        network = import_checkpoint(written(tmp_path / "a.pt", content), settings=settings, **HO)
        assert network.config.energy_shift == tuple(table[TABLE][[1, 8], 0].tolist())
    dipole = visnet(head="dipole", prior=False)
    import_checkpoint(written(tmp_path / "b.pt", lightning(dipole, output_model="DipoleMoment")), **HO)


def test_another_limit_of_neighbors_is_warned_of(tmp_path: Path) -> None:
    path = written(tmp_path / "a.ckpt", lightning(STATE))
    with pytest.warns(PhysicsWarning, match="max_num_neighbors is 32 in its training, and 2 are applied"):
        network = import_checkpoint(path, max_num_neighbors=2, **HO)
    assert (network.config.max_num_neighbors, network.config.trained_max_num_neighbors) == (2, 32)
    import_checkpoint(path, max_num_neighbors=32, **HO)  # no warning
