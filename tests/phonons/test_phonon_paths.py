"""Paths through the Brillouin zone: the same crystal in any setting has the same frequencies at its named points."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from spring_crystals import EMT_COPPER, NearSprings

from mlcalc.md_protocols.errors import ConfigError
from mlcalc.md_protocols.phonons import PhononDispersion, phonon_dispersion
from mlcalc.md_protocols.phonons.figures import distances_of, overlay_points
from mlcalc.md_protocols.phonons.paths import plane_points, special_points


def turned(atoms: Atoms) -> Atoms:
    result: Atoms = atoms.copy()
    result.rotate(37.0, (1, 2, 3), rotate_cell=True)
    return result


def permuted(atoms: Atoms) -> Atoms:
    """The same lattice with vectors c, a + b, -b."""
    result: Atoms = atoms.copy()
    a, b, c = atoms.cell.array
    result.set_cell([c, a + b, -b])
    return result


def mirrored(atoms: Atoms) -> Atoms:
    """A left-handed cell of the same crystal."""
    result: Atoms = atoms.copy()
    result.set_cell(atoms.cell.array[[1, 0, 2]])
    return result


def named(atoms: Atoms, calculator: Any, supercell: Any = 3) -> dict[str, Any]:
    atoms.calc = calculator
    found = phonon_dispersion(atoms, supercell=supercell, npoints=3, mesh=3, stress_limit=None)
    points = special_points(found.phonopy())
    return {name: found.at(q) for name, q in points.items()}


@cache
def of_copper(supercell: Any) -> dict[str, Any]:
    """Frequencies at the named points from the primitive cell; "conventional": the supercell of 2 x 2 x 2 cubes."""
    matrix = [[-2, 2, 2], [2, -2, 2], [2, 2, -2]] if supercell == "conventional" else supercell
    return named(bulk("Cu", "fcc", a=EMT_COPPER), EMT(), matrix)


SETTINGS = [turned, permuted, mirrored]


@pytest.mark.parametrize("change", SETTINGS)
def test_copper_in_other_settings(change: Any) -> None:
    supercell = 4 if change is permuted else 3  # another shape: both must hold the whole range of forces
    reference = of_copper(supercell)
    other = named(change(bulk("Cu", "fcc", a=EMT_COPPER)), EMT(), supercell)
    assert set(other) == set(reference) >= {"Γ", "X", "L", "W", "K", "U"}
    for name, frequencies in reference.items():
        np.testing.assert_allclose(other[name], frequencies, atol=2e-3, err_msg=name)
    assert not np.allclose(reference["X"], reference["L"], atol=0.5)


@pytest.mark.parametrize("change", [lambda atoms: atoms, *SETTINGS])
def test_the_conventional_cell_has_the_primitive_path(change: Any) -> None:
    reference = of_copper("conventional")
    other = named(change(bulk("Cu", "fcc", a=EMT_COPPER, cubic=True)), EMT(), 2)
    for name, frequencies in reference.items():
        np.testing.assert_allclose(other[name], frequencies, atol=1e-3, err_msg=name)


@pytest.mark.parametrize("change", SETTINGS)
def test_a_tetragonal_crystal_in_other_settings(change: Any) -> None:
    def crystal() -> Atoms:
        return Atoms("Cu", cell=[2.5, 2.5, 2.9], pbc=True)

    springs = NearSprings(2.0, 2.6, 3.2)  # under tension, so that all modes are stiff
    reference, other = named(crystal(), springs, 4), named(change(crystal()), springs, 4)
    assert set(other) == set(reference) >= {"Γ", "X", "M", "Z", "R", "A"}
    for name, frequencies in reference.items():
        np.testing.assert_allclose(other[name], frequencies, atol=1e-3, err_msg=name)


def test_the_path_crosses_mirror_planes_as_it_should() -> None:
    """On the hexagonal path all points of equal distance to Γ-M and its images have equal frequencies."""
    atoms = bulk("Ti", "hcp", a=2.6, c=2.6 * np.sqrt(8 / 3))
    atoms.calc = NearSprings(2.0, 2.6, 3.1)
    found = phonon_dispersion(atoms, supercell=(3, 3, 2), npoints=5)
    starts = [pair[0] for pair in found.labels]
    assert starts[:3] == ["Γ", "M", "K"]
    for q in (found.qpoints[2], found.qpoints[7]):
        turned_q = np.array([-q[1], q[0] + q[1], q[2]])  # by 60 degrees about the axis
        np.testing.assert_allclose(found.at(turned_q), found.at(q), atol=1e-3)


@pytest.fixture(scope="module")
def phonons() -> PhononDispersion:
    atoms = bulk("Cu", "fcc", a=EMT_COPPER)
    atoms.calc = EMT()
    return phonon_dispersion(atoms, supercell=2, npoints=5, path="Γ X K | Γ L 0.25,0.5,1/4", mesh=2)


def test_own_paths(phonons: PhononDispersion) -> None:
    assert phonons.labels == (("Γ", "X"), ("X", "K"), ("Γ", "L"), ("L", "0.25,0.5,1/4"))
    assert phonons.segments.tolist() == [[0, 5], [5, 10], [10, 15], [15, 20]]
    np.testing.assert_allclose(phonons.qpoints[[0, 4, 9, 10, 14, 19]][:, 2], [0, 0.5, 0.75, 0, 0.5, 0.25])
    assert phonons.distances[9] == phonons.distances[10]
    reciprocal = np.linalg.inv(phonons.primitive.cell.array).T
    assert phonons.distances[4] == pytest.approx(np.linalg.norm(phonons.qpoints[4] @ reciprocal))
    assert phonons.distances[4] == pytest.approx(1 / EMT_COPPER)
    positions, names = phonons.ticks
    assert names == ["Γ", "X", "K|Γ", "L", "0.25,0.5,1/4"]
    assert len(positions) == 5
    path = [("A", [0, 0, 0]), ("B", (0.5, 0, 0.5)), None, "Γ", [0.1, 0, 0]]
    pairs = phonon_dispersion(phonons_atoms(), supercell=2, npoints=5, mesh=2, path=path)
    assert pairs.labels == (("A", "B"), ("Γ", "(0.1 0 0)"))


def phonons_atoms() -> Atoms:
    atoms = bulk("Cu", "fcc", a=EMT_COPPER)
    atoms.calc = EMT()
    return atoms


def test_points_to_compare_with_are_put_on_the_path(phonons: PhononDispersion) -> None:
    x = distances_of(phonons.path, phonons.phonopy(), [0, 0.25, 0.25])  # half-way to an equivalent of X
    assert x == pytest.approx([0.5 / EMT_COPPER])
    assert distances_of(phonons.path, phonons.phonopy(), [0.11, 0.23, 0.31]) == []
    np.testing.assert_allclose(
        overlay_points(phonons.path, phonons.phonopy(), [[0.1, 5.0], [0.2, 6.0]]), [[0.1, 5.0], [0.2, 6.0]]
    )
    # X ends one segment and starts the next: one place; L likewise.
    np.testing.assert_allclose(
        overlay_points(phonons.path, phonons.phonopy(), [[0.5, 0.5, 0, 7.0]]), [[1 / EMT_COPPER, 7.0]]
    )
    with pytest.raises(ConfigError, match="lies on the path"):
        overlay_points(phonons.path, phonons.phonopy(), [[0.11, 0.23, 0.31, 5.0]])
    with pytest.raises(ConfigError, match="shape"):
        overlay_points(phonons.path, phonons.phonopy(), [[0.1, 0.2, 0.3]])


def test_pictures(phonons: PhononDispersion) -> None:
    ax = phonons.plot(overlay=[[0.5, 0.5, 0, 7.0]], unit="meV")
    bands, states = ax.figure.axes
    assert [label.get_text() for label in bands.get_xticklabels()][:3] == ["Γ", "X", "K|Γ"]
    assert bands.get_ylabel() == "frequency (meV)"
    drawn = max(line.get_ydata().max() for line in bands.lines if len(line.get_xdata()) == 5)
    assert drawn == pytest.approx(4.135667 * phonons.frequencies.max(), rel=1e-6)
    assert bands.get_ylim() == states.get_ylim()
    with pytest.raises(ConfigError, match="unit"):
        phonons.plot(unit="Hz")


def lattices() -> dict[str, tuple[Any, set[str]]]:
    h = np.sqrt(3) / 2
    return {
        "hexagonal": ([[1, 0], [-0.5, h]], {"Γ", "M", "K"}),
        "hexagonal, sharp": ([[1, 0], [0.5, h]], {"Γ", "M", "K"}),
        "square": ([[0, 1], [1, 0]], {"Γ", "X", "M"}),
        "rectangular": ([[1, 0], [0, 1.6]], {"Γ", "X", "Y", "S"}),
        "rhombus": ([[0.5, 0.9], [0.5, -0.9]], {"Γ", "X", "Y", "S"}),
        "flat rhombus": ([[1.5, 0.4], [1.5, -0.4]], {"Γ", "X", "Y", "S"}),
        "oblique": ([[1, 0], [0.3, 1.4]], {"Γ", "X", "Y", "C"}),
    }


@pytest.mark.parametrize("name", list(lattices()))
def test_points_of_a_plane_belong_to_its_symmetry(name: str) -> None:
    """In any basis of the lattice the named points have the same lengths, folded back to the nearest lattice point."""
    vectors, expected = lattices()[name]
    cell = np.eye(3) * 20.0
    cell[:2, :2] = np.array(vectors) * 3.0
    lengths = {}
    for matrix in ([[1, 0], [0, 1]], [[1, 1], [0, 1]], [[0, 1], [-1, 0]], [[2, 1], [1, 1]], [[1, 0], [0, -1]]):
        other = cell.copy()
        other[:2] = np.array(matrix) @ cell[:2]
        points, path = plane_points(other)
        assert set(points) == expected
        assert path[0][0] == "Γ"
        reciprocal = np.linalg.inv(other).T
        for label, q in points.items():
            images = [np.linalg.norm((q + [i, j, 0]) @ reciprocal) for i in range(-4, 5) for j in range(-4, 5)]
            lengths.setdefault(label, []).append(min(images))
    kind = expected - {"Γ"}
    for label in kind:
        assert min(lengths[label]) > 0.05
        if name != "oblique":  # its three inequivalent midpoints are named by the basis
            np.testing.assert_allclose(lengths[label], lengths[label][0], atol=1e-9, err_msg=label)
    if "K" in kind:
        assert lengths["K"][0] == pytest.approx(lengths["M"][0] * 2 / np.sqrt(3))
