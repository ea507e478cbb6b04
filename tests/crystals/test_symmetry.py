"""The one door to spglib: what it refuses before spglib sees it, and which atoms symmetry may exchange."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, graphene
from ase.spacegroup import crystal

from mlcalc.errors import ConfigError
from mlcalc.md_protocols.crystals.kinds import labels, site_kinds
from mlcalc.md_protocols.crystals.symmetry import (
    refuse_masses,
    spacegroup,
    standardized_cell,
    symmetry,
    symmetry_dataset,
    symmetry_operations,
)

ROOT = Path(__file__).parents[2]


def broken(what: str) -> Atoms:
    atoms = bulk("Cu", cubic=True)
    if what == "positions":
        atoms.positions[2, 1] = np.nan
    elif what == "cell":
        atoms.cell[0, 0] = np.inf
    else:
        atoms.cell[2] = atoms.cell[0] + atoms.cell[1]
    return atoms


@pytest.mark.parametrize(
    ("what", "text"),
    [("positions", r"not finite \(indices 2\)"), ("cell", "the cell is not finite"), ("flat", "no volume")],
)
def test_what_spglib_does_not_survive_is_refused(what: str, text: str) -> None:
    for ask in (symmetry_dataset, symmetry, symmetry_operations, spacegroup):
        with pytest.raises(ConfigError, match=text):
            ask(broken(what), 1e-5)
    with pytest.raises(ConfigError, match=text):
        standardized_cell(broken(what), 1e-5, to_primitive=True)
    with pytest.raises(ConfigError, match="symprec is 0"):
        symmetry(bulk("Cu"), 0.0)


def test_atoms_on_top_of_each_other_have_no_symmetry() -> None:
    atoms = bulk("Cu", cubic=True)
    atoms.positions[1] = atoms.positions[0]
    assert symmetry_dataset(atoms, 1e-5) is None
    assert spacegroup(atoms) == "unknown"
    with pytest.raises(ConfigError, match="finds no symmetry.*look for atoms on top of each other, or choose another"):
        symmetry(atoms, 1e-5)


def test_groups_are_those_that_ase_built() -> None:
    """ASE's tables of space groups against spglib's search."""
    for number in (14, 62, 136, 152, 166, 194, 221, 227):
        cell = [5.1, 6.2, 7.3, 90, 103, 90] if number == 14 else [5.1, 6.2, 7.3, 90, 90, 90]
        cell = [5.1, 5.1, 7.3, 90, 90, 90] if number == 136 else cell
        cell = [5.1, 5.1, 7.3, 90, 90, 120] if 143 <= number <= 194 else cell
        cell = [5.1] * 3 + [90.0] * 3 if number > 194 else cell
        atoms = crystal(["Si", "O"], [(0.07, 0.13, 0.21), (0.31, 0.02, 0.43)], spacegroup=number, cellpar=cell)
        assert symmetry(atoms, 1e-5).number == number
        rotations, translations = symmetry_operations(atoms, 1e-5)
        x = atoms.get_scaled_positions()
        for rotation, translation in zip(rotations, translations, strict=True):
            away = (x @ rotation.T + translation)[:, None] - x
            nearest = np.linalg.norm((away - np.round(away)) @ atoms.cell.array, axis=2)
            assert nearest.min(axis=1).max() < 1e-4
            assert (atoms.numbers[nearest.argmin(axis=1)] == atoms.numbers).all()


def test_directions_without_periodicity_are_padded() -> None:
    atoms = graphene(vacuum=None)
    assert not atoms.pbc[2]
    assert spacegroup(atoms) == "P6/mmm (191)"


@pytest.mark.parametrize("what", ["mass", "moment", "vector", "charge"])
def test_kinds_tell_atoms_apart(what: str) -> None:
    atoms = bulk("Cu", cubic=True)
    assert site_kinds(atoms).tolist() == [1, 1, 1, 1]
    assert spacegroup(atoms) == "Fm-3m (225)"
    if what == "mass":
        atoms.set_masses([63.5, 63.5, 64.5, 63.5004])
    elif what == "charge":
        atoms.set_initial_charges([0, 0, 0.1, 1e-5])
    else:
        moments = np.array([1.0, 1.0, -1.0, 1.0])
        atoms.set_initial_magnetic_moments(moments if what == "moment" else moments[:, None] * [0.0, 0.0, 1.0])
    assert site_kinds(atoms).tolist() == [1, 1, 2, 1]
    assert labels(atoms) == ["Cu", "Cu", "Cu1", "Cu"]
    assert spacegroup(atoms) == "Pm-3m (221)"
    assert spacegroup(atoms, kinds=atoms.numbers) == "Fm-3m (225)"
    primitive = standardized_cell(atoms, 1e-5, to_primitive=True)
    assert primitive is not None
    assert sorted(primitive.kinds.tolist()) == [1, 1, 1, 2]


def test_values_at_the_border_of_rounding_are_one_kind() -> None:
    """Rounded to 1e-3 these charges would be two kinds."""
    atoms = bulk("Cu", cubic=True)
    atoms.set_initial_charges([0.10049, 0.10051, 0.10049, 0.10051])
    assert site_kinds(atoms).tolist() == [1, 1, 1, 1]


def test_masses_that_symmetry_would_exchange_are_refused() -> None:
    atoms = bulk("Cu", cubic=True)
    refuse_masses(atoms, 1e-5, "phono3py")
    atoms.set_masses([63.5, 63.5, 64.5, 63.5])
    with pytest.raises(ConfigError, match=r"atoms 0 and 2 are equal by symmetry.*63.5 and 64.5 u.*phono3py"):
        refuse_masses(atoms, 1e-5, "phono3py")
    salt = bulk("NaCl", "rocksalt", a=5.6)
    salt.set_masses([23.0, 37.0])
    refuse_masses(salt, 1e-5, "phono3py")  # of two elements


def spglib_imports(source: str) -> bool:
    nodes = ast.walk(ast.parse(source))
    return any(
        (isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "spglib" for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "spglib")
        for node in nodes
    )


def test_there_is_one_door() -> None:
    assert spglib_imports("def f():\n    import spglib")
    assert spglib_imports("from spglib import get_symmetry")
    found = [
        path.relative_to(ROOT).as_posix()
        for folder in ("mlcalc", "models", "md_protocols", "examples", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        if spglib_imports(path.read_text(encoding="utf-8"))
    ]
    assert found == ["md_protocols/crystals/symmetry.py"]
