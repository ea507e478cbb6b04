"""Files for phonopy's own commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from .crystal import to_phonopy

if TYPE_CHECKING:
    from .dispersion import PhononDispersion


_FILES = ("FORCE_SETS", "FORCE_CONSTANTS", "phonopy_params.yaml", "BORN")


def write_phonopy(phonons: PhononDispersion, folder: str | Path, *, overwrite: bool = False) -> list[str]:
    """Write FORCE_SETS, FORCE_CONSTANTS, phonopy_params.yaml and, with charges, BORN, and return their names.

    FORCE_SETS holds the forces as they were used: those of the undisplaced supercell are taken off.
    FORCE_CONSTANTS holds the constants after symmetrisation, which phonopy would repeat from FORCE_SETS.
    """
    from phonopy.file_IO import write_FORCE_CONSTANTS, write_FORCE_SETS

    if not len(phonons.displacements) or len(phonons.forces) != len(phonons.displacements):
        raise ConfigError("this dispersion holds no displacements and forces, so there is no FORCE_SETS to write")
    target = Path(folder)
    target.mkdir(exist_ok=True)
    there = [name for name in _FILES if (target / name).exists()]
    if there and not overwrite:
        raise ConfigError(f"{target} already holds {', '.join(there)}: choose another folder")
    phonon = phonons.phonopy()
    dataset = force_sets(phonons)
    phonon.dataset = dataset
    write_FORCE_SETS(dataset, filename=target / "FORCE_SETS")
    write_FORCE_CONSTANTS(phonons.force_constants, filename=target / "FORCE_CONSTANTS")
    phonon.save(target / "phonopy_params.yaml", settings={"force_sets": True, "displacements": True})
    names = ["FORCE_SETS", "FORCE_CONSTANTS", "phonopy_params.yaml"]
    if phonons.born is not None:
        from phonopy.file_IO import get_BORN_lines

        lines = get_BORN_lines(
            to_phonopy(phonons.primitive), phonons.born.charges, phonons.born.dielectric, symprec=phonons.symprec
        )
        (target / "BORN").write_text("\n".join(lines) + "\n", encoding="utf-8")
        names.append("BORN")
    return names


def force_sets(phonons: PhononDispersion) -> Any:
    """phonopy's dataset of displacements and forces."""
    if phonons.displacements.ndim == 3:
        return {"displacements": phonons.displacements.copy(), "forces": phonons.forces.copy()}
    rows = zip(phonons.displaced_atoms, phonons.displacements, phonons.forces, strict=True)
    entries = [{"number": int(k), "displacement": u.copy(), "forces": f.copy()} for k, u, f in rows]
    return {"natom": len(phonons.force_constants), "first_atoms": entries}
