"""phonopy's YAML files, read as plain data and checked; a file that wants to run something is refused."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from numpy.typing import NDArray

from ..crystals.kinds import element
from ..errors import ResultFileError
from .born import BornCharges
from .crystal import phonopy_crystal, to_phonopy

if TYPE_CHECKING:
    from phonopy import Phonopy

Array = NDArray[np.float64]
_SAME_PLACE = 1e-4  # Å
_NO_STEP = 1e-6  # Å: forces of shorter displacements are rounding


@dataclass(frozen=True, eq=False)
class PhonopyFile:
    """What a phonopy_disp.yaml, phonopy_params.yaml or phonopy.yaml says."""

    unitcell: Atoms
    supercell: NDArray[np.int64]  # (3, 3) rows; the file has columns
    primitive_matrix: Array | None  # (3, 3) rows; None where the file leaves it open
    dataset: dict[str, Any] | None  # phonopy's displacements, with forces where the file has them
    born: BornCharges | None  # of the primitive cell's atoms

    def phonopy(self, *, symprec: float = 1e-5, dimensions: int | None = None) -> Phonopy:
        """A Phonopy object with these displacements (and charges); dimensions: 2 or 3 where that is known."""
        primitive: Any = "auto" if self.primitive_matrix is None else self.primitive_matrix
        phonon = phonopy_crystal(
            self.unitcell, self.supercell, primitive=primitive, symprec=symprec, dimensions=dimensions
        )
        if self.dataset is not None:
            dataset: Any = self.dataset
            phonon.dataset = dataset
        if self.born is not None:
            parameters: Any = self.born.nac()
            phonon.nac_params = parameters
        return phonon


def read_phonopy(path: str | Path) -> PhonopyFile:
    """The contents of one of phonopy's YAML files (also .xz and .gz), in Å and eV.

    Raises ResultFileError for tags that make objects, other units, missing or malformed parts, and for a supercell
    whose atoms are in another order than phonopy's own: forces in that order would be taken for those of other atoms.
    """
    path = Path(path)
    data = _plain(path)
    reader = _Reader(path)
    reader.require_units(data)
    unitcell = reader.cell(data, "unit_cell")
    matrix = np.rint(reader.numbers(data, "supercell_matrix", (3, 3))).astype(np.int64).T
    primitive = data.get("primitive_matrix")
    if isinstance(primitive, str):
        reader.fail(f"primitive_matrix is {primitive!r}: only matrices are read")
    found = PhonopyFile(
        unitcell=unitcell,
        supercell=matrix,
        primitive_matrix=None if primitive is None else reader.numbers(data, "primitive_matrix", (3, 3)).T,
        dataset=reader.dataset(data, len(unitcell) * round(abs(float(np.linalg.det(matrix))))),
        born=reader.born(data),
    )
    if "supercell" in data:
        _require_order(reader, reader.cell(data, "supercell"), found)
    return found


def _plain(path: Path) -> dict[str, Any]:
    import gzip
    import lzma

    import yaml

    openers: dict[str, Any] = {".xz": lzma.open, ".gz": gzip.open}
    opened = openers.get(path.suffix, open)
    try:
        with opened(path, "rb") as file:
            data = yaml.load(file.read(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - safe
    except FileNotFoundError:
        raise ResultFileError(f"{path}: there is no such file") from None
    except yaml.constructor.ConstructorError as error:
        raise ResultFileError(
            f"{path}: it asks for Python objects, which phonopy's files do not need ({' '.join(str(error).split())}); "
            "nothing of it was run: do not open it with other programs"
        ) from error
    except (yaml.YAMLError, OSError, EOFError, lzma.LZMAError, UnicodeDecodeError, RecursionError) as error:
        raise ResultFileError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise ResultFileError(f"{path} holds no phonopy data: expected a mapping such as phonopy_disp.yaml")
    return data


class _Reader:
    """Parts of a file's data, each checked."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fail(self, text: str) -> None:
        raise ResultFileError(f"{self.path}: {text}")

    def part(self, data: Any, name: str, kind: type) -> Any:
        value = data.get(name) if isinstance(data, dict) else None
        if not isinstance(value, kind):
            self.fail(f"{name!r} is missing or no {kind.__name__}: is it a file of phonopy-init -d?")
        return value

    def numbers(self, data: Any, name: str, shape: tuple[int, ...]) -> Array:
        return self.array(self.part(data, name, list), name, shape)

    def array(self, value: Any, name: str, shape: tuple[int, ...]) -> Array:
        """Finite numbers of this shape; what is nested deeper or longer is never expanded."""
        if not shape:
            if not isinstance(value, Real) or isinstance(value, bool) or not np.isfinite(float(value)):
                self.fail(f"{name} holds {value!r}, where a finite number is expected")
            return np.array(float(value))
        if not isinstance(value, list) or len(value) != shape[0]:
            count = len(value) if isinstance(value, list) else "no list"
            self.fail(f"{name} has {count} entries where {shape[0]} are expected")
        return np.array([self.array(entry, name, shape[1:]) for entry in value], dtype=float).reshape(shape)

    def require_units(self, data: dict[str, Any]) -> None:
        units = data.get("physical_unit") or {}
        length = units.get("length", "angstrom") if isinstance(units, dict) else units
        force = units.get("force", "eV/angstrom") if isinstance(units, dict) else units
        if str(length).lower() != "angstrom" or str(force).lower() != "ev/angstrom":
            self.fail(f"its units are {length!r} and {force!r}: only files in angstrom and eV/angstrom are read")

    def cell(self, data: dict[str, Any], name: str) -> Atoms:
        part = self.part(data, name, dict)
        points = self.part(part, "points", list)
        symbols = [element(str(point.get("symbol"))) if isinstance(point, dict) else "" for point in points]
        unknown = [symbol for symbol in symbols if symbol not in atomic_numbers or symbol == "X"]
        if unknown or not points:
            self.fail(f"{name} has the element {unknown[0]!r}" if unknown else f"{name} has no atoms")
        if any(np.any(point.get("magnetic_moment") or 0) for point in points):
            self.fail(f"{name} has magnetic moments, which neither symmetry nor supercells here know: leave them out")
        return Atoms(
            symbols=symbols,
            cell=self.numbers(part, "lattice", (3, 3)),
            scaled_positions=np.array([self.numbers(point, "coordinates", (3,)) for point in points]),
            masses=[float(self.array(point["mass"], "mass", ())) if "mass" in point else None for point in points],
            pbc=True,
        )

    def dataset(self, data: dict[str, Any], atoms: int) -> dict[str, Any] | None:
        """phonopy's dictionary of displacements: one atom each, or all atoms at random."""
        if isinstance(data.get("dataset"), dict):
            return self._random(data["dataset"], atoms)
        entries = data.get("displacements")
        if entries is None:
            return None
        if not isinstance(entries, list) or not entries:
            self.fail("displacements is empty or no list")
            return None
        return {"natom": atoms, "first_atoms": [self._single(entry, atoms) for entry in entries]}

    def _single(self, entry: Any, atoms: int) -> dict[str, Any]:
        number = self.part(entry, "atom", int)
        if not 1 <= number <= atoms:
            self.fail(f"a displacement is of atom {number}, but the supercell has {atoms}")
        single: dict[str, Any] = {
            "number": number - 1,
            "displacement": self.numbers(entry, "displacement", (3,)),
        }
        if np.linalg.norm(single["displacement"]) < _NO_STEP:
            self.fail(
                f"a displacement of atom {number} has no length (limit {_NO_STEP:g} Å): make it with phonopy-init"
            )
        if "forces" in entry:
            single["forces"] = self.numbers(entry, "forces", (atoms, 3))
        return single

    def _random(self, data: dict[str, Any], atoms: int) -> dict[str, Any]:
        count = len(self.part(data, "displacements", list))
        names = ("displacements", "forces") if "forces" in data else ("displacements",)
        found = {name: self.numbers(data, name, (count, atoms, 3)) for name in names}
        for k, displacements in enumerate(found["displacements"]):
            if np.linalg.norm(displacements, axis=1).max() < _NO_STEP:
                self.fail(f"displacement {k + 1} moves no atom (limit {_NO_STEP:g} Å): make it with phonopy-init")
        return found

    def born(self, data: dict[str, Any]) -> BornCharges | None:
        data = data["nac"] if isinstance(data.get("nac"), dict) else data
        if "born_effective_charge" not in data:
            return None
        charges = self.part(data, "born_effective_charge", list)
        return BornCharges(
            self.array(charges, "born_effective_charge", (len(charges), 3, 3)),
            self.numbers(data, "dielectric_constant", (3, 3)),
        )


def _require_order(reader: _Reader, given: Atoms, found: PhonopyFile) -> None:
    from phonopy.structure.cells import get_supercell

    expected = get_supercell(to_phonopy(found.unitcell), found.supercell.T)
    if len(expected) != len(given):
        reader.fail(f"its supercell has {len(given)} atoms, but the unit cell and the matrix make {len(expected)}")
    away = given.get_scaled_positions(wrap=False) - expected.scaled_positions
    distances = np.linalg.norm((away - np.rint(away)) @ expected.cell, axis=1)
    other = np.flatnonzero((distances > _SAME_PLACE) | (given.numbers != expected.numbers))
    if len(other) or not np.allclose(given.cell.array, expected.cell, atol=_SAME_PLACE):
        reader.fail(
            f"{len(other)} atoms of its supercell are not where phonopy puts them (first: atom {other[0] + 1}): "
            "its order was changed, or it was made by another version; make it anew with phonopy-init -d"
            if len(other)
            else "its supercell has other vectors than the unit cell and the matrix make"
        )
