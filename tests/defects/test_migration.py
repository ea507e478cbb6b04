"""Migration barriers against ASE's own elastic band, an analytic barrier, and the symmetry of jumps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.mep import NEB
from ase.optimize import BFGS, FIRE
from defect_crystals import InBatches, alloy, copper, pair_potential

from mlcalc.md_protocols.crystals.symmetry import symmetry
from mlcalc.md_protocols.defects.elastic_band import relax_band
from mlcalc.md_protocols.defects.hops import inequivalent_hops
from mlcalc.md_protocols.defects.migration import vacancy_migration
from mlcalc.md_protocols.defects.migration_result import MigrationBarrier
from mlcalc.md_protocols.errors import ConfigError, NotConvergedError, PhysicsWarning
from mlcalc.md_protocols.evaluator import Evaluator

pytestmark = pytest.mark.filterwarnings("ignore:the vacancy is .* from its nearest image:UserWarning")


def by_hand(fmax: float) -> np.ndarray:
    """Energies of ASE's elastic band, image by image, for a jump in 32 atoms of copper."""
    first = copper().repeat(2)
    place = first.positions[0].copy()
    del first[0]
    last = first.copy()
    last.positions[0] = place  # the atom at (0, a/2, a/2) jumps
    for end in (first, last):
        end.calc = EMT()
        BFGS(end, logfile=None).run(fmax=1e-4)
    images = [first, *(first.copy() for _ in range(3)), last]
    for image in images[1:-1]:
        image.calc = EMT()
    neb = NEB(images, k=0.1, climb=True, method="improvedtangent")
    neb.interpolate(mic=True)
    assert FIRE(neb, logfile=None).run(fmax=fmax, steps=300)
    return np.array([image.get_potential_energy() for image in images])


def test_equals_ase_by_hand() -> None:
    energies = by_hand(fmax=0.01)
    found = vacancy_migration(copper(), supercell=2, n_images=3, band_fmax=0.01, fmax=1e-4, rattle=0.0)
    assert abs(found.barrier - (energies.max() - energies[0])) < 3e-4
    assert (found.saddle, found.converged) == (2, True)
    assert abs(found.barrier - found.barrier_backward) < 1e-5  # the jump is its own mirror image
    displaced = vacancy_migration(copper(), supercell=2, n_images=1, seed=4)
    assert abs(displaced.barrier - found.barrier) < 1e-3
    assert abs(displaced.barrier - displaced.barrier_backward) < 1e-3
    straight = vacancy_migration(copper(), supercell=2, n_images=3, climb=False, rattle=0.0, band_fmax=10.0)
    assert straight.barrier > found.barrier + 0.02  # what the band gains over a straight line


def test_what_the_result_says_of_the_jump() -> None:
    found = vacancy_migration(copper(), supercell=2, n_images=2, band_fmax=0.1)
    a = copper().cell[0, 0]
    assert abs(found.hop_distance - a / np.sqrt(2)) < 1e-9
    assert [hop.multiplicity for hop in found.hops] == [12]
    assert (found.site, found.symbol, found.n_atoms, len(found.images)) == (0, "Cu", 32, 4)
    first, last = found.images[0], found.images[-1]
    jumped = np.linalg.norm(last.positions - first.positions, axis=1)
    assert abs(jumped.max() - found.hop_distance) < 0.1
    assert np.sort(jumped)[-2] < 0.1  # one atom only
    np.testing.assert_allclose(found.path[-1], found.fit_path[-1])
    at_images = np.interp(found.path, found.fit_path, found.fit_energies)
    np.testing.assert_allclose(at_images, found.energies - found.energies[0], atol=1e-9)


def test_inequivalent_jumps() -> None:
    def multiplicities(atoms: Atoms, site: int = 0) -> list[tuple[int, float]]:
        hops = inequivalent_hops(atoms, symmetry(atoms, 1e-3), site, 1e-3)
        return [(hop.multiplicity, round(hop.distance, 4)) for hop in hops]

    hcp = bulk("Mg", a=3.2, c=5.2)
    assert multiplicities(hcp) == [(6, 3.1896), (6, 3.2)]  # to the next planes, and in the plane
    assert multiplicities(hcp * (2, 1, 2), 3) == multiplicities(hcp)
    assert multiplicities(bulk("W", a=3.16)) == [(8, round(3.16 * np.sqrt(3) / 2, 4)), (6, 3.16)]
    assert multiplicities(alloy(), 0)[0][0] == 6  # gold is surrounded by copper: it jumps along <100>
    triclinic = Atoms("Cu", cell=[[2.5, 0, 0], [0.1, 2.6, 0], [0.2, 0.15, 2.75]], pbc=True)
    assert [count for count, _ in multiplicities(triclinic)][:3] == [2, 2, 2]


