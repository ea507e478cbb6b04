"""Thermal expansion: Maxwell's relation, pressure, relaxation at each volume, one batch, files and the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from ase.calculators.emt import EMT
from ase.units import GPa
from click.testing import CliRunner

from mlcalc.cli.verbs.qha import qha_command
from mlcalc.md_protocols import Grueneisen, QuasiHarmonic, grueneisen, phonon_dispersion, quasi_harmonic, relax
from mlcalc.md_protocols.errors import ConfigError

SETTINGS: dict[str, Any] = {"supercell": 2, "mesh": (8, 8, 8), "volume_range": (-0.03, 0.06), "n_volumes": 7}
KELVIN = np.arange(0.0, 301.0, 20.0)


@pytest.fixture(scope="module")
def crystal() -> Atoms:
    """Relaxed copper of effective-medium theory."""
    atoms = bulk("Cu", a=3.59, cubic=True)
    atoms.calc = EMT()
    return relax(atoms, cell=True, fmax=1e-7, smax=1e-9, keep_symmetry=True).atoms


@pytest.fixture(scope="module")
def expanding(crystal: Atoms) -> QuasiHarmonic:
    return quasi_harmonic(crystal, temperatures=KELVIN, **SETTINGS)


@pytest.fixture(scope="module")
def modes(crystal: Atoms) -> Grueneisen:
    return grueneisen(crystal, supercell=2, mesh=SETTINGS["mesh"], npoints=11)


def test_expansion_follows_from_the_parameters(crystal: Atoms, modes: Grueneisen) -> None:
    """alpha V = gamma C_V / B at a temperature that hardly moves the volume."""
    settings = SETTINGS | {"volume_range": (-0.02, 0.03), "n_volumes": 9}
    cold = quasi_harmonic(crystal, temperatures=[60.0], **settings)
    k = 0
    there = crystal.copy()
    there.set_cell(crystal.cell.array * (cold.volumes[k] / modes.volume) ** (1 / 3), scale_atoms=True)
    there.calc = crystal.calc
    phonons = phonon_dispersion(there, supercell=2, stress_limit=None, npoints=2)
    capacity = phonons.thermal_properties([cold.temperatures[k]], mesh=SETTINGS["mesh"]).heat_capacity[0]
    gamma = modes.average(cold.temperatures[k])[0]
    expected = gamma * capacity / (cold.bulk_modulus_GPa[k] * GPa * cold.volumes[k])
    assert cold.thermal_expansion[k] == pytest.approx(expected, rel=0.03)
    assert gamma > 1


def test_pressure_makes_it_smaller_by_its_bulk_modulus(crystal: Atoms, expanding: QuasiHarmonic) -> None:
    pressed = quasi_harmonic(crystal, temperatures=KELVIN, pressure_GPa=2.0, **SETTINGS)
    assert pressed.volumes[0] / expanding.volumes[0] - 1 == pytest.approx(-2 / expanding.bulk_modulus_GPa[0], rel=0.1)


def test_atoms_relax_at_each_volume(crystal: Atoms, expanding: QuasiHarmonic) -> None:
    rattled = crystal.copy()
    rattled.calc = crystal.calc
    rattled.rattle(0.03, seed=1)
    found = quasi_harmonic(rattled, symprec=1e-3, temperatures=KELVIN, **SETTINGS)
    assert found.n_atoms == 1
    np.testing.assert_allclose(found.volumes, expanding.volumes, rtol=1e-4)


def test_all_volumes_are_one_batch(crystal: Atoms, modes: Grueneisen) -> None:
    sizes = []

    def evaluate(structures: list[Atoms]) -> list[Any]:
        sizes.append(len(structures))
        return [_Result(atoms, crystal.calc) for atoms in structures]

    again = grueneisen(crystal, supercell=2, mesh=SETTINGS["mesh"], npoints=11, evaluate=evaluate)
    assert sizes == [3, 6]  # the crystals, then each perfect and with one displacement
    np.testing.assert_allclose(again.mesh_gamma, modes.mesh_gamma, atol=1e-9)


def test_parameters_are_those_of_phonopy_and_smooth_at_the_center(crystal: Atoms, modes: Grueneisen) -> None:
    """PhonopyGruneisen on the mesh; beside Γ, where it takes all three acoustic modes for one, no jumps."""
    from phonopy import PhonopyGruneisen

    by_hand = []
    for factor in (1.0, 1.01, 0.99):
        atoms = crystal.copy()
        atoms.set_cell(crystal.cell.array * factor ** (1 / 3), scale_atoms=True)
        atoms.calc = crystal.calc
        by_hand.append(phonon_dispersion(atoms, supercell=2, stress_limit=None, npoints=2).phonopy())
    reference = PhonopyGruneisen(*by_hand)
    reference.set_mesh(SETTINGS["mesh"], is_gamma_center=True)
    qpoints, _, _, _, gamma = reference.get_mesh()
    far = np.linalg.norm(qpoints, axis=1) > 0.2
    np.testing.assert_allclose(qpoints, modes.mesh_qpoints, atol=1e-12)
    np.testing.assert_allclose(np.sort(gamma[far]), np.sort(modes.mesh_gamma[far]), atol=1e-6)
    for first, end in modes.segments:
        assert np.abs(np.diff(modes.gamma[first:end], axis=0)).max() < 0.5


def test_slabs_are_refused() -> None:
    """Volumes of a cell with vacuum are mostly volumes of the vacuum."""
    slab = fcc111("Cu", (1, 1, 3), a=3.59, vacuum=8.0, periodic=True)
    slab.calc = EMT()
    for protocol in (grueneisen, quasi_harmonic):
        with pytest.raises(ConfigError, match=r"vacuum .* along c: .* goes by the volume"):
            protocol(slab, supercell=(2, 2, 1))


class _Result:
    stress = None

    def __init__(self, atoms: Atoms, calculator: Any) -> None:
        copy = atoms.copy()
        copy.calc = calculator
        self.energy, self.forces = copy.get_potential_energy(), copy.get_forces()


def test_pictures_and_texts(expanding: QuasiHarmonic, modes: Grueneisen) -> None:
    assert expanding.plot().get_xlabel() == "temperature (K)"
    assert modes.plot().get_ylabel().startswith("mode Gr")
    assert "linear expansion" in str(expanding)
    json.dumps([expanding.to_json(), modes.to_json()], allow_nan=False)


def test_the_command(tmp_path: Path) -> None:
    structure = tmp_path / "Cu.xyz"
    bulk("Cu", a=3.64).write(structure)
    words = [str(structure), "--model", "cu-hvnet", "--supercell", "2", "2", "2", "--mesh", "6", "6", "6"]
    words += ["--temperatures", "0", "40", "10", "--volume-range", "-0.02", "0.04", "--output", str(tmp_path / "out")]
    done = CliRunner().invoke(qha_command, words)
    assert done.exit_code == 0, done.output
    assert "linear expansion" in done.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"qha.npz", "qha.json", "qha.png", "grueneisen.png"}
    half = CliRunner().invoke(qha_command, [*words[:-2], "--temperatures", "0", "1200", "400", "--json"])
    assert half.exit_code == 1  # the minimum leaves the volumes
    assert list(json.loads(half.stdout)) == ["grueneisen"]
    wrong = CliRunner().invoke(qha_command, [*words[:-2], "--temperatures", "10", "0", "1"])
    assert wrong.exit_code == 2
