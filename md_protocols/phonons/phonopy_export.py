"""Files for phonopy's own commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlcalc.ground.errors import Use

from ..errors import ConfigError

if TYPE_CHECKING:
    from phonopy import Phonopy

Array = NDArray[np.float64]
_FILES = ("FORCE_SETS", "FORCE_CONSTANTS", "phonopy_params.yaml", "BORN")


def write_phonopy(phonon: Phonopy, dataset: Any, folder: str | Path, *, overwrite: bool = False) -> list[str]:
    """Write FORCE_SETS, FORCE_CONSTANTS, phonopy_params.yaml and, with charges, BORN, and return their names.

    phonon: with force constants; it is given the dataset of `force_sets`.  FORCE_SETS holds the forces as they were
    used: those of the undisplaced supercell are taken off.  FORCE_CONSTANTS holds the constants after symmetrisation,
    which phonopy would repeat from FORCE_SETS.
    """
    from phonopy.file_IO import get_BORN_lines, write_FORCE_CONSTANTS, write_FORCE_SETS

    target = Path(folder)
    target.mkdir(exist_ok=True)
    there = [name for name in _FILES if (target / name).exists()]
    if there and not overwrite:
        raise ConfigError(
            f"{target} already holds {', '.join(there)}",
            setting="folder",
            value=str(target),
            remedies=["choose another folder", Use("overwrite", True)],
        )
    constants: Any = phonon.force_constants
    write_FORCE_CONSTANTS(constants, filename=target / "FORCE_CONSTANTS")
    write_FORCE_SETS(dataset, filename=target / "FORCE_SETS")
    phonon.dataset = dataset  # which forgets the force constants
    phonon.save(target / "phonopy_params.yaml", settings={"force_sets": True, "displacements": True})
    names = ["FORCE_SETS", "FORCE_CONSTANTS", "phonopy_params.yaml"]
    if phonon.nac_params is not None:
        charges, dielectric = phonon.nac_params["born"], phonon.nac_params["dielectric"]
        lines = get_BORN_lines(phonon.primitive, charges, dielectric, symprec=phonon.symmetry.tolerance)
        (target / "BORN").write_text("\n".join(lines) + "\n", encoding="utf-8")
        names.append("BORN")
    return names


def force_sets(atoms: NDArray[np.int64], displacements: Array, forces: Array) -> Any:
    """phonopy's dataset: displacements (D, 3) of single atoms, or (D, N, 3) of all, with forces (D, N, 3).

    ConfigError where there are none.
    """
    if not len(displacements) or len(forces) != len(displacements):
        raise ConfigError("this dispersion holds no displacements and forces, so there is no FORCE_SETS to write")
    if displacements.ndim == 3:
        return {"displacements": displacements.copy(), "forces": forces.copy()}
    rows = zip(atoms, displacements, forces, strict=True)
    entries = [{"number": int(k), "displacement": u.copy(), "forces": f.copy()} for k, u, f in rows]
    return {"natom": forces.shape[1], "first_atoms": entries}
