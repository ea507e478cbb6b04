"""The gate before any neighbor list: a structure that passes it gives a complete list in bounded time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols
from numpy.typing import NDArray

from mlcalc.errors import (
    CellError,
    EmptyStructureError,
    NonFiniteError,
    OverlapError,
    StructureError,
    UnknownElementError,
)
from mlcalc.ground.errors import Remedy, Use
from mlcalc.md_protocols.errors import ConfigError

if TYPE_CHECKING:
    from mlcalc.graphs.pairs import NeighborPairs

__all__ = [
    "MAX_COORDINATE",
    "MIN_DISTANCE",
    "check_cell",
    "check_moved",
    "check_overlap",
    "check_positions",
    "resolve_cell",
    "validate_structure",
]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

MIN_DISTANCE = 0.3  # Å; no chemistry happens below, and no training set goes there
MAX_COORDINATE = 1e6  # Å; float64 resolves 1e-10 Å there, so sums over a few of them still hold 1e-9 Å
SHORTEST_VECTOR = 1e-6  # Å; a periodic vector below is a forgotten one
SMALLEST_SINE = 1e-6  # volume over the product of lengths; a + 50 b has 2e-2
AXES = "abc"


def validate_structure(
    atoms: Atoms,
    *,
    elements: Sequence[str] | None = None,
    min_distance: float = MIN_DISTANCE,
    max_coordinate: float = MAX_COORDINATE,
) -> None:
    """Nothing, or the error that says why no potential can be evaluated on this structure.

    Distances between atoms are not looked at, save those of an atom to its own nearest images: call
    `check_overlap` on the neighbor list, which has to be computed anyway.

    Raises EmptyStructureError, NonFiniteError (positions, cell, momenta), StructureError (coordinates beyond
    max_coordinate Å), UnknownElementError (elements: the model's symbols; None accepts all), CellError and
    OverlapError.
    """
    if len(atoms) == 0:
        raise EmptyStructureError(
            "the structure has no atoms, so there is no energy to compute",
            remedies=["check the file it was read from", "check the selection it was made with"],
        )
    check_moved(atoms, max_coordinate=max_coordinate)
    cell, pbc = resolve_cell(atoms)
    if elements is not None:
        _check_elements(atoms.numbers, tuple(elements))
    _check_own_images(cell, pbc, min_distance)


def check_moved(atoms: Atoms, *, max_coordinate: float = MAX_COORDINATE) -> None:
    """The part of `validate_structure` that a structure passes or not by its positions and momenta alone."""
    check_positions(atoms.arrays["positions"], max_coordinate=max_coordinate)
    momenta = atoms.arrays.get("momenta")
    # a sum is finite only where all its terms are
    if momenta is not None and not math.isfinite(np.add.reduce(momenta, axis=None)):
        _check_finite("momenta", momenta, ["draw new velocities", "read an earlier frame of the run"])


def resolve_cell(atoms: Atoms) -> tuple[Floats, Bools]:
    """Cell (3, 3) Å, rows are vectors, and periodicity (3,) of a structure whose periodic part has a volume.

    Vectors of non-periodic directions come back as they are: zero, short or coplanar.

    Raises NonFiniteError and CellError.
    """
    cell = np.array(atoms.cell.array, dtype=np.float64)
    pbc = np.array(atoms.pbc, dtype=np.bool_)
    check_cell(cell, pbc)
    return cell, pbc


def check_positions(positions: NDArray[Any], *, max_coordinate: float = MAX_COORDINATE) -> None:
    """Nothing, or NonFiniteError, or StructureError for coordinates (N, 3) Å too large for float64 sums."""
    if len(positions) == 0:
        return
    # NaN if there is one
    largest = max(float(np.maximum.reduce(positions, axis=None)), -float(np.minimum.reduce(positions, axis=None)))
    if largest <= max_coordinate:  # false for NaN too
        return
    _check_finite("positions", positions, ["check the input file", "the step before: a too long time step does this"])
    bad = np.flatnonzero((np.abs(positions) > max_coordinate).any(axis=1))
    raise StructureError(
        f"coordinates of {_atoms(bad)} go up to {largest:.6g} Å, beyond the limit of {max_coordinate:.6g} Å: "
        "distances between such numbers lose the precision that forces need",
        value=largest,
        limit=max_coordinate,
        remedies=[
            Use(
                "positions",
                python="move the structure to the origin (atoms.positions -= atoms.positions.mean(axis=0))",
                file="move the structure to the origin",
            ),
            Use("wrap", python="wrap it into its cell (atoms.wrap())", file="wrap it into its cell"),
        ],
    )


def check_cell(cell: Floats, pbc: Bools) -> None:
    """Nothing, or NonFiniteError, or CellError when the periodic vectors do not span a length, area or volume."""
    if not np.isfinite(cell).all():
        axes = ", ".join(AXES[k] for k in np.flatnonzero(~np.isfinite(cell).all(axis=1)))
        raise NonFiniteError(
            f"the cell has NaN or infinite components in vector {axes}: {cell.tolist()} Å",
            value=cell.tolist(),
            remedies=["check the input file", "check the barostat step before"],
        )
    periodic = np.flatnonzero(pbc)
    if len(periodic) == 0:
        return
    lengths = np.sqrt((cell[periodic] ** 2).sum(axis=1))
    for k, length in zip(periodic, lengths, strict=True):
        if length < SHORTEST_VECTOR:
            raise CellError(
                f"the structure is periodic along axis {k} ({AXES[k]}), but this cell vector is "
                f"{cell[k].tolist()} Å, shorter than {SHORTEST_VECTOR:g} Å",
                value=float(length),
                limit=SHORTEST_VECTOR,
                remedies=[
                    Use("cell", python="give it its length with atoms.set_cell", file="give it its length"),
                    _not_periodic(f"atoms.pbc[{k}] = False"),
                ],
            )
    _check_span(cell, periodic, lengths)


def check_overlap(
    pairs: NeighborPairs,
    positions: NDArray[Any],
    cell: NDArray[Any],
    *,
    min_distance: float = MIN_DISTANCE,
) -> None:
    """Nothing, or OverlapError naming the closest pair of a neighbor list, periodic images included.

    Costs one comparison on a list from `neighbor_pairs` or `NeighborList`, which know their shortest distance.
    """
    if pairs.shortest >= min_distance or len(pairs.i) == 0:
        return
    positions, cell = np.asarray(positions, dtype=np.float64), np.asarray(cell, dtype=np.float64)
    vectors = positions[pairs.j] - positions[pairs.i] + pairs.shifts @ cell
    distances = np.sqrt((vectors**2).sum(axis=1))
    closest = int(np.argmin(distances))
    if distances[closest] >= min_distance:
        return
    i, j, shift = int(pairs.i[closest]), int(pairs.j[closest]), pairs.shifts[closest].tolist()
    image = f" in the periodic image {shift}" if any(shift) else ""
    raise OverlapError(
        f"atoms {i} and {j}{image} are {distances[closest]:.6g} Å apart, closer than {min_distance:g} Å "
        f"({int((distances < min_distance).sum()) // 2} such pairs): no model knows such structures",
        setting="min_distance",
        value=float(distances[closest]),
        limit=min_distance,
        remedies=[
            "remove doubled atoms",
            "check the cell's lengths and units (Å)",
            Use("min_distance", None, "if this is meant", python="lower min_distance"),
        ],
    )


def _check_span(cell: Floats, periodic: NDArray[np.intp], lengths: Floats) -> None:
    """CellError when two periodic vectors are parallel, or three coplanar, within rounding."""
    directions = cell[periodic] / lengths[:, None]
    cosines = directions @ directions.T
    remedies: list[Remedy] = [
        f"check the cell {cell.tolist()} Å",
        _not_periodic("atoms.pbc to False along an axis on which the structure does not repeat"),
    ]
    for p in range(len(periodic)):
        for q in range(p):
            if np.sqrt(((directions[p] - cosines[p, q] * directions[q]) ** 2).sum()) < SMALLEST_SINE:
                names = f"{periodic[q]} ({AXES[periodic[q]]}) and {periodic[p]} ({AXES[periodic[p]]})"
                raise CellError(
                    f"the cell vectors of the periodic axes {names} are parallel, without an area", remedies=remedies
                )
    if len(periodic) == 3 and abs(np.linalg.det(directions)) < SMALLEST_SINE:
        volume = abs(np.linalg.det(cell))
        raise CellError(
            f"the cell vectors of the periodic axes 0 (a), 1 (b) and 2 (c) lie in one plane, volume {volume:.3g} Å^3",
            value=float(volume),
            remedies=remedies,
        )


def _check_own_images(cell: Floats, pbc: Bools, min_distance: float) -> None:
    """OverlapError when an atom would meet its own image across one face, edge or corner of the cell."""
    shifts = _NEAREST_SHIFTS[~(_NEAREST_SHIFTS[:, ~pbc] != 0).any(axis=1)]
    if len(shifts) == 0:
        return
    distances = np.sqrt(((shifts @ cell) ** 2).sum(axis=1))
    closest = int(np.argmin(distances))
    if distances[closest] < min_distance:
        raise OverlapError(
            f"atom 0 and its own periodic image {shifts[closest].tolist()} are {distances[closest]:.6g} Å apart, "
            f"closer than {min_distance:g} Å: the cell {cell.tolist()} Å is too small",
            setting="min_distance",
            value=float(distances[closest]),
            limit=min_distance,
            remedies=["check its lengths and units (Å)", _not_periodic("atoms.pbc to False along that axis")],
        )


_NEAREST_SHIFTS = np.array([s for s in np.ndindex(3, 3, 3) if s > (1, 1, 1)]) - 1  # 13: one of each +-s


def _check_elements(numbers: NDArray[Any], elements: tuple[str, ...]) -> None:
    known = _known_elements(elements).take(numbers, mode="clip")
    if known.all():
        return
    unknown = np.flatnonzero(~known)
    symbols = sorted({_symbol(int(numbers[k])) for k in unknown})
    raise UnknownElementError(
        f"the model does not know {', '.join(symbols)} ({_atoms(unknown)}); it was trained on {', '.join(elements)}",
        setting="model",
        value=tuple(symbols),
        limit=elements,
        remedies=["choose a model trained on these elements", "correct the structure"],
    )


@lru_cache(maxsize=32)
def _known_elements(elements: tuple[str, ...]) -> Bools:
    table = np.zeros(len(chemical_symbols) + 1, dtype=np.bool_)  # the last entry stands for all larger numbers
    for symbol in elements:
        if symbol not in atomic_numbers or symbol == "X":
            raise ConfigError(
                f"elements: {symbol!r} is no chemical element: give symbols such as 'Cu' or 'O'",
                setting="elements",
                value=symbol,
            )
        table[atomic_numbers[symbol]] = True
    return table


def _symbol(number: int) -> str:
    return chemical_symbols[number] if 0 < number < len(chemical_symbols) else f"atomic number {number}"


def _not_periodic(what: str) -> Use:
    return Use("pbc", False, python=f"set {what}", file="make the file say that it is not periodic there")


def _check_finite(name: str, values: NDArray[Any], remedies: Sequence[str]) -> None:
    if np.isfinite(values).all():
        return
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    raise NonFiniteError(
        f"{name} of {_atoms(bad)} are NaN or infinite (atom {bad[0]}: {np.asarray(values[bad[0]]).tolist()})",
        value=bad.tolist(),
        remedies=remedies,
    )


def _atoms(indices: NDArray[np.intp], shown: int = 8) -> str:
    """'atom 3' or 'atoms 1, 2, 3 and 17 more'."""
    listed = ", ".join(str(k) for k in indices[:shown])
    more = f" and {len(indices) - shown} more" if len(indices) > shown else ""
    return f"atom{'s' if len(indices) > 1 else ''} {listed}{more}"
