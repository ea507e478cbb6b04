"""What the first structure of a server tells: whether it is about the same atoms, in the same order and unit.

The protocol carries no elements and no units, so that a wrong template or input gives plausible numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from mlcalc.ground.errors import Use

from .errors import WireError
from .responder import AtomicUnits

Array = NDArray[np.float64]

_TOO_SMALL, _TOO_LARGE = 0.62, 1.6  # of a length: bohr for Å and the reverse are 0.529 and 1.890
_JUMP = 1.5  # of a volume between two requests
_NEAR = 0.02  # Å: the server's structure is the template, but for digits of a file
_BOHR = 0.529177
_TOO_NEAR = 4.0  # Å between a cluster and its images


def check_first(template: Atoms, cell: Array, positions: Array, units: AtomicUnits) -> None:
    """WireError where sizes differ as bohr and Å, atoms come in another order, or a crystal is taken for a cluster.

    cell (3, 3), with vectors in columns, and positions (N, 3) are the server's, in its atomic units.
    """
    found = Atoms(template.numbers, positions=positions / units.angstrom, cell=cell.T / units.angstrom)
    _check_size(template, found)
    _check_order(template, found)
    _check_images(template, found)


def check_volumes(before: float, volumes: Sequence[float]) -> float:
    """The last of the volumes, bohr^3; WireError where they jump: one server's socket serves several systems."""
    for volume in volumes:
        if not 1 / _JUMP < volume / before < _JUMP:
            raise WireError(
                f"the volume of the cell jumps from {before:.6g} to {volume:.6g} bohr^3 between two requests: does one "
                "<ffsocket> serve two systems? i-PI then sends a part of the larger one only",
                value=volume,
                limit=_JUMP,
                remedies=["give each system a forcefield and a client of its own"],
            )
        before = volume
    return before


def _check_images(template: Atoms, found: Atoms) -> None:
    """A cluster lies far from its images in the server's cell; a crystal whose template lost its cell does not."""
    if template.pbc.any() or found.cell.rank < 3:
        return
    tree = cKDTree(found.positions)
    shifts = [np.array(n) for n in np.ndindex(3, 3, 3) if n > (1, 1, 1)]  # one of each pair of opposite ones
    nearest = min(tree.query(found.positions + (n - 1) @ found.cell.array)[0].min() for n in shifts)
    if nearest < _TOO_NEAR:
        raise WireError(
            f"the template is not periodic, but in the server's cell its atoms come within {nearest:.2f} Å of their "
            "images",
            value=nearest,
            limit=_TOO_NEAR,
            remedies=[
                "give a template with its cell and pbc (extxyz has both)",
                "a larger cell where it is a cluster",
            ],
        )


def _check_size(template: Atoms, found: Atoms) -> None:
    ratio, what = 1.0, "the cell"
    if template.pbc.all():
        ratio = float(np.cbrt(abs(np.linalg.det(found.cell.array)) / abs(np.linalg.det(template.cell.array))))
    elif len(template) > 1:
        ratio, what = _extent(found.positions) / max(_extent(template.positions), 1e-9), "the structure"
    if _TOO_SMALL < ratio < _TOO_LARGE:
        return
    confused = abs(abs(np.log(ratio)) - abs(np.log(_BOHR))) < 0.1
    hint = ", as bohr and Å are" if confused else ""
    raise WireError(
        f"{what} that the server sends is {ratio:.3g} times as large as the template's{hint}",
        value=ratio,
        limit=(_TOO_SMALL, _TOO_LARGE),
        remedies=["state the units in the server's input", "give the template that the server starts from"],
    )


def _extent(positions: NDArray[np.float64]) -> float:
    return float(np.sqrt(((positions - positions.mean(axis=0)) ** 2).sum(axis=1).mean()))


def _check_order(template: Atoms, found: Atoms) -> None:
    """Only where the server starts from the template's positions can the order be seen: there it must be the same."""
    if np.abs(found.positions - template.positions).max() < _NEAR:
        return
    distance, nearest = cKDTree(template.positions).query(found.positions)
    if distance.max() > _NEAR or len(set(nearest.tolist())) < len(template):
        return
    wrong = np.flatnonzero(template.numbers[nearest] != template.numbers)
    if wrong.size:
        symbols = template.get_chemical_symbols()
        k = int(wrong[0])
        raise WireError(
            f"the server's atoms are the template's in another order: its atom {k} sits where the template has "
            f"{symbols[nearest[k]]}{nearest[k]}, but the template's atom {k} is {symbols[k]}",
            setting="check_template",
            value=k,
            remedies=[
                "start both from the same file",
                Use("check_template", False, "where atoms have changed places on purpose"),
            ],
        )
