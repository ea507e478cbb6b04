"""Labeled structures from extxyz (and whatever else ASE reads) and from rMD17-style npz files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from zipfile import BadZipFile

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from mlcalc.errors import DataError
from mlcalc.md_protocols.crystals.symmetry import standardized_cell

_SYMPREC = 1e-4  # Å, of positions as files round them
_VOIGT = ("xx", "yy", "zz", "yz", "xz", "xy")
_PRESSURE_UNITS = {"eV/Å^3": 1.0, "GPa": units.GPa, "kbar": 0.1 * units.GPa}


@dataclass(frozen=True)
class StressSource:
    """Where a file keeps its stress, and in which convention."""

    key: str  # name in atoms.info
    unit: str = "eV/Å^3"  # or "GPa", "kbar"
    compression_positive: bool = False  # True for VASP's "in kB", which is opposite to ASE
    order: tuple[str, ...] = _VOIGT
    offset: float = (
        0.0  # in `unit`, ASE's sign; isotropic part that the energies do not have (Pulay stress), subtracted
    )

    def __post_init__(self) -> None:
        if self.unit not in _PRESSURE_UNITS:
            raise DataError(f"stress unit {self.unit!r} is unknown: choose from {', '.join(_PRESSURE_UNITS)}")
        if sorted(self.order) != sorted(_VOIGT):
            raise DataError(f"stress order {self.order} must hold each of {', '.join(_VOIGT)} once")

    def read(self, values: Any) -> NDArray[np.float64]:
        """ASE's Voigt stress, (6,) eV/Å^3."""
        if isinstance(values, str):
            values = values.split()
        raw = np.asarray(values, dtype=np.float64).ravel()
        if raw.shape != (6,):
            raise DataError(f"{self.key} holds {raw.size} numbers: six are needed, in the order {' '.join(self.order)}")
        sign = -1.0 if self.compression_positive else 1.0
        by_name = dict(zip(self.order, raw * (sign * _PRESSURE_UNITS[self.unit]), strict=True))
        isotropic = self.offset * _PRESSURE_UNITS[self.unit]
        return np.array([by_name[name] - isotropic * (name in ("xx", "yy", "zz")) for name in _VOIGT])


@dataclass(frozen=True, eq=False)
class Frame:
    """One labeled structure."""

    atoms: Atoms  # without calculator
    energy: float  # eV
    forces: NDArray[np.float64]  # (N, 3) eV/Å
    stress: NDArray[np.float64] | None = None  # (6,) eV/Å^3, ASE sign and order
    group: str = ""


