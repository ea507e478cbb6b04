"""Elements, shifts and units of imported networks: given, found or warned of, and never converted silently."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_files import CUTOFF, lightning, visnet, written
from import_cases import DGL, GIVEN, HO, KCAL, VISNET, WATER, energy, prediction

from mlcalc import import_checkpoint
from mlcalc.errors import ModelFileError
from mlcalc.md_protocols.errors import ConfigError, PhysicsWarning


def test_vertex_type_that_the_main_branch_ignores(tmp_path: Path) -> None:
    network = import_checkpoint(written(tmp_path / "a.ckpt", lightning(VISNET, vertex_type="Edge")), **HO)
    assert network.config.vertex_type == "none"
    assert "vertex_type is 'edge' in its settings, but its weights have no" in network.info.provenance["notes"][0]


def test_an_unknown_energy_shift_is_warned_of(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pt", DGL)
    with pytest.warns(PhysicsWarning, match="energy_shift was not given .*unknown constant.*pass energy_shift") as said:
        network = import_checkpoint(path, cutoff=CUTOFF)
    assert said[0].filename == __file__
    assert any("unknown constant" in note for note in network.info.provenance["notes"])
    assert energy(network) == energy(import_checkpoint(path, cutoff=CUTOFF, energy_shift=0.0))


def test_elements_of_visnet(tmp_path: Path) -> None:
    with pytest.warns(PhysicsWarning, match="elements was not given .*all 19 .*wrong numbers.*pass elements"):
        network = import_checkpoint(written(tmp_path / "a.ckpt", lightning(VISNET)))
    assert len(network.elements) == 19
    trained = written(tmp_path / "b.ckpt", lightning(VISNET, trained=(8, 0, 1)))
    network = import_checkpoint(trained)  # no warning: the optimizer's state shows them
    assert network.elements == ("H", "O")
    assert energy(network) == energy(import_checkpoint(trained, elements=[8, 1]))
    with pytest.warns(PhysicsWarning, match=r"names C, which its optimizer never saw \(only H, O\)"):
        import_checkpoint(trained, elements="H C O".split())


def test_energies_are_converted_as_a_whole(tmp_path: Path) -> None:
    path = written(tmp_path / "a.ckpt", lightning(VISNET, dataset="Chignolin"))
    plain = prediction(import_checkpoint(path, **HO))
    for unit, factor in (
        ("eV", 1),
        ("meV", 1e-3),
        ("kcal/mol", KCAL),
        ("kJ/mol", KCAL / 4.184),
        ("Hartree", 27.211386),
    ):
        found = prediction(import_checkpoint(path, units=unit, **HO))
        for one, other in ((found.energy, plain.energy), (found.forces, plain.forces)):
            torch.testing.assert_close(one, other * factor, rtol=1e-7, atol=1e-12)
    shifted = import_checkpoint(written(tmp_path / "b.pt", DGL), cutoff=CUTOFF, energy_shift=-3.0, units="kcal/mol")
    bare = import_checkpoint(tmp_path / "b.pt", **GIVEN)
    assert energy(shifted) == pytest.approx(KCAL * (energy(bare) - 3.0), rel=1e-12)
    with pytest.raises(ConfigError, match="units is 'K': for energy choose one of eV, meV, kcal/mol, kJ/mol, Hartree"):
        import_checkpoint(path, units="K", **HO)


def test_properties_are_converted_in_their_own_units(tmp_path: Path) -> None:
    for head, model, units in (
        ("dipole", "DipoleMoment", {"Debye": 0.2081943, "e*Å": 1.0, "e A": 1.0, "eV": 1.0}),
        ("electronic_spatial_extent", "ElectronicSpatialExtent", {"bohr^2": 0.52917721**2, "Å^2": 1.0}),
    ):
        path = written(tmp_path / "a.ckpt", lightning(visnet(head=head), output_model=model))
        plain = getattr(prediction(import_checkpoint(path, **HO), WATER), head)
        for unit, factor in units.items():
            found = getattr(prediction(import_checkpoint(path, units=unit, **HO), WATER), head)
            torch.testing.assert_close(found, plain * factor, rtol=1e-6, atol=0)
        with pytest.raises(ConfigError, match="'kcal/mol': for"):
            import_checkpoint(path, units="kcal/mol", **HO)


UNITS = (
    ({"dataset": "rMD17", "dataset_arg": "aspirin"}, "kcal/mol"),
    ({"dataset": "MD22"}, "kcal/mol"),
    ({"dataset": "MD17"}, "kcal/mol"),
    ({"dataset": "QM9", "dataset_arg": "dipole_moment", "output_model": "DipoleMoment"}, "Debye"),
    ({"dataset": "QM9", "output_model": "ElectronicSpatialExtent"}, "bohr^2"),
)


@pytest.mark.parametrize(("settings", "unit"), UNITS)
def test_known_units_are_told_and_never_applied_silently(tmp_path: Path, settings: dict[str, Any], unit: str) -> None:
    head = {"Debye": "dipole", "bohr^2": "electronic_spatial_extent"}.get(unit, "scalar")
    path = written(tmp_path / "a.ckpt", lightning(visnet(head=head), **settings))
    with pytest.warns(PhysicsWarning, match=rf"trained on {settings['dataset']}.*units='{unit.replace('^', '.')}'"):
        left = import_checkpoint(path, **HO)
    assert left.config == import_checkpoint(path, units="eV", **HO).config
    assert left.config.energy_scale != import_checkpoint(path, units=unit, **HO).config.energy_scale


def test_quantities_of_scalar_heads(tmp_path: Path) -> None:
    path = written(tmp_path / "a.ckpt", lightning(VISNET, dataset="QM9", dataset_arg="gap"))
    network = import_checkpoint(path, **HO)
    assert network.quantity == "gap"
    assert import_checkpoint(path, quantity="energy", **HO).quantity == "energy"
    assert network.config.unit == "eV"
    with pytest.raises(ModelFileError, match="the unit is 'eV' according to the file .QM9., but 'Hartree'"):
        import_checkpoint(path, units="Hartree", **HO)
