"""Which plane Miller indices mean: noise, other settings of a cell, slabs for crystals, and slabs that fall apart."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from click.testing import CliRunner
from defect_crystals import copper

from mlcalc.cli.verbs.surface import surface_command
from mlcalc.md_protocols.crystals.conventional_cells import ConventionalCell
from mlcalc.md_protocols.defects.slabs import Plane
from mlcalc.md_protocols.defects.stacking_faults import stacking_fault_energy
from mlcalc.md_protocols.defects.surface_result import SurfaceEnergy
from mlcalc.md_protocols.defects.surfaces import surface_energy
from mlcalc.md_protocols.elasticity.constants import elastic_constants
from mlcalc.md_protocols.errors import ConfigError, PhysicsWarning


class Nothing(Calculator):
    """No energies, but what a slab is asked for; forces that tear its first atom away where they shall."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 - as in ASE

    def __init__(self, pull: float = 0.0) -> None:
        super().__init__()
        self.pull = pull

    def calculate(
        self, atoms: Atoms | None = None, properties: Any = ("energy",), system_changes: Any = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        forces = np.zeros((len(self.atoms), 3))
        energy = 1.0 * len(self.atoms)
        if self.pull and len(self.atoms) > 1:
            away = self.atoms.positions[0] - self.atoms.positions[1]
            forces[0] = self.pull * max(0.0, 6.0 - np.linalg.norm(away)) * away / np.linalg.norm(away)
            energy += 0.5 * self.pull * max(0.0, 6.0 - np.linalg.norm(away)) ** 2
        self.results = {"energy": energy, "forces": forces}


def noisy(amplitude: float, seed: int) -> Atoms:
    atoms = copper()
    atoms.positions += np.random.default_rng(seed).normal(scale=amplitude, size=(len(atoms), 3))
    return atoms


def test_noise_never_makes_it_another_plane() -> None:
    """Below the tolerance spglib may find a part of the symmetry, and another cell: refused, or the same plane."""
    plane, refused = Plane.of(copper(), (1, 1, 1), 1e-3), 0
    assert str(plane.conventional) == "Fm-3m, a 3.59 Å"
    for amplitude in (1e-4, 2e-4, 3e-4, 5e-4, 1e-3):
        for seed in range(12):
            try:
                found = Plane.of(noisy(amplitude, seed), (1, 1, 1), 1e-3)
            except ConfigError as error:
                refused += 1
                assert "noise lowers the crystal's symmetry" in str(error)  # noqa: PT017
                assert "symprec=0.01" in str(error)  # noqa: PT017
                continue
            assert found.spacing == pytest.approx(plane.spacing, rel=1e-2)
    assert 5 < refused < 50  # the twin: without a look at the coarser symmetry these were other planes
    assert Plane.of(noisy(3e-4, 2), (1, 1, 1), 1e-2).spacing == pytest.approx(plane.spacing, rel=1e-3)


def test_elastic_constants_in_axes_of_noise_are_told() -> None:
    for seed in range(12):
        atoms = noisy(3e-4, seed)
        found = ConventionalCell.of(atoms, 1e-3)
        assert found is not None
        coarse = found.without_noise(atoms)
        if coarse is not None and not coarse.same_axes(found.axes):
            break
    else:
        pytest.fail("no seed has other axes")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        told = elastic_constants(atoms, symprec=1e-3)
    assert any(
        re.search(r"noise lowers the symmetry of the crystal.*keep_symmetry=True.*symprec=0\.01", str(w.message))
        for w in caught
    )
    right = elastic_constants(copper(), symprec=1e-3)
    assert abs(told.conventional[0, 0] - right.conventional[0, 0]) > 5  # GPa: what is told of
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        coarse_constants = elastic_constants(atoms, symprec=1e-2)
    assert not [w for w in caught if "noise" in str(w.message)]
    assert coarse_constants.conventional[0, 0] == pytest.approx(right.conventional[0, 0], abs=0.5)


def orthorhombic(order: tuple[int, int, int]) -> Atoms:
    """A crystal of the group Pnma, with its axes in another order."""
    from ase.spacegroup import crystal

    atoms = crystal(
        ["Cu", "Cu"], [(0.18, 0.25, 0.07), (0.05, 0.06, 0.65)], spacegroup=62, cellpar=[6, 7.5, 5] + [90] * 3
    )
    turned = Atoms(
        atoms.symbols,
        scaled_positions=atoms.get_scaled_positions()[:, list(order)],
        cell=atoms.cell.lengths()[list(order)],
        pbc=True,
    )
    turned.calc = EMT()
    return turned


def test_a_cell_in_another_setting_is_told_of() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        surface_energy(orthorhombic((0, 1, 2)), miller=(1, 0, 0), n_layers=2, relaxed=False)
    assert not [w for w in caught if "Miller" in str(w.message)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = surface_energy(orthorhombic((2, 0, 1)), miller=(1, 0, 0), n_layers=2, relaxed=False)
    told = r"Pnma, a 6, b 7.5, c 5 Å.*\(a 5, b 6, c 7.5 Å\).*is \(0 1 0\)"
    assert any(re.search(told, str(w.message)) for w in caught)
    assert found.spacing == pytest.approx(6.0)
    assert "(100) of Pnma, a 6, b 7.5, c 5 Å, planes 6.000 Å apart" in str(found)


def test_results_say_what_the_indices_refer_to(tmp_path: Path) -> None:
    found = surface_energy(copper(), n_layers=3, relaxed=False)
    assert "surface (111) of Fm-3m, a 3.59 Å, planes 2.07" in str(found)
    told = found.to_json()
    assert told["spacegroup"] == "Fm-3m"
    assert told["cellpar"][3:] == pytest.approx([90] * 3)
    found.save(tmp_path / "s.npz")
    again = SurfaceEnergy.load(tmp_path / "s.npz")
    assert (again.spacegroup, again.cellpar, again.spacing) == (found.spacegroup, found.cellpar, found.spacing)


def test_a_slab_is_no_crystal() -> None:
    slab = fcc111("Cu", (1, 1, 6), a=3.59, vacuum=8.0, periodic=True)
    slab.calc = EMT()
    for protocol in (surface_energy, stacking_fault_energy):
        with pytest.raises(ConfigError, match=r"vacuum .* along c, .* the unit cell of the crystal itself"):
            protocol(slab)
    molecule = Atoms("Cu2", [[0, 0, 0], [2, 0, 0]], calculator=EMT())
    with pytest.raises(ConfigError, match="periodic in all directions"):
        surface_energy(molecule)


def test_slabs_that_fall_apart_and_energies_that_are_not_positive_are_told_of() -> None:
    atoms = bulk("Cu")
    atoms.calc = Nothing()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        surface_energy(atoms, n_layers=3, relaxed=False)
    assert any("not positive" in str(w.message) for w in caught)
    atoms.calc = Nothing(pull=1.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        surface_energy(atoms, n_layers=3, vacuum=20.0)
    told = r"an atom moved by .* more than half the distance between neighbors \(2.55"
    assert any(re.search(told, str(w.message)) for w in caught)


@pytest.mark.parametrize("shift", [0.0, 4.5, 2.7, 6.93])
@pytest.mark.parametrize("mirrored", [False, True])
def test_terminations_keep_their_numbers_whatever_the_origin(shift: float, mirrored: bool) -> None:
    """Stacking of nine layers: cuts that part equal planes by equal gaps, with other planes beyond."""
    places = {"A": (0, 0), "B": (1 / 3, 2 / 3), "C": (2 / 3, 1 / 3)}
    layers = [(*places[letter], (k + 0.5) / 9) for k, letter in enumerate("ABABCBCAC"[:: -1 if mirrored else 1])]
    atoms = Atoms("Cu9", scaled_positions=layers, cell=[2.55, 2.55, 9 * 2.08, 90, 90, 120], pbc=True)
    atoms.positions[:, 2] += shift
    atoms.wrap()
    atoms.calc = EMT()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PhysicsWarning)  # it is not relaxed
        found = surface_energy(atoms, miller=(0, 0, 1), n_layers=2, relaxed=False)
    by_number = {one.termination: one.energy for one in (found, *found.others)}
    assert by_number == pytest.approx({0: 0.0649656, 1: 0.0648841}, abs=1e-6)  # of this origin, eV/Å^2


def test_the_command_relaxes_noise_away(tmp_path: Path) -> None:
    atoms = bulk("Cu", a=3.636, cubic=True)
    atoms.positions += np.random.default_rng(2).normal(scale=3e-4, size=(4, 3))
    atoms.write(tmp_path / "noisy.extxyz")
    words = [str(tmp_path / "noisy.extxyz"), "--model", "cu-hvnet", "--unrelaxed"]
    words += ["--n-layers", "4", "--symprec", "1e-3"]
    refused = CliRunner().invoke(surface_command, [*words, "--no-relax"])
    assert "noise lowers the crystal's symmetry" in str(refused.exception)
    done = CliRunner().invoke(surface_command, words)
    assert done.exit_code == 0, done.output
    assert "surface (111) of Fm-3m, a 3.636 Å, planes 2.099 Å apart" in done.output
