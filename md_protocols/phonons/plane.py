"""Two-dimensional crystals: which cells they are in, their primitive cells, and paths in the plane."""

from __future__ import annotations

import itertools

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ..errors import ConfigError

Array = NDArray[np.float64]
CLEAR_VACUUM = 8.0  # Å: periodic copies farther apart than the usual potential reaches
_SAME = 1e-3  # relative: lengths and cosines taken as equal


def vacuum(atoms: Atoms) -> float:
    """The largest empty gap (Å) along the normal of the plane spanned by the first two cell vectors."""
    normal = np.cross(atoms.cell.array[0], atoms.cell.array[1])
    height = abs(float(atoms.cell.array[2] @ normal)) / float(np.linalg.norm(normal))
    z = np.sort(atoms.get_scaled_positions(wrap=True)[:, 2])
    gaps = np.diff(np.append(z, z[0] + 1.0))
    return float(gaps.max()) * height


def refuse_vacuum(atoms: Atoms, what: str) -> None:
    """ConfigError for a cell with vacuum, of which what is asked for would be a property of the vacuum too."""
    from ..vacancy_cells import vacuum_axes  # which imports from this package

    empty = np.flatnonzero(vacuum_axes(atoms)).tolist()
    if empty:
        raise ConfigError(
            f"the cell has vacuum along its axes {empty} (counted from 0): {what} goes by the volume of the cell, and "
            "would depend on how much vacuum there is; give a bulk crystal"
        )


def plane_of(atoms: Atoms, supercell: NDArray[np.int64], dimensions: int | None) -> int:
    """2 for a slab normal to the first two cell vectors, repeated in its plane only, with clear vacuum; else 3.

    dimensions: 2 or 3 to choose it; ConfigError where 2 cannot be.
    """
    if dimensions not in (None, 2, 3):
        raise ConfigError(f"dimensions is {dimensions!r}: it must be 2, 3 or None (found from the structure)")
    flat = supercell[2].tolist() == [0, 0, 1] and supercell[:2, 2].tolist() == [0, 0]
    if dimensions == 2 and not flat:
        raise ConfigError(
            f"dimensions is 2, but the supercell {supercell.tolist()} repeats the third cell vector or mixes it in: "
            "use numbers such as (4, 4, 1), with the normal of the slab along the third axis"
        )
    return dimensions or (2 if flat and vacuum(atoms) > CLEAR_VACUUM else 3)


def plane_primitive(cell: Array, translations: Array) -> Array:
    """The matrix that takes a slab's cell to a primitive one with the same third vector; columns are its vectors.

    translations: (T, 3) fractional, all pure translations of the crystal.
    """
    within = translations[np.abs(translations[:, 2] - np.rint(translations[:, 2])) < 1e-5]
    steps = [np.array([i, j, 0.0]) for i, j in itertools.product((-1, 0, 1), repeat=2)]
    candidates = sorted((np.append(t[:2], 0.0) + s for t in within for s in steps), key=lambda v: _length(v @ cell))
    area = np.linalg.norm(np.cross(cell[0], cell[1])) / len(within)
    for first, second in itertools.combinations([v for v in candidates if _length(v @ cell) > 1e-3], 2):
        crossed = np.cross(first @ cell, second @ cell)
        if abs(np.linalg.norm(crossed) - area) < 1e-3 * area:
            pair = (first, second) if crossed @ np.cross(cell[0], cell[1]) > 0 else (second, first)
            return np.array([*pair, [0.0, 0.0, 1.0]]).T
    return np.eye(3)


def plane_points(cell: Array) -> tuple[dict[str, Array], list[tuple[str, str]]]:
    """Named points of a plane's Brillouin zone and the path through them, by the symmetry of its lattice.

    Hexagonal Γ-M-K-Γ, square Γ-X-M-Γ, rectangular Γ-X-S-Y-Γ, centered rectangular Γ-X-S-Γ-Y (X and Y along the axes of
    the rectangle), oblique Γ-X-C-Y-Γ-C.  The points are in fractional coordinates of the cell given.
    """
    reduced, steps = _reduced(cell[:2])
    kind = _kind(reduced)
    if kind == "centered rectangular" and abs(_length(reduced[0]) / _length(reduced[1]) - 1.0) > _SAME:
        change = np.array([[0.0, 1.0], [-1.0, 1.0]])  # from the short side of the rectangle to the rhombus
        change = change if reduced[0] @ reduced[1] > 0 else np.abs(change)
        reduced, steps = change @ reduced, change @ steps
    turn = -1.0 if reduced[0] @ reduced[1] > 1e-6 * _length(reduced[0]) ** 2 else 1.0
    reduced, steps = reduced * [[1.0], [turn]], steps * [[1.0], [turn]]  # an angle of 90 degrees or more
    points, path = _POINTS[kind]
    # A point with coordinates x on the reduced reciprocal axes has phases x = k . a; those on the cell's follow.
    back = np.linalg.inv(steps)
    named = {name: np.append(back @ np.array(x), 0.0) for name, x in points.items()}
    return named, list(itertools.pairwise(path))


_POINTS: dict[str, tuple[dict[str, tuple[float, float]], tuple[str, ...]]] = {
    "hexagonal": ({"Γ": (0, 0), "M": (0.5, 0), "K": (1 / 3, 1 / 3)}, ("Γ", "M", "K", "Γ")),
    "square": ({"Γ": (0, 0), "X": (0.5, 0), "M": (0.5, 0.5)}, ("Γ", "X", "M", "Γ")),
    "rectangular": ({"Γ": (0, 0), "X": (0.5, 0), "Y": (0, 0.5), "S": (0.5, 0.5)}, ("Γ", "X", "S", "Y", "Γ")),
    "centered rectangular": (
        {"Γ": (0, 0), "X": (0.5, 0.5), "S": (0.5, 0), "Y": (0.5, -0.5)},
        ("Γ", "X", "S", "Γ", "Y"),
    ),
    "oblique": ({"Γ": (0, 0), "X": (0.5, 0), "Y": (0, 0.5), "C": (0.5, 0.5)}, ("Γ", "X", "C", "Y", "Γ", "C")),
}


def _reduced(vectors: Array) -> tuple[Array, Array]:
    """The two shortest vectors of the lattice (Gauss), and the whole numbers that make them of the given ones."""
    a, b = np.array(vectors, dtype=float)
    steps = np.eye(2)
    while True:
        if a @ a > b @ b * (1 + 1e-9):
            a, b, steps = b, a, steps[::-1]
        shift = np.rint(a @ b / (a @ a) * (1 - 1e-9))  # a vector half-way stays where it is
        if shift == 0:
            return np.array([a, b]), np.array(steps)
        b, steps = b - shift * a, np.array([steps[0], steps[1] - shift * steps[0]])


def _kind(reduced: Array) -> str:
    a, b = reduced
    equal = abs(_length(a) / _length(b) - 1.0) < _SAME
    cosine = abs(float(a @ b) / (_length(a) * _length(b)))
    if cosine < _SAME:
        return "square" if equal else "rectangular"
    if equal:
        return "hexagonal" if abs(cosine - 0.5) < _SAME else "centered rectangular"
    half_way = abs(2 * abs(float(a @ b)) / float(a @ a) - 1.0) < _SAME
    return "centered rectangular" if half_way else "oblique"


def _length(vector: Array) -> float:
    return float(np.linalg.norm(vector))
