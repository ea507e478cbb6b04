"""Isotopes in order: atoms of one element and several masses are several kinds of atoms, everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from spring_crystals import EMT_COPPER, THZ, NearSprings

from mlcalc.md_protocols import grueneisen, thermal_conductivity
from mlcalc.md_protocols.crystals.kinds import labels
from mlcalc.md_protocols.errors import ConfigError, PhysicsWarning
from mlcalc.md_protocols.phonons import PhononDispersion, effective_phonons, phonon_dispersion, phonons_of_file
from mlcalc.md_protocols.phonons.meshes import run_mesh

K, SPACING = 3.0, 2.5


def chain(symbols: str, masses: list[float]) -> Atoms:
    positions = [[SPACING * k, 0, 0] for k in range(len(masses))]
    atoms = Atoms(symbols, positions=positions, masses=masses, cell=[SPACING * len(masses), 15, 15], pbc=True)
    atoms.calc = NearSprings(K, SPACING, 1.2 * SPACING)
    return atoms


def layers() -> Atoms:
    """Copper whose (001) layers are heavy and light in turn: tetragonal, two atoms."""
    atoms = bulk("Cu", "fcc", a=EMT_COPPER, cubic=True)
    masses = atoms.get_masses()
    masses[atoms.positions[:, 2] < 0.1] *= 4
    atoms.set_masses(masses)
    atoms.calc = EMT()
    return atoms


@pytest.fixture(scope="module")
def layered() -> PhononDispersion:
    return phonon_dispersion(layers(), supercell=2, npoints=3)


@pytest.mark.parametrize("symbols", ["C2", "CSi"])
def test_a_chain_of_two_masses_whatever_the_elements(symbols: str) -> None:
    """omega^2 = k (1/m + 1/M) +- k sqrt((1/m + 1/M)^2 - 4 sin^2(q a / 2) / (m M))."""
    m, M = 12.0, 28.0
    found = phonon_dispersion(
        chain(symbols, [m, M]), supercell=(6, 1, 1), dimensions=3, path="0,0,0 0.5,0,0", npoints=7
    )
    assert len(found.primitive) == 2
    total, sine = 1 / m + 1 / M, np.sin(np.pi * found.qpoints[:, 0])
    for sign, band in ((1, 5), (-1, 4)):
        squared = K * total + sign * K * np.sqrt(total**2 - 4 * sine**2 / (m * M))
        np.testing.assert_allclose(found.frequencies[:, band], np.sqrt(np.abs(squared)) * THZ, rtol=1e-5, atol=1e-2)


def test_masses_lower_the_symmetry_of_meshes_and_paths(layered: PhononDispersion) -> None:
    assert sorted(layered.primitive.get_masses() / 63.546) == pytest.approx([1, 4])
    assert {name for pair in layered.labels for name in pair} >= {"Z", "R", "A"}  # tetragonal
    reduced, whole = (run_mesh(layered.phonopy(), (4, 4, 4), symmetry=symmetry) for symmetry in (True, False))
    weights = np.array(reduced.weights, dtype=float)
    assert len(weights) < len(whole.weights)
    mean = weights @ np.array(reduced.frequencies).sum(axis=1) / weights.sum()
    assert mean == pytest.approx(np.array(whole.frequencies).sum(axis=1).mean(), rel=1e-7)
    assert list(layered.dos(mesh=4).by_element) == ["Cu"]


def test_files_keep_them(layered: PhononDispersion, tmp_path: Path) -> None:
    layered.save(tmp_path / "p.npz")
    layered.write_phonopy(tmp_path / "phonopy")
    q = [0.1, 0.2, 0.3]
    np.testing.assert_allclose(PhononDispersion.load(tmp_path / "p.npz").at(q), layered.at(q), atol=1e-9)
    again = phonons_of_file(tmp_path / "phonopy/phonopy_params.yaml", npoints=3)
    np.testing.assert_allclose(again.at(q), layered.at(q), atol=1e-5)


def test_protocols_on_top_of_phonons() -> None:
    atoms = layers()
    assert grueneisen(atoms, supercell=2, mesh=3, npoints=2).n_atoms == 2
    settings: dict[str, Any] = {"n_structures": 20, "npoints": 2, "max_iterations": 1, "tolerance_THz": 50.0}
    found = effective_phonons(atoms, supercell=2, temperature_K=300, error_THz=50.0, **settings)
    assert len(found.phonons.primitive) == 2
    with pytest.raises(ConfigError, match=r"atoms 0 and [12] are equal by symmetry and have the masses 254.184 and 63"):
        thermal_conductivity(atoms, supercell=2, mesh=3)


def test_a_primitive_cell_that_mixes_masses_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot make the primitive cell 'F'"):
        phonon_dispersion(layers(), supercell=2, primitive_matrix="F")


def test_labels() -> None:
    atoms = Atoms("CuAuCu3", positions=np.eye(5, 3), masses=[63.5, 197.0, 65.0, 63.5001, 60.0])
    assert labels(atoms) == ["Cu", "Au", "Cu1", "Cu", "Cu2"]


@pytest.mark.parametrize("name", ["magnetic_moments", "charges"])
def test_moments_and_charges_are_refused(name: str) -> None:
    """They would be gone from the displaced supercells, and symmetry would not know them."""
    atoms = bulk("Cu", "fcc", a=EMT_COPPER, cubic=True)
    getattr(atoms, f"set_initial_{name}")([1, 1, -1, -1])
    atoms.calc = EMT()
    with pytest.raises(ConfigError, match=f"initial {name.replace('_', ' ')} .*set_initial_{name}"):
        phonon_dispersion(atoms, supercell=2)
    with pytest.raises(ConfigError, match=f"initial {name.replace('_', ' ')}"):
        grueneisen(atoms, supercell=2)
    getattr(atoms, f"set_initial_{name}")([0, 0, 0, 0])
    assert phonon_dispersion(atoms, supercell=1, npoints=2).n_displacements


def test_constraints_are_told() -> None:
    atoms = bulk("Cu", "fcc", a=EMT_COPPER)
    atoms.set_constraint(FixAtoms([0]))
    atoms.calc = EMT()
    with pytest.warns(PhysicsWarning, match=r"FixAtoms\) are not applied"):
        found = phonon_dispersion(atoms, supercell=2, npoints=2)
    assert "FixAtoms" in found.cautions[0]
