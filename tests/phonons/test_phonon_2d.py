"""Sheets: the plane is found, and rotational sum rules make bending waves go with q^2 in spite of noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, graphene
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.neighborlist import neighbor_list
from spring_crystals import EMT_COPPER

from mlcalc.md_protocols.crystals.vacuum import vacuum_gaps
from mlcalc.md_protocols.errors import PhysicsWarning
from mlcalc.md_protocols.phonons import PhononDispersion, dispersion_of, phonon_dispersion
from mlcalc.md_protocols.phonons.crystal import plane_of
from mlcalc.md_protocols.phonons.force_constants import force_constants_from, translational_residual
from mlcalc.md_protocols.phonons.phonopy_yaml import read_phonopy
from mlcalc.md_protocols.phonons.sum_rules import enforced, rotational_violation

BOND = 1.42  # Å
DATA = Path(__file__).parents[3] / "shared" / "data" / "phonons" / "MoS2_monolayer"


class Sheet(Calculator):
    """A honeycomb sheet: springs along bonds and on cosines of angles, and a bending term; all turn with the atoms.

    E = sum_bonds k/2 (d - d0)^2 + sum_angles c/2 (cos + 1/2)^2 + sum_atoms p/2 |sum of unit bond vectors|^2
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def __init__(self, noise: float = 0.0, k: float = 40.0, c: float = 8.0, p: float = 6.0) -> None:
        super().__init__()
        self.k, self.c, self.p = k, c, p
        self.noise, self.rng = noise, np.random.default_rng(11)

    def calculate(
        self, atoms: Atoms | None = None, properties: Any = ("energy",), system_changes: Any = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        i, j, d, vectors = neighbor_list("ijdD", self.atoms, 1.8)
        units = vectors / d[:, None]
        energy, slope = 0.25 * self.k * np.sum((d - BOND) ** 2), 0.5 * self.k * (d - BOND)[:, None] * units
        sums = np.stack([np.bincount(i, units[:, x], minlength=len(self.atoms)) for x in range(3)], axis=1)
        energy += 0.5 * self.p * np.sum(sums**2)
        of_units = self.p * sums[i]  # dE / d(unit vector)
        first, second = np.nonzero((i[:, None] == i[None]) & ~np.eye(len(i), dtype=bool))
        cosines = np.einsum("ex,ex->e", units[first], units[second])
        energy += 0.25 * self.c * np.sum((cosines + 0.5) ** 2)
        pull = (self.c * (cosines + 0.5))[:, None] * units[second]
        of_units += np.stack([np.bincount(first, pull[:, x], minlength=len(i)) for x in range(3)], axis=1)
        across = of_units - np.einsum("ex,ex->e", of_units, units)[:, None] * units
        slope = slope + across / d[:, None]
        forces = np.zeros((len(self.atoms), 3))
        np.add.at(forces, i, slope)
        np.add.at(forces, j, -slope)
        forces += self.rng.normal(scale=self.noise, size=forces.shape) if self.noise else 0.0
        self.results = {"energy": float(energy), "forces": forces}


def sheet(noise: float = 0.0) -> Atoms:
    atoms = graphene(a=BOND * np.sqrt(3), vacuum=8.0)
    atoms.pbc = True
    atoms.calc = Sheet(noise)
    return atoms


def bending_exponent(phonons: PhononDispersion) -> float:
    """p of omega ~ q^p of the lowest branch, q = 0.02 ... 0.08 towards M."""
    q = np.linspace(0.02, 0.08, 7)
    lowest = phonons.at(np.stack([q, 0 * q, 0 * q], axis=1))[:, 0]
    return float(np.polyfit(np.log(q), np.log(np.abs(lowest)), 1)[0])


@pytest.fixture(scope="module")
def clean() -> PhononDispersion:
    return phonon_dispersion(sheet(), supercell=(5, 5, 1), npoints=11)


@pytest.fixture(scope="module")
def noisy() -> tuple[PhononDispersion, PhononDispersion]:
    """Without and with the rotational sum rules, from the same noisy forces."""
    settings: dict[str, Any] = {"supercell": (5, 5, 1), "npoints": 11}
    return phonon_dispersion(sheet(3e-3), **settings, force_limit=1), phonon_dispersion(
        sheet(3e-3), **settings, force_limit=1, rotational=True
    )


def test_the_forces_of_the_sheet_are_those_of_its_energy() -> None:
    atoms = sheet() * (2, 2, 1)
    atoms.rattle(0.05, seed=2)
    atoms.calc = Sheet()
    forces, moved = atoms.get_forces(), atoms.copy()
    moved.calc = Sheet()
    for atom, axis in ((0, 0), (3, 1), (5, 2)):
        energies = []
        for step in (1e-4, -1e-4):
            moved.positions = atoms.positions
            moved.positions[atom, axis] += step
            energies.append(moved.get_potential_energy())
        assert forces[atom, axis] == pytest.approx(-(energies[0] - energies[1]) / 2e-4, abs=1e-6)


def test_a_clean_sheet_bends_with_the_square(clean: PhononDispersion) -> None:
    assert clean.dimensions == 2
    assert [pair[0] for pair in clean.labels] == ["Γ", "M", "K"]
    assert clean.mesh[2] == 1
    assert bending_exponent(clean) == pytest.approx(2.0, abs=0.03)
    assert clean.rotational_violation is not None
    assert max(clean.rotational_violation.values()) < 0.05


def test_noise_stiffens_the_bending_and_the_sum_rules_take_that_off(
    clean: PhononDispersion, noisy: tuple[PhononDispersion, PhononDispersion]
) -> None:
    before, after = noisy
    assert before.rotational_violation is not None
    assert after.rotational_violation is not None
    assert max(before.rotational_violation.values()) > 0.1
    assert max(after.rotational_violation.values()) < 1e-9
    assert abs(bending_exponent(before) - 2) > 0.3
    assert bending_exponent(after) == pytest.approx(2.0, abs=0.05)
    assert after.rotational
    assert "rotational sum rules enforced" in str(after)
    stiff = clean.frequencies > 0.2 * clean.frequencies.max()
    changes = np.abs(after.frequencies - before.frequencies)[stiff] / clean.frequencies[stiff]
    assert changes.max() < 0.02


def test_the_nearest_constants_keep_every_symmetry(noisy: tuple[PhononDispersion, PhononDispersion]) -> None:
    before, after = noisy
    constants = after.force_constants
    np.testing.assert_allclose(constants, constants.transpose(1, 0, 3, 2), atol=1e-10)
    assert translational_residual(constants) < 1e-10
    phonon = after.phonopy()
    np.testing.assert_allclose(enforced(phonon), constants, atol=1e-9)  # nothing is left to do
    phonon.symmetrize_force_constants_by_space_group(show_drift=False)
    np.testing.assert_allclose(phonon.force_constants, constants, atol=1e-6)
    rotations = before.phonopy().symmetry.symmetry_operations["rotations"]
    assert len(rotations) > 100  # so that the line above says something


def test_it_is_the_nearest(noisy: tuple[PhononDispersion, PhononDispersion]) -> None:
    """The change is at right angles to every other set of constants that obeys the rules."""
    before, after = noisy
    change = after.force_constants - before.force_constants
    rng = np.random.default_rng(1)
    for _ in range(3):
        phonon = before.phonopy()
        other = rng.normal(size=phonon.force_constants.shape)
        other = (other + other.transpose(1, 0, 3, 2)) / 2
        shifts = np.array(phonon.primitive.atomic_permutations)
        other = np.mean([other[np.ix_(p, p)] for p in shifts], axis=0)  # the same in every cell
        phonon.force_constants = other
        allowed = enforced(phonon)
        scale = np.linalg.norm(change) * np.linalg.norm(allowed)
        assert abs(np.sum(change * allowed)) < 1e-9 * scale + 1e-9
        assert abs(np.sum(change * other)) > 1e-4 * scale  # the control


def test_bulk_copper_barely_changes() -> None:
    atoms = bulk("Cu", "fcc", a=EMT_COPPER)
    atoms.calc = EMT()
    before = phonon_dispersion(atoms, supercell=3, npoints=5, mesh=3)
    after = phonon_dispersion(atoms, supercell=3, npoints=5, mesh=3, rotational=True)
    np.testing.assert_allclose(after.frequencies, before.frequencies, atol=0.05)
    assert before.rotational_violation is None
    assert after.rotational_violation is not None


def test_which_cells_are_sheets() -> None:
    atoms = sheet()
    assert vacuum_gaps(atoms)[2] == pytest.approx(16.0)
    flat = np.diag([4, 4, 1])
    assert plane_of(atoms, flat, None) == 2
    assert plane_of(atoms, flat, 3) == 3
    assert plane_of(atoms, np.diag([4, 4, 2]), None) == 3
    thin = graphene(a=2.46, vacuum=1.7)
    thin.pbc = True
    assert plane_of(thin, flat, None) == 3
    assert plane_of(thin, flat, 2) == 2
    near = graphene(a=2.46, vacuum=3.0)  # between what is vacuum and what potentials reach
    near.pbc = True
    with pytest.warns(PhysicsWarning, match=r"6 Å without atoms.*feel each other within 8 Å: .*dimensions=3"):
        assert plane_of(near, flat, None) == 2
    assert plane_of(near, flat, 3) == 3
    across = atoms.copy()
    across.positions[:, 2] += 8.0  # the sheet lies on the face of its cell
    across.positions[1, 2] -= 1e-3
    assert vacuum_gaps(across)[2] == pytest.approx(16.0, abs=0.01)


def test_a_centered_cell_of_a_sheet_is_reduced_in_its_plane(clean: PhononDispersion) -> None:
    a = BOND * np.sqrt(3)
    atoms = sheet()
    wide = Atoms(pbc=True, cell=[a, a * np.sqrt(3), 16.0])
    for shift in ([0, 0, 0], [a / 2, a * np.sqrt(3) / 2, 0]):
        copy = atoms.copy()
        copy.positions += shift
        wide += copy
    wide.calc = Sheet()
    with pytest.warns(PhysicsWarning, match="8 of the crystal's 24 point operations"):
        found = phonon_dispersion(wide, supercell=(5, 3, 1), npoints=3)
    assert len(found.primitive) == 2
    np.testing.assert_allclose(found.primitive_matrix[2], [0, 0, 1])
    assert [pair[0] for pair in found.labels] == ["Γ", "M", "K"]
    corners = found.frequencies[found.segments[:, 0]]
    np.testing.assert_allclose(corners[1:], clean.frequencies[clean.segments[:, 0]][1:], rtol=0.01, atol=0.05)


def test_saved_with_its_violation(noisy: tuple[PhononDispersion, PhononDispersion], tmp_path: Path) -> None:
    noisy[1].save(tmp_path / "sheet.npz")
    again = PhononDispersion.load(tmp_path / "sheet.npz")
    assert again.rotational_violation == noisy[1].rotational_violation
    assert rotational_violation(again.phonopy()) == pytest.approx(noisy[1].rotational_violation, abs=1e-9)
    assert dispersion_of(again.phonopy(), npoints=3).dimensions == 2


@pytest.mark.skipif(not DATA.is_dir(), reason="the stored reference data are not here")
def test_molybdenum_disulfide_bends_with_the_square() -> None:
    """From published forces, whose noise bends the bending mode to imaginary frequencies near Γ."""
    from phonopy.file_IO import parse_FORCE_SETS

    phonon = read_phonopy(DATA / "phonopy_disp.yaml").phonopy()
    sets = parse_FORCE_SETS(filename=DATA / "FORCE_SETS", natom=len(phonon.supercell))
    forces = np.array([entry["forces"] for entry in sets["first_atoms"]])
    found = []
    for rotational in (False, True):
        facts = force_constants_from(phonon, forces, dimensions=2, rotational=rotational)
        found.append(dispersion_of(phonon, npoints=21, provenance=facts))
    before, after = found
    assert before.lowest < -0.005
    assert after.lowest > 0
    assert abs(bending_exponent(before) - 2) > 0.2
    assert bending_exponent(after) == pytest.approx(2.0, abs=0.05)
    others, same = before.frequencies[:, 1:], after.frequencies[:, 1:]
    np.testing.assert_allclose(same[others > 0.5], others[others > 0.5], rtol=0.01)
