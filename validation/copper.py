"""Everything that docs/validation.md says of copper's properties with a bundled model, in one run of a few minutes.

    python validation/copper.py [--model cu-hvnet] [--output validation_output] [--experiment exp_Cu_dispersion.dat]

float64.  Relaxation, equation of state, elastic constants, vacancy (series and migration), surfaces, stacking fault and
phonons, each with its picture and its result file, and copper.json with all numbers and where they should be.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk

from mlcalc import MLCalculator
from mlcalc.md_protocols import (
    elastic_constants,
    equation_of_state,
    phonon_dispersion,
    relax,
    stacking_fault_energy,
    surface_energy,
    vacancy_migration,
    vacancy_series,
)

# PBE and experiment: references in docs/validation.md
REFERENCES = {
    "a0_A": (3.635, 3.603),
    "C11_GPa": (177, 176),
    "C12_GPa": (132, 125),
    "C44_GPa": (82, 82),
    "vacancy_eV": (1.07, 1.22),
    "migration_eV": (0.74, 0.70),
    "X_transverse_THz": (5.05, 5.13),
    "X_longitudinal_THz": (7.12, 7.25),
    "L_transverse_THz": (3.38, 3.42),
    "L_longitudinal_THz": (7.27, 7.30),
}
_X, _L = (
    (0.5, 0.5, 0.0),
    (0.5, 0.5, 0.5),
)  # in the primitive reciprocal vectors; in Cartesian axes the same in all settings


def experiment(path: Path) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Points (q1, q2, q3, THz) on Γ-X of a file with blocks of columns x, THz at 298 K, at 49 K, error, q."""
    points = []
    direction = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            direction = line.strip("# ").split()[0] if line.strip("# ") else direction
        elif line.strip() and direction == "00x":
            x, _, frequency = (float(word) for word in line.split()[:3])
            points.append([x / 2, 0.0, x / 2, frequency])
    return np.array(points)


def corners(phonons: Any) -> dict[str, float]:
    """Frequencies at X and L, THz: the lowest and the highest of each."""
    found = {}
    for name, q in (("X", _X), ("L", _L)):
        frequencies = phonons.at(q)
        found[f"{name}_transverse_THz"] = float(frequencies[0])
        found[f"{name}_longitudinal_THz"] = float(frequencies[-1])
    return found


def measured(atoms: Atoms, output: Path, overlay: Any, progress: bool | None = None) -> dict[str, float]:
    """All numbers; results and pictures go to the folder."""

    def keep(name: str, result: Any, **settings: Any) -> Any:
        result.save(output / f"{name}.npz")
        result.plot(**settings).figure.savefig(output / f"{name}.png", dpi=200)
        print(f"{name}: {result}", flush=True)
        return result

    relaxed = keep("relaxation", relax(atoms, cell=True, fmax=1e-6, smax=1e-8, keep_symmetry=True, require=True))
    crystal = relaxed.atoms
    numbers: dict[str, float] = {"a0_A": float(crystal.cell.lengths().mean())}
    curve = keep("equation_of_state", equation_of_state(crystal, progress=progress))
    numbers |= {"B0_GPa": curve.B0_GPa, "B0_prime": curve.B0_prime}
    elastic = keep("elastic", elastic_constants(crystal, progress=progress))
    numbers |= {f"{name}_GPa": elastic.constants[name] for name in ("C11", "C12", "C44")}
    series = keep("vacancy_series", vacancy_series(crystal, supercells=(2, 3, 4, 5), progress=progress))
    numbers |= {"vacancy_eV": float(series.extrapolated[0]), "vacancy_unrelaxed_eV": float(series.unrelaxed[-1, 0])}
    numbers["migration_eV"] = keep("migration", vacancy_migration(crystal, supercell=3, progress=progress)).barrier
    for miller in ((1, 1, 1), (1, 0, 0), (1, 1, 0)):
        name = "".join(map(str, miller))
        surface = keep(f"surface_{name}", surface_energy(crystal, miller=miller, progress=progress))
        numbers[f"surface_{name}_J_per_m2"] = surface.energy_J_per_m2
    fault = keep("stacking_fault", stacking_fault_energy(crystal, progress=progress))
    numbers["stacking_fault_mJ_per_m2"] = 1e3 * fault.intrinsic * 16.02176634
    phonons = phonon_dispersion(crystal, supercell=4, progress=progress)
    keep("phonons", phonons, overlay=overlay)
    return numbers | corners(phonons) | {"asr_residual_eV_per_A2": phonons.asr_residual}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="cu-hvnet", help="bundled name or model file")
    parser.add_argument("--output", type=Path, default=Path("validation_output"))
    parser.add_argument("--experiment", type=Path, help="measured dispersion to draw over the computed one")
    chosen = parser.parse_args()
    chosen.output.mkdir(parents=True, exist_ok=True)
    atoms = bulk("Cu", a=3.63, cubic=True)
    atoms.calc = MLCalculator(chosen.model)
    numbers = measured(atoms, chosen.output, experiment(chosen.experiment) if chosen.experiment else None)
    table = {name: {"found": value, "PBE_experiment": REFERENCES.get(name)} for name, value in numbers.items()}
    (chosen.output / "copper.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    for name, row in table.items():
        print(f"{name:28s} {row['found']:10.4g}  {row['PBE_experiment'] or ''}")


if __name__ == "__main__":
    main()
