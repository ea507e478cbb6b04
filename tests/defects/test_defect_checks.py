"""What vacancies refuse, or say, because a number would be wrong: strained layers, moments, charges, blunt barriers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import read, write
from click.testing import CliRunner
from defect_crystals import copper

from mlcalc.cli.outputs import ResultFolder
from mlcalc.cli.relaxing import relaxed_first
from mlcalc.cli.verbs.surface import surface_command
from mlcalc.cli.verbs.vacancy import vacancy_command
from mlcalc.md_protocols.crystals.symmetry import symmetry
from mlcalc.md_protocols.crystals.vacuum import dilution, with_vacuum
from mlcalc.md_protocols.defects.migration import vacancy_migration
from mlcalc.md_protocols.defects.sites import inequivalent_sites
from mlcalc.md_protocols.defects.vacancies import vacancy_energy
from mlcalc.md_protocols.defects.vacancy_series import vacancy_series
from mlcalc.md_protocols.errors import ConfigError, EvaluationError, PhysicsWarning

A_SHEET = 2.4922  # Å, of EMT copper's hexagonal sheet
small = pytest.mark.filterwarnings("ignore:the vacancy is:mlcalc.md_protocols.errors.PhysicsWarning")


def sheet(a: float, height: float) -> Atoms:
    cell = [[a, 0, 0], [a / 2, a * np.sqrt(3) / 2, 0], [0, 0, height]]
    atoms = Atoms("Cu", cell=cell, pbc=[True, True, height > 0])
    atoms.calc = EMT()
    return atoms


@small
@pytest.mark.parametrize("height", [0.0, 15.0, 40.0])
def test_strain_of_a_layer_is_told_whatever_its_vacuum(height: float) -> None:
    settings: dict[str, Any] = {"supercell": (3, 3, 1), "relaxed": False}
    with pytest.warns(PhysicsWarning, match=r"stress of .* relax it first, in its plane, .*relax_crystal\(atoms\)"):
        found = vacancy_energy(sheet(2.6, height), **settings)
    # force per length of the sheet, over the 3 Å that a single plane counts with
    force = 1.7456 * 20.0
    assert found.perfect_max_stress_GPa == pytest.approx(force / 3.0, rel=0.01)
    assert vacancy_energy(sheet(A_SHEET, height), **settings).perfect_max_stress_GPa < 0.1


def test_a_crystal_has_no_vacuum_to_count() -> None:
    assert dilution(copper()) == 1.0
    assert dilution(with_vacuum(sheet(2.6, 0.0))) == pytest.approx(20 / 3)


@pytest.mark.parametrize("height", [0.0, 20.0])
def test_relax_first_frees_the_plane_of_a_layer(height: float) -> None:
    relaxed = relaxed_first(sheet(2.6, height), "a test", ResultFolder(None), wanted=True, as_json=True)
    assert relaxed.cell.lengths()[0] == pytest.approx(A_SHEET, abs=1e-3)
    assert (relaxed.pbc.tolist(), relaxed.cell[2, 2]) == ([True, True, height > 0], height)


def test_moments_make_sites_inequivalent() -> None:
    atoms = bulk("Cr", a=2.88, cubic=True)
    assert len(inequivalent_sites(atoms, symmetry(atoms, 1e-3), None)) == 1
    atoms.set_initial_magnetic_moments([1.0, -1.0])
    assert len(inequivalent_sites(atoms, symmetry(atoms, 1e-3), None)) == 2


class Tagged(EMT):
    """EMT, and 0.1 eV for each tag."""

    def calculate(self, *arguments: Any, **keywords: Any) -> None:
        super().calculate(*arguments, **keywords)
        self.results["energy"] += 0.1 * float(self.atoms.get_tags().sum())


@small
def test_sites_that_the_calculator_tells_apart_are_not_called_equivalent() -> None:
    atoms = copper()
    atoms.set_tags([0, 1, 1, 1])
    atoms.calc = Tagged()
    with pytest.warns(PhysicsWarning, match=r"sites 0 and 1 are equivalent .* unrelaxed energies differ by 0\.1 eV"):
        vacancy_energy(atoms, supercell=2, sites=[0, 1], relaxed=False)


@small
def test_a_barrier_without_climbing_is_the_top_of_the_fit() -> None:
    settings: dict[str, Any] = {"supercell": 2, "band_fmax": 0.03}
    climbed = vacancy_migration(copper(), n_images=1, **settings).barrier
    blunt = vacancy_migration(copper(), n_images=2, climb=False, **settings)
    assert abs(blunt.barrier / climbed - 1) < 0.06
    assert max(blunt.energies) - blunt.energies[0] < 0.9 * climbed  # two images, none at the saddle


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            lambda atoms: atoms.set_initial_charges([1, -1]),
            r"2 atoms have initial charges \(Cu0, Au1\), and without",
        ),
        (lambda atoms: atoms.info.update(charge="neutral"), r"info\['charge'\] is 'neutral': it must be a number"),
        (lambda atoms: atoms.info.update(charge=[1, 2]), r"info\['charge'\] is \[1, 2\]"),
    ],
)
def test_charges_are_refused(change: Any, text: str) -> None:
    atoms = bulk("CuAu", "cesiumchloride", a=3.0)
    atoms.calc = EMT()
    change(atoms)
    for function in (vacancy_energy, vacancy_migration):
        with pytest.raises(ConfigError, match=text):
            function(atoms, supercell=2)


def test_supercells_are_named_as_they_were_given() -> None:
    atoms = bulk("Cu")
    atoms.calc = EMT()
    with pytest.raises(ConfigError, match=r"supercell is \[\[1, 0, 0\], \[0, 1, 0\], \[0, 0, 1\]\], and without one"):
        vacancy_series(atoms, supercells=(1, 2, 3))


def run(command: Any, structure: Path, *words: str) -> Any:
    return CliRunner().invoke(command, [str(structure), "--model", "cu-hvnet", *words])


def test_what_would_be_refused_in_the_end_is_refused_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, output = tmp_path / "hcp.extxyz", tmp_path / "out"
    write(path, bulk("Cu", "hcp", a=2.55, c=4.16))
    monkeypatch.setattr("mlcalc.calculator.MLCalculator.evaluate", lambda *_, **__: pytest.fail("computed"))
    words = ("--supercell", "3", "3", "2", "--migration", "--output", str(output))
    for command, more, text in (
        (vacancy_command, (*words, "--hop", "7"), "hop is 7: the inequivalent jumps are"),
        (surface_command, ("--stacking-fault", "--output", str(output)), "fcc elements only"),
        (surface_command, ("--miller", "0", "0", "1", "--miller", "0", "0", "0"), "not all zero"),
    ):
        shown = run(command, path, *more)
        assert isinstance(shown.exception, ConfigError)
        assert text in str(shown.exception)


@pytest.mark.filterwarnings("ignore::mlcalc.md_protocols.errors.PhysicsWarning")
def test_energies_are_written_before_a_band_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, output = tmp_path / "Cu.extxyz", tmp_path / "out"
    write(path, bulk("Cu", a=3.6362, cubic=True))

    def fails(*_: Any, **__: Any) -> None:
        raise EvaluationError("image 3: the energy is nan")

    words = ("--supercell", "2", "2", "2", "--migration", "--unrelaxed", "--output", str(output), "--json")
    with monkeypatch.context() as patch:
        patch.setattr("mlcalc.cli.verbs.vacancy.vacancy_migration", fails)
        shown = run(vacancy_command, path, *words)
    assert isinstance(shown.exception, EvaluationError)
    found = json.loads((output / "vacancy.json").read_text())
    assert json.loads(shown.stdout) == found
    assert len(read(output / "vacancies.extxyz")) == 31
    words = ("--stacking-fault", "--unrelaxed", "--n-layers", "4", "--output", str(tmp_path / "surfaces"), "--json")
    twice = ("--miller", "1", "0", "0", "--miller", "2", "0", "0")
    with monkeypatch.context() as patch:
        patch.setattr("mlcalc.cli.verbs.surface.stacking_fault_energy", fails)
        shown = run(surface_command, path, *twice, *words)
    assert isinstance(shown.exception, EvaluationError)
    assert list(json.loads(shown.stdout)) == ["surface_1_0_0"]
    assert (tmp_path / "surfaces" / "surface_1_0_0.npz").exists()
