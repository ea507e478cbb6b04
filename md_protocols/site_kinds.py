"""What tells atoms of one element apart, so that symmetry does not take one for the other."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

_LABELS = ("initial_magmoms", "initial_charges")  # tags are not among them: ASE's builders number layers with them


def site_kinds(atoms: Atoms) -> NDArray[np.int64]:
    """(N,) whole numbers, equal for atoms of the same element, magnetic moment and charge.

    They are the atomic numbers where nothing else tells atoms apart.  Moments and charges count to 1e-3.
    """
    rows = [atoms.numbers.astype(float)[:, None]]
    for name in _LABELS:
        if name in atoms.arrays:
            rows.append(np.round(np.asarray(atoms.arrays[name], dtype=float), 3).reshape(len(atoms), -1) + 0.0)
    kinds = np.unique(np.hstack(rows), axis=0, return_inverse=True)[1].reshape(-1)
    if len(set(kinds.tolist())) == len(set(atoms.numbers.tolist())):
        return np.asarray(atoms.numbers, dtype=np.int64)
    return np.asarray(kinds + 1, dtype=np.int64)


def dressed(bare: Atoms, kinds: NDArray[np.int64], model: Atoms) -> Atoms:
    """A copy of a structure of kinds, with the elements, moments and charges of the atoms of those kinds.

    kinds: (N,) of `bare`, as `site_kinds(model)` has them.  What `info` of the model holds comes along, and so do tags
    if all atoms of a kind have the same.
    """
    mine = site_kinds(model)
    like = [int(np.flatnonzero(mine == kind)[0]) for kind in kinds]
    copy = Atoms(numbers=model.numbers[like], positions=bare.positions, cell=bare.cell, pbc=bare.pbc)
    for name in _LABELS:
        if name in model.arrays:
            copy.set_array(name, model.arrays[name][like])
    tags = model.get_tags()
    if tags.any() and all(len(set(tags[mine == kind].tolist())) == 1 for kind in set(mine.tolist())):
        copy.set_tags(tags[like])
    copy.info = dict(model.info)
    return copy