def test_all_images_of_a_step_are_one_batch() -> None:
    atoms = copper()
    looped = vacancy_migration(atoms, supercell=2, n_images=2, band_fmax=0.1)
    atoms.calc = InBatches(EMT())
    found = vacancy_migration(atoms, supercell=2, n_images=2, band_fmax=0.1)
    sizes = atoms.calc.sizes
    assert sizes[0] == 1  # the perfect crystal
    assert sizes[-found.steps - 1 :] == [2] * (found.steps + 1)
    assert set(sizes[1 : -found.steps - 1]) <= {1, 2}  # end points
    np.testing.assert_array_equal(found.energies, looped.energies)


class Valley(Calculator):
    """One atom in E = h (1 - x^2)^2 + k/2 (y - c (1 - x^2))^2: minima at x = ±1, a saddle of height h at (0, c)."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 - as in ASE
    h, k, c = 0.8, 3.0, 0.6

    def calculate(
        self, atoms: Atoms | None = None, properties: Any = ("energy",), system_changes: Any = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        x, y, z = self.atoms.positions[0]
        away = y - self.c * (1 - x**2)
        energy = self.h * (1 - x**2) ** 2 + self.k / 2 * (away**2 + z**2)
        forces = [[4 * self.h * x * (1 - x**2) - 2 * self.k * self.c * x * away, -self.k * away, -self.k * z]]
        self.results = {"energy": energy, "forces": np.array(forces)}


@pytest.mark.parametrize(("climb", "images"), [(True, 4), (True, 5), (False, 4)])
def test_a_climbing_image_finds_the_saddle_of_an_analytic_valley(climb: bool, images: int) -> None:
    path = [Atoms("H", [[x, 0, 0]]) for x in np.linspace(-1, 1, images + 2)]
    evaluator = Evaluator(Valley())
    ends = evaluator.one(path[0]), evaluator.one(path[-1])
    band = relax_band(path, ends, evaluator, spring=0.5, band_fmax=1e-4, steps=500, climb=climb)
    assert band.converged
    assert band.max_force <= 1e-4
    if climb:
        assert abs(band.energies.max() - Valley.h) < 1e-6
        top = band.images[int(np.argmax(band.energies))]
        np.testing.assert_allclose(top.positions, [[0, Valley.c, 0]], atol=1e-3)
    else:
        assert band.energies.max() < Valley.h - 0.01  # no image is on the saddle: the check above can fail
    assert path[2].positions[0, 1] == 0  # as given


def test_what_is_wrong_with_a_path_is_said() -> None:
    with pytest.warns(PhysicsWarning, match=r"elastic band ended unconverged after 3 steps"):
        found = vacancy_migration(copper(), supercell=2, n_images=3, steps=3, fmax=0.05, rattle=0.0)
    assert not found.converged
    assert "NOT converged" in str(found)
    with pytest.raises(NotConvergedError, match=r"elastic band ended unconverged") as caught:
        vacancy_migration(copper(), supercell=2, n_images=3, steps=3, fmax=0.05, rattle=0.0, require=True)
    assert isinstance(caught.value.results[0], MigrationBarrier)
    hexagonal = bulk("Mg", a=3.2, c=5.2)
    hexagonal.calc = pair_potential()
    with pytest.warns(PhysicsWarning) as said:
        vacancy_migration(hexagonal, supercell=(3, 3, 2), steps=0, n_images=1)
    texts = " ".join(str(one.message) for one in said)
    assert "2 inequivalent jumps of similar length (0: 3.1896 Å, 6 equivalent; 1: 3.2000 Å" in texts
    assert "perfect crystal is not relaxed" in texts


class Shifted(EMT):
    """Copper with energies that favor atoms away from, or on, half the jump."""

    def __init__(self, center: np.ndarray, depth: float, width: float = 0.4) -> None:
        super().__init__()
        self.center, self.depth, self.width = center, depth, width

    def calculate(self, *arguments: Any, **keywords: Any) -> None:
        super().calculate(*arguments, **keywords)
        if len(self.atoms) % 2:  # with a vacancy
            away = self.atoms.positions - self.center
            bump = self.depth * np.exp(-((away / self.width) ** 2).sum(axis=1))
            self.results["energy"] = self.results["free_energy"] = self.results["energy"] - bump.sum()
            self.results["forces"] = self.results["forces"] - (2 * bump / self.width**2)[:, None] * away


def test_a_minimum_on_the_way_is_said() -> None:
    atoms = copper()
    a = atoms.cell[0, 0]
    atoms.calc = Shifted(np.array([0.0, 1.75 * a, 1.75 * a]), depth=1.0)
    with pytest.warns(PhysicsWarning, match=r"a minimum between its end points, at image \d, and several barriers"):
        vacancy_migration(atoms, supercell=2, n_images=5, band_fmax=0.2)


def test_end_points_that_are_one_and_the_same_are_refused() -> None:
    atoms = copper()
    a = atoms.cell[0, 0]
    atoms.calc = Shifted(np.array([0.0, 1.75 * a, 1.75 * a]), depth=5.0, width=1.2)  # draws the atom half way
    with pytest.raises(NotConvergedError, match=r"not those of a jump of 2\.54 Å: the atom is 2\.\d+ Å off") as caught:
        vacancy_migration(atoms, supercell=2, fmax=0.05)
    assert len(caught.value.results) == 2


def test_a_path_without_a_barrier_is_said() -> None:
    atoms = copper()
    a = atoms.cell[0, 0]
    atoms.calc = Shifted(np.array([0.0, 1.75 * a, 1.75 * a]), depth=2.0, width=0.45)
    with pytest.warns(PhysicsWarning, match=r"the path has no barrier: an end point is its highest image"):
        found = vacancy_migration(atoms, supercell=2, n_images=1, band_fmax=0.5, rattle=0.0)
    assert found.saddle in (0, 2)
    assert min(found.barrier, found.barrier_backward) == 0


def test_results_are_saved_loaded_and_drawn(tmp_path: Path) -> None:
    found = vacancy_migration(copper(), supercell=2, n_images=1, band_fmax=0.2)
    found.save(tmp_path / "m.npz")
    again = MigrationBarrier.load(tmp_path / "m.npz")
    assert again.to_json() == found.to_json()
    for name, value in vars(found).items():
        if name != "images":
            np.testing.assert_array_equal(value, getattr(again, name), err_msg=name)
    for one, other in zip(found.images, again.images, strict=True):
        np.testing.assert_array_equal(one.positions, other.positions)
    ax = found.plot()
    assert ax.get_xlabel() == "path length (Å)"
    ax.figure.savefig(tmp_path / "m.png")


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"site": 4}, r"sites holds 4, but the unit cell has 4 atoms"),
        ({"hop": 1}, r"hop is 1: the inequivalent jumps are 0: 2\.53\d+ Å, 12 equivalent"),
        ({"hop": -1}, r"hop is -1"),
        ({"n_images": 0}, r"n_images is 0"),
        ({"spring": 0.0}, r"spring is 0\.0"),
        ({"band_fmax": -1.0}, r"band_fmax is -1\.0"),
        ({"fmax": 0}, r"fmax is 0"),
        ({"steps": -1}, r"steps is -1"),
        ({"rattle": np.inf}, r"rattle is inf"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        vacancy_migration(copper(), **{"supercell": 2, **settings})


def test_a_choice_of_sites_is_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"2 inequivalent sites, 0 \(Au\), 1 \(Cu\): pass site=\.\.\. for one"):
        vacancy_migration(alloy(), supercell=2)
    primitive = bulk("Cu", a=copper().cell[0, 0])
    primitive.calc = EMT()
    with pytest.raises(ConfigError, match=r"its own image: take a larger one"):
        vacancy_migration(primitive, supercell=(1, 2, 2), hop=0)
