"""Energy conservation of the bundled models: drift over 20 ps, and the error's dependence on the time step.

    python validation/nve.py [--model NAME] [--ps 20] [--output validation_output]

float64, velocity Verlet.  Copper: 32 atoms (a cell smaller than twice the cutoff), crystal at about 300 K, 2 fs.
Ethanol and aspirin: one molecule at about 300 K, 0.5 fs.  The drift is the slope of a straight line through the total
energy; a velocity Verlet run without error of the forces has none.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from numpy.typing import NDArray

from mlcalc import MLCalculator
from mlcalc.md_protocols import run_nve

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from aspirin_environments import ASPIRIN

TIMESTEP_FS = {"cu-hvnet": 2.0, "ethanol-visnet": 0.5, "aspirin-visnet": 0.5}
STARTS = {
    "cu-hvnet": bulk("Cu", a=3.64, cubic=True) * 2,
    "ethanol-visnet": molecule("CH3CH2OH"),
    "aspirin-visnet": ASPIRIN,
}


@dataclass(frozen=True, eq=False)
class Conservation:
    """Total energy of an NVE run, per atom, from its first value."""

    model: str
    timestep_fs: float
    times_ps: NDArray[np.float64]
    energy: NDArray[np.float64]  # meV/atom
    temperature: float  # K, mean

    @property
    def drift(self) -> float:
        """Slope of the total energy, meV/atom/ps."""
        return float(np.polyfit(self.times_ps, self.energy, 1)[0])

    @property
    def fluctuation(self) -> float:
        """Standard deviation of the total energy about its mean, meV/atom."""
        return float(self.energy.std())


def start(name: str) -> Atoms:
    """The structure the run of a model begins with, with momenta of twice 300 K to be shared with the potential."""
    atoms = STARTS[name].copy()
    atoms.calc = MLCalculator(name, dtype="float64")
    return atoms


def conservation(name: str, *, picoseconds: float, timestep_fs: float, seed: int = 1) -> Conservation:
    """An NVE run with the bundled model."""
    atoms = start(name)
    steps = round(1000 * picoseconds / timestep_fs)
    run = run_nve(
        atoms,
        timestep_fs=timestep_fs,
        steps=steps,
        temperature_K=600,
        seed=seed,
        log_interval=1,
        trajectory_interval=steps,
    )
    total = run.total_energies
    return Conservation(
        model=name,
        timestep_fs=timestep_fs,
        times_ps=run.times_fs / 1000,
        energy=1000 * (total - total[0]) / len(atoms),
        temperature=float(run.temperatures.mean()),
    )


def main() -> None:
    """Run, print and plot."""
    from matplotlib.figure import Figure

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=sorted(TIMESTEP_FS), action="append")
    parser.add_argument("--ps", type=float, default=20.0)
    parser.add_argument("--output", type=Path, default=Path("validation_output"))
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name in arguments.model or sorted(TIMESTEP_FS):
        timestep = TIMESTEP_FS[name]
        long = conservation(name, picoseconds=arguments.ps, timestep_fs=timestep)
        short = [conservation(name, picoseconds=0.2, timestep_fs=timestep * factor) for factor in (0.25, 0.5, 1.0)]
        report = {
            "model": name,
            "picoseconds": arguments.ps,
            "timestep_fs": timestep,
            "temperature_K": long.temperature,
            "drift_meV_per_atom_per_ps": long.drift,
            "fluctuation_meV_per_atom": long.fluctuation,
            "fluctuation_by_timestep": {run.timestep_fs: run.fluctuation for run in short},
        }
        print(json.dumps(report, indent=1))
        (arguments.output / f"nve-{name}.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        figure = Figure(figsize=(7, 3.5), layout="constrained")
        axes = figure.subplots()
        axes.plot(long.times_ps, long.energy, lw=0.5, label=f"drift {long.drift:+.2e} meV/atom/ps")
        axes.set_xlabel("time (ps)")
        axes.set_ylabel("total energy − start (meV/atom)")
        axes.set_title(f"{name}: NVE, {timestep} fs, float64, {long.temperature:.0f} K")
        axes.legend()
        figure.savefig(arguments.output / f"nve-{name}.png", dpi=150)


if __name__ == "__main__":
    main()
