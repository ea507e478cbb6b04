"""Vacancy energies over the size of the supercell."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import fcc111
from ase.calculators.emt import EMT
from defect_crystals import InBatches, copper

from mlcalc.md_protocols.defects.vacancies import vacancy_energy
from mlcalc.md_protocols.defects.vacancy_series import VacancySeries, _lines, _series, vacancy_series
from mlcalc.md_protocols.errors import ConfigError, PhysicsWarning


def test_equals_single_supercells_and_a_fitted_line() -> None:
    atoms = copper()
    atoms.calc = InBatches(EMT())
    found = vacancy_series(atoms, supercells=(3, 2, 4), fmax=0.01)
    assert atoms.calc.sizes[:2] == [6, 3]  # three perfect supercells with three vacancies, then the vacancies
    assert found.n_atoms.tolist() == [32, 108, 256]
    alone = vacancy_energy(copper(), supercell=3, fmax=0.01)
    np.testing.assert_allclose(found.relaxed[1], alone.relaxed, atol=1e-12)
    np.testing.assert_allclose(found.unrelaxed[1], alone.unrelaxed, atol=1e-12)
    assert found.fitted.tolist() == [False, True, True]  # images 7, 11 and 14 Å apart
    slope, limit = np.polyfit(1 / found.n_atoms[1:], found.relaxed[1:, 0], 1)
    np.testing.assert_allclose([found.extrapolated[0], found.slopes[0]], [limit, slope], rtol=1e-9)
    all_of_them = np.polyfit(1 / found.n_atoms, found.relaxed[:, 0], 1)[1]
    np.testing.assert_allclose(found.uncertainties, abs(all_of_them - limit), rtol=1e-6)
    assert 0 < found.uncertainties[0] < 2e-3
    assert found.converged
    assert "(32, not fitted)" in str(found)


def series(energies: Any, distances: Any) -> VacancySeries:
    """The series of made-up energies in 32, 108, 256, ... atoms with their images so far apart."""
    sizes = [4 * n**3 for n in range(2, 2 + len(energies))]
    rows = zip(energies, sizes, distances, strict=True)
    return _series([replace(ONE, relaxed=np.array([e]), n_atoms=n, image_distance=d) for e, n, d in rows])


ONE = vacancy_energy(copper(), supercell=3, fmax=0.1)


def test_the_limit_of_known_energies() -> None:
    """A line in 1/N, and a first supercell off it by 0.1 eV because vacancies touch."""
    n = 4 * np.arange(2, 6) ** 3
    line = 1.2 - 0.5 / n
    off = line + [0.1, 0, 0, 0]
    apart = [7.0, 11.0, 14.0, 18.0]
    found = series(off, apart)
    assert abs(found.extrapolated[0] - 1.2) < 1e-12
    assert found.uncertainties[0] < 1e-12
    assert (found.fitted.tolist(), len(found.n_atoms)) == ([False, True, True, True], 4)
    kept = series(off, [11.0, 12.0, 14.0, 18.0])  # the same energies, all of them fitted
    assert abs(kept.extrapolated[0] - 1.2) > 0.01
    assert kept.uncertainties[0] > abs(kept.extrapolated[0] - 1.2) * 0.9
    near = series(off[:3], [7.0, 8.0, 9.0])
    assert near.fitted.all()
    assert near.uncertainties[0] > 0.01


def test_the_line_and_its_error() -> None:
    x = 1 / np.array([32.0, 108.0, 256.0, 500.0])
    y = 1.2 + 0.3 * x
    limit, slope, error = _lines(x, np.stack([y, y + [1e-3, -1e-3, 1e-3, -1e-3]], axis=1))
    np.testing.assert_allclose([limit[0], slope[0]], [1.2, 0.3], atol=1e-12)
    assert error[0] < 1e-12
    covariance = np.polyfit(x, y + [1e-3, -1e-3, 1e-3, -1e-3], 1, cov=True)[1]
    assert abs(error[1] - np.sqrt(covariance[1, 1])) < 1e-9


def test_two_sizes_have_no_uncertainty(tmp_path: Path) -> None:
    with pytest.warns(PhysicsWarning, match=r"7\.18 Å from its nearest image"):  # the largest decides
        found = vacancy_series(copper(), supercells=(1, 2))
    assert found.uncertainties is None
    assert "±" not in str(found)
    found.save(tmp_path / "s.npz")
    again = VacancySeries.load(tmp_path / "s.npz")
    assert again.to_json() == found.to_json()
    np.testing.assert_array_equal(again.relaxed, found.relaxed)
    ax = found.plot()
    np.testing.assert_allclose(ax.lines[1].get_ydata(), found.relaxed[:, 0])
    ax.figure.savefig(tmp_path / "s.png")


@pytest.mark.filterwarnings("ignore:the vacancy is .* from its nearest image:UserWarning")
def test_layers_grow_in_their_plane() -> None:
    slab = fcc111("Cu", (1, 1, 2), a=copper().cell[0, 0], vacuum=8)
    slab.pbc = True
    slab.calc = EMT()
    with pytest.warns(PhysicsWarning, match=r"not relaxed"):
        found = vacancy_series(slab, supercells=[(2, 2, 1), (3, 3, 1)], fmax=0.05)
    assert found.n_atoms.tolist() == [8, 18]
    with pytest.raises(ConfigError, match=r"different shapes.*along the layer, and 1 across its vacuum"):
        vacancy_series(slab, supercells=(2, 3))


@pytest.mark.parametrize(
    ("supercells", "text"),
    [
        ((2,), r"give at least two supercells"),
        (2, r"supercells is 2: give at least two"),
        ("23", r"supercells is '23'"),
        ((2, 2), r"repeat the unit cell \[8, 8\] times: each size may stand there once"),
        ((2, (2, 2, 3)), r"different shapes.*take multiples of one supercell$"),
        ((2, 0), r"supercell is 0"),
    ],
)
def test_bad_input_is_refused(supercells: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        vacancy_series(copper(), supercells=supercells)


def test_an_unconverged_member_is_said() -> None:
    with pytest.warns(PhysicsWarning, match=r"of 108 atoms: the relaxation ended unconverged \(so did 1 others of 2\)"):
        found = vacancy_series(copper(), supercells=(3, 4), steps=1)
    assert not found.converged
    assert str(found).endswith("NOT all relaxations are converged")


def test_inputs_stay_as_they_are() -> None:
    atoms: Atoms = copper()
    before = atoms.copy()
    vacancy_series(atoms, supercells=(2, 3), fmax=0.05)
    assert atoms == before
