"""Models of dipoles, extents, vectors and scalars, and potentials with gaps, through calculator, evaluate and files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.data import atomic_masses
from model_bytes import edited, refused, split
from property_networks import MoleculesOnly, Pooled, Tiny, TinyConfig, registered
from small_networks import random_network

from mlcalc import MLCalculator, evaluate, load_model, save_model
from mlcalc.assessment import assess
from mlcalc.cli import main
from mlcalc.errors import MLCalcError, NonFiniteResultError, StructureError, UnavailablePropertyError
from mlcalc.md_protocols import run_nve
from mlcalc.md_protocols.errors import ConfigError
from mlcalc.model_file.header import read_model_info
from mlcalc.models import Graph, Network, build_network, predict
from mlcalc.training.data import Frame

FIELDS = {"dipole": "dipole", "electronic_spatial_extent": "electronic_spatial_extent", "vector": "vector"}
FIELDS |= {"polarizability": "scalar"}
VISNET = {"elements": ("H", "C", "O"), "cutoff": 4.0, "hidden_channels": 8, "num_layers": 2, "num_heads": 2}


@pytest.fixture(autouse=True)
def _known() -> Iterator[None]:
    with registered():
        yield


def tiny(quantity: str) -> Tiny:
    return Tiny(TinyConfig(quantity=quantity))


def ethanol(seed: int = 0) -> Atoms:
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.02, seed=seed)
    return atoms


def expected(atoms: Atoms, quantity: str) -> Any:
    """What the tiny network gives, from ASE and NumPy alone."""
    near = (atoms.get_all_distances() < 2.0) & ~np.eye(len(atoms), dtype=bool)
    charges, away = 0.25 * near.sum(1), atoms.positions - atoms.get_center_of_mass()
    return {
        "dipole": charges @ away,
        "electronic_spatial_extent": charges @ (away**2).sum(1),
        "vector": (near @ np.abs(away)).sum(0),
        "polarizability": charges.sum(),
    }[quantity]


@pytest.mark.parametrize("quantity", FIELDS)
def test_calculator_and_evaluate_give_the_quantity(quantity: str) -> None:
    structures, name = [ethanol(1), molecule("H2O"), Atoms("C"), ethanol(2)], FIELDS[quantity]
    for atoms, batched in zip(structures, evaluate(tiny(quantity), structures), strict=True):
        calc = MLCalculator(tiny(quantity))
        np.testing.assert_allclose(calc.get_property(name, atoms), expected(atoms, quantity), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(getattr(batched, name), calc.results[name], rtol=0, atol=1e-13)
        assert np.shape(calc.results[name]) == np.shape(expected(atoms, quantity))
        assert {key for key, value in vars(batched).items() if value is not None} == {name}
    moved = structures[0].copy()
    moved.positions[0] += 0.3
    assert not np.allclose(expected(moved, quantity), expected(structures[0], quantity), atol=1e-3) or name == "scalar"


def test_dipole_as_ase_asks_for_it() -> None:
    atoms = ethanol()
    atoms.calc = MLCalculator(tiny("dipole"))
    dipole = atoms.get_dipole_moment()
    assert dipole.shape == (3,)
    dipole[:] = 0.0
    np.testing.assert_allclose(atoms.get_dipole_moment(), expected(atoms, "dipole"), rtol=1e-12)
    atoms.positions[0] += 0.05
    np.testing.assert_allclose(atoms.get_dipole_moment(), expected(atoms, "dipole"), rtol=1e-12)
    atoms.translate(7.0)
    np.testing.assert_allclose(atoms.get_dipole_moment(), expected(atoms, "dipole"), atol=1e-10)


@pytest.mark.parametrize("name", ["energy", "free_energy", "energies", "forces", "stress", "charges"])
def test_a_property_model_says_what_it_predicts(name: str) -> None:
    calc = MLCalculator(tiny("dipole"))
    text = (
        f"no '{name}': it predicts the dipole moment .property 'dipole', in e Å.*neither energy nor forces.*potential"
    )
    with pytest.raises(UnavailablePropertyError, match=text) as caught:
        calc.get_property(name, ethanol())
    assert isinstance(caught.value, PropertyNotImplementedError)
    assert isinstance(caught.value, MLCalcError)
    assert calc.results == {}
    with pytest.raises(UnavailablePropertyError, match="polarizability .property 'scalar', in the unit of"):
        MLCalculator(tiny("polarizability")).get_property(name, ethanol())


def test_properties_are_those_of_the_instance() -> None:
    everything = ["energy", "free_energy", "energies", "forces", "stress"]
    assert MLCalculator(tiny("energy")).implemented_properties == everything == MLCalculator.implemented_properties
    assert MLCalculator(tiny("vector")).implemented_properties == ["vector"]
    assert MLCalculator(tiny("polarizability")).implemented_properties == ["scalar"]
    assert MLCalculator(tiny("dipole")).implemented_properties == ["dipole", "scalar"]
    assert MLCalculator(Pooled(TinyConfig())).implemented_properties == ["energy", "free_energy", "forces", "stress"]


def test_a_pooled_energy_has_no_atomic_energies() -> None:
    atoms, calc = ethanol(), MLCalculator(Pooled(TinyConfig()))
    atoms.calc = calc
    assert atoms.get_potential_energy() == pytest.approx(expected(atoms, "polarizability") ** 2)
    assert atoms.get_forces().shape == (9, 3)
    with pytest.raises(UnavailablePropertyError, match=r"no 'energies'.*no sum over atoms.*ask for the energy"):
        atoms.get_potential_energies()
    assert evaluate(Pooled(TinyConfig()), [atoms])[0].energies is None
    assert evaluate(tiny("energy"), [atoms])[0].energies.shape == (9,)


@pytest.mark.parametrize("quantity", ["dipole", "electronic_spatial_extent"])
@pytest.mark.parametrize("pbc", [True, (False, False, True)])
def test_no_center_of_mass_in_a_periodic_structure(quantity: str, pbc: Any) -> None:
    atoms = ethanol()
    atoms.center(vacuum=5.0)
    atoms.pbc = pbc
    with pytest.raises(StructureError, match=r"about the center of mass.*set atoms.pbc = False for a molecule"):
        MLCalculator(tiny(quantity)).get_property(quantity, atoms)
    with pytest.raises(StructureError, match=r"structure 1: .*about the center of mass"):
        evaluate(tiny(quantity), [ethanol(), atoms])
    assert np.isfinite(MLCalculator(tiny("vector")).get_property("vector", atoms)).all()  # sums that need no center


def test_molecular_networks_refuse_edges_across_a_boundary() -> None:
    network, whole = MoleculesOnly(TinyConfig()), ethanol()
    whole.center(vacuum=3.0)
    whole.pbc = True
    energy = MLCalculator(network).get_potential_energy(whole)
    assert energy == pytest.approx(expected(whole, "polarizability"))  # no image within reach: nothing to refuse
    split_up = whole.copy()
    split_up.positions += [5.0, 0.0, 0.0]
    split_up.wrap()
    assert MLCalculator(tiny("energy")).get_potential_energy(split_up) == pytest.approx(energy)
    for atoms in (split_up, Atoms("C", cell=[1.5] * 3, pbc=True)):
        text = r"molecules only, but \d+ of \d+ edges cross the boundary .*first: atom \d to atom \d.*atoms.pbc = False"
        with pytest.raises(StructureError, match=text):
            MLCalculator(network).get_potential_energy(atoms)
        with pytest.raises(StructureError, match=f"structure 0: .*{text}"):
            evaluate(network, [atoms])


def test_property_models_have_no_stress_assessment_or_dynamics(tmp_path: Path, capsys: Any) -> None:
    network, atoms = tiny("dipole"), ethanol()
    with pytest.raises(UnavailablePropertyError, match=r"no 'stress': it predicts the dipole moment"):
        evaluate(network, [atoms], stress=True)
    with pytest.raises(UnavailablePropertyError, match=r"assessment.*needs a potential.*predicts the dipole moment"):
        assess(network, [Frame(atoms, 0.0, np.zeros((9, 3)))])
    atoms.calc = MLCalculator(network)
    with pytest.raises(ConfigError, match=r"MLCalculator gives dipole, scalar, but no energy and no forces"):
        run_nve(atoms, timestep_fs=1.0, steps=1, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    save_model(network, tmp_path / "dipole.safetensors")
    atoms.write(tmp_path / "a.xyz")
    words = [str(tmp_path / "a.xyz"), "--model", str(tmp_path / "dipole.safetensors"), "--temperature-K", "300"]
    assert main(["md", *words, "--steps", "1", "--output", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert "Error: molecular dynamics needs a potential, but the model predicts the dipole moment" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_bad_results_of_a_property_are_errors() -> None:
    class Broken(Tiny):
        def properties(self, graph: Graph) -> dict[str, torch.Tensor]:
            lonely = torch.bincount(graph.batch) == 1
            return {"scalar": torch.where(lonely, torch.nan, 1.0)}

    network = Broken(TinyConfig(quantity="gap"))
    assert evaluate(network, [ethanol()])[0].scalar == 1.0
    with pytest.raises(
        NonFiniteResultError, match="structure 1: .*NaN or infinity as scalar for a structure of 1 atoms"
    ):
        evaluate(network, [ethanol(), Atoms("C"), ethanol()])


PROPERTY_SETTINGS = {
    "dipole": {"head": "dipole", "masses": tuple(float(atomic_masses[z]) for z in (1, 6, 8))},
    "electronic_spatial_extent": {
        "head": "electronic_spatial_extent",
        "masses": tuple(float(atomic_masses[z]) for z in (1, 6, 8)),
    },
    "vector": {"head": "vector"},
    "scalar": {"quantity": "polarizability"},
    "limit": {"variant": "original", "max_num_neighbors": 12},
    "mean": {"variant": "original", "reduce": "mean", "structure_shift": 2.0},
}


def visnet(case: str) -> Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        network = build_network("visnet", VISNET | PROPERTY_SETTINGS[case])
        for parameter in network.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return network.requires_grad_(False).eval()


@pytest.mark.parametrize("case", PROPERTY_SETTINGS)
def test_model_files_of_other_quantities(tmp_path: Path, case: str) -> None:
    network, path = visnet(case), tmp_path / "a.safetensors"
    save_model(network, path, golden=[ethanol()])
    loaded, info = load_model(path), read_model_info(path)
    assert loaded.quantity == network.quantity
    periodic = case not in ("dipole", "electronic_spatial_extent")
    limited = int(case == "limit")
    assert [any(golden.pbc) for golden in info.golden] == [False] * (4 + limited) + [True] * periodic + [False]
    ours, theirs = evaluate(loaded, [ethanol()])[0], evaluate(network, [ethanol()])[0]
    for name, value in vars(theirs).items():
        np.testing.assert_array_equal(getattr(ours, name), value)
    golden = info.golden[-1]
    if network.quantity == "energy":
        assert golden.values == ()
        assert golden.energy == pytest.approx(theirs.energy, abs=1e-9)
        return
    assert golden.energy == 0.0
    assert not np.any(golden.forces)
    name = "scalar" if case == "scalar" else case
    np.testing.assert_allclose(np.ravel(getattr(theirs, name)), golden.values, rtol=1e-9)
    assert f"{network.quantity} model for" in split(path.read_bytes())[0]["__metadata__"]["about"]


def test_forged_values_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_model(visnet("vector"), path)
    content = path.read_bytes()

    def change(values: Any) -> bytes:
        return edited(content, lambda header: header["golden"][3].update(values=values))

    good = split(content)[1]["golden"][3]["values"]
    refused(
        path, change([good[0], good[1] + 1e-4, good[2]]), r"golden structure 3 .*gives the values .*expected.*source"
    )
    refused(path, change(good[:2]), "gives 3 values, expected 2.*source")
    refused(path, change([]), "gives 3 values, expected 0.*source")
    refused(path, change("many"), "'values' of golden structure 3 is a str.*again")
    refused(path, change([*good[:2], "x"]), "golden structure 3 does not hold .*numbers as values.*again")
    path.write_bytes(change(good))
    load_model(path)


def test_energy_models_do_not_mention_values(tmp_path: Path) -> None:
    save_model(Tiny(TinyConfig()), tmp_path / "a.safetensors", golden=[bulk("C", cubic=True)])
    assert "values" not in json.dumps(split((tmp_path / "a.safetensors").read_bytes())[1])


def test_molecular_and_pooled_networks_are_saved_without_a_crystal(tmp_path: Path) -> None:
    for network, crystals in ((MoleculesOnly(TinyConfig()), 0), (Pooled(TinyConfig()), 1)):
        save_model(network, tmp_path / "a.safetensors")
        loaded = load_model(tmp_path / "a.safetensors")
        assert type(loaded) is type(network)
        assert sum(any(golden.pbc) for golden in loaded.info.golden) == crystals
    crystal = bulk("C", cubic=True)
    with pytest.raises(StructureError, match="molecules only"):
        save_model(MoleculesOnly(TinyConfig()), tmp_path / "b.safetensors", golden=[crystal])
    assert not (tmp_path / "b.safetensors").exists()


def test_the_calculator_agrees_with_predict_for_every_head() -> None:
    from structures import graph_of

    atoms = ethanol()
    for case in ("dipole", "electronic_spatial_extent", "vector", "scalar"):
        network = visnet(case).double()
        calc = MLCalculator(network)
        reference = predict(network, graph_of(atoms, 4.0))
        name = calc.implemented_properties[0]
        np.testing.assert_allclose(calc.get_property(name, atoms), getattr(reference, name)[0].numpy(), atol=1e-10)
        assert "forces" not in calc.results
    dipole = MLCalculator(visnet("dipole").double())
    number = dipole.get_property("scalar", atoms)
    assert number == pytest.approx(float(np.linalg.norm(dipole.get_dipole_moment(atoms))), rel=1e-6)


def test_ordinary_potentials_are_as_before() -> None:
    network = random_network("visnet", VISNET | {"num_rbf": 8})
    result = evaluate(network, [ethanol()], forces=False)[0]
    assert {name for name, value in vars(result).items() if value is not None} == {"energy", "energies"}