def read_frames(
    path: str | Path,
    *,
    energy_key: str = "energy",
    forces_key: str = "forces",
    stress: StressSource | None = None,
    group_key: str | None = None,
) -> list[Frame]:
    """All frames of a file with their energies (eV), forces (eV/Å) and, where there is one, stress.

    npz files hold numbers (N,), positions (F, N, 3), energy (F,), forces (F, N, 3).
    Errors name the file and the frame.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    frames = _read_npz(path) if path.suffix == ".npz" else _read_ase(path, energy_key, forces_key, stress, group_key)
    if not frames:
        raise DataError(f"{path}: holds no frames")
    for number, frame in enumerate(frames):
        if not (np.isfinite(frame.energy) and np.isfinite(frame.forces).all()):
            raise DataError(f"{path}: frame {number} has a NaN or infinite energy or force: remove or repair it")
        if frame.forces.shape != (len(frame.atoms), 3):
            raise DataError(f"{path}: frame {number} has forces of shape {frame.forces.shape}: expected (N, 3)")
    return frames


def _read_npz(path: Path) -> list[Frame]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
            arrays = {name: data[name] for name in ("numbers", "positions", "energy", "forces")}
    except KeyError as error:
        raise DataError(f"{path}: {error}; an npz file needs numbers, positions, energy and forces") from error
    except (ValueError, OSError, EOFError, TypeError, BadZipFile) as error:  # TypeError: a bare .npy is no archive
        raise DataError(f"{path}: not a readable npz file ({error})") from error
    shapes = {name: array.shape for name, array in arrays.items()}
    frames, atoms = len(arrays["energy"].ravel()), len(arrays["numbers"].ravel())
    expected = {
        "numbers": (atoms,),
        "positions": (frames, atoms, 3),
        "energy": (frames,),
        "forces": (frames, atoms, 3),
    }
    if shapes != expected:
        raise DataError(f"{path}: the arrays have shapes {shapes}; expected {expected}")
    return [
        Frame(Atoms(arrays["numbers"], positions), float(energy), np.asarray(forces, dtype=np.float64))
        for positions, energy, forces in zip(arrays["positions"], arrays["energy"], arrays["forces"], strict=True)
    ]


def _read_ase(
    path: Path, energy_key: str, forces_key: str, stress: StressSource | None, group_key: str | None
) -> list[Frame]:
    from ase.io import read

    try:
        images = cast("list[Atoms]", read(path, index=":", do_not_split_by_at_sign=True))
    except Exception as error:  # ASE's readers raise whatever the format's parser raises
        raise DataError(f"{path}: ASE cannot read it ({type(error).__name__}: {error})") from error
    frames = []
    for number, atoms in enumerate(images):
        results = dict(atoms.calc.results) if atoms.calc is not None else {}
        energy = results.get(energy_key, atoms.info.get(energy_key))
        forces = results.get(forces_key, atoms.arrays.get(forces_key))
        if energy is None or forces is None:
            missing = energy_key if energy is None else forces_key
            raise DataError(
                f"{path}: frame {number} has no {missing!r}; it has {sorted({*results, *atoms.info, *atoms.arrays})}: "
                "name the key of the file, or label the frames"
            )
        voigt = results.get("stress")
        if stress is not None:
            if stress.key not in atoms.info:
                raise DataError(f"{path}: frame {number} has no {stress.key!r} in its header")
            voigt = stress.read(atoms.info[stress.key])
        if not atoms.pbc.all():  # a file's zeros for a molecule are no label
            voigt = None
        bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        group = str(atoms.info.get(group_key, "")) if group_key else ""
        frames.append(
            Frame(bare, float(energy), np.asarray(forces, dtype=np.float64), None if voigt is None else voigt, group)
        )
    return frames


def split_frames(frames: Sequence[Frame], n_validation: int, seed: int) -> tuple[list[Frame], list[Frame]]:
    """Training and validation frames, by a seeded random choice."""
    if not 0 < n_validation < len(frames):
        raise DataError(f"{n_validation} validation frames were asked of {len(frames)}: leave some for training")
    order = np.random.default_rng(seed).permutation(len(frames))
    return (
        [frames[k] for k in sorted(order[n_validation:])],
        [frames[k] for k in sorted(order[:n_validation])],
    )


def element_energies(frames: Sequence[Frame], elements: Sequence[str]) -> tuple[float, ...]:
    """Energy per element (eV) that the network's output is added to: least squares of energies on compositions.

    Where the compositions do not determine them (one molecule), the solution of least norm, measured from the mean
    energy per atom, is taken; sums over the training compositions are then still right.
    """
    counts = np.array([[frame.atoms.symbols.count(element) for element in elements] for frame in frames], dtype=float)
    energies = np.array([frame.energy for frame in frames])
    mean = float(energies.sum() / counts.sum())
    solution, *_ = np.linalg.lstsq(counts, energies - mean * counts.sum(1), rcond=1e-8)
    return tuple(float(mean + value) for value in solution)


def primitive_frame(frame: Frame) -> Frame:
    """The frame as the one-atom cell of its crystal, where it is a supercell of one; otherwise the frame itself.

    Energy per atom and stress are the same, forces are zero by symmetry, and it trains in a hundredth of the time.
    Labels decide as well: forces above 1 meV/Å mean that it was no such crystal for its author.
    """
    atoms = frame.atoms
    if not atoms.pbc.all() or len(atoms) == 1 or np.abs(frame.forces).max() > 1e-3:
        return frame
    primitive = standardized_cell(atoms, _SYMPREC, to_primitive=True, kinds=atoms.numbers)
    if primitive is None or len(primitive.kinds) != 1:
        return frame
    multiples = atoms.cell.array @ np.linalg.inv(primitive.cell)  # whole numbers unless the crystal was turned
    if not np.allclose(multiples, np.rint(multiples), atol=1e-3):
        return frame
    one = Atoms(atoms.numbers[:1], cell=np.linalg.solve(np.rint(multiples), atoms.cell.array), pbc=True)
    return Frame(one, frame.energy / len(atoms), np.zeros((1, 3)), frame.stress, frame.group)
