"""Constant-temperature runs of an ethanol molecule and of bulk copper with the bundled models, and their distances.

python examples/demo.py                     # what `make demo` runs; writes demo_output/demo.png
python examples/demo.py --help
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms
from ase.build import bulk, molecule
from matplotlib.figure import Figure

from mlcalc import MLCalculator
from mlcalc.md_protocols import Trajectory, interatomic_distances, radial_distribution, run_nvt


@dataclass(frozen=True)
class System:
    """What is simulated, and how."""

    name: str
    atoms: Atoms
    model: str  # name of a bundled model, or a file
    temperature_K: float  # noqa: N815 - as in run_nvt
    timestep_fs: float
    steps: int


def main() -> None:
    options = read_options()
    ethanol = System("ethanol", molecule("CH3CH2OH"), options.ethanol_model, 300.0, 0.5, options.ethanol_steps)
    crystal = bulk("Cu", a=3.635, cubic=True).repeat((3, 3, 3))  # 108 atoms at the PBE lattice constant
    copper = System("bulk copper", crystal, options.copper_model, 300.0, 2.0, options.copper_steps)

    output = Path(options.output)
    output.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(12, 8), layout="constrained")
    axes = figure.subplots(2, 2)
    report = []
    for system, (over_time, distances) in zip((ethanol, copper), axes, strict=True):
        trajectory, seconds = simulate(system)
        report.append(summary(system, trajectory, seconds))
        trajectory.plot(over_time)
        over_time.set_title(f"{system.name}, {system.model}: {over_time.get_title()}", fontsize="medium")
        equilibrated = trajectory.frames[len(trajectory.frames) // 2 :]
        if system.atoms.pbc.all():
            radial_distribution(equilibrated, r_max=8.0, bins=320).plot(distances)
        else:
            interatomic_distances(equilibrated, r_max=5.0, bins=250).plot(distances)
    figure.savefig(output / "demo.png", dpi=150)
    print("\n" + "\n\n".join(report) + f"\n\nwrote {output / 'demo.png'}")


def simulate(system: System) -> tuple[Trajectory, float]:
    """The Berendsen run of the system, and its wall time in seconds."""
    atoms = system.atoms.copy()
    atoms.calc = MLCalculator(system.model, device="auto")
    print(f"{system.name}: {len(atoms)} atoms, {system.steps} steps of {system.timestep_fs} fs, {system.model}")
    started = time.perf_counter()
    trajectory = run_nvt(
        atoms,
        temperature_K=system.temperature_K,
        timestep_fs=system.timestep_fs,
        steps=system.steps,
        thermostat="berendsen",
        tau_fs=100.0,
        seed=1,
        progress=True,
    )
    return trajectory, time.perf_counter() - started


def summary(system: System, trajectory: Trajectory, seconds: float) -> str:
    """What the run did, as text."""
    half = len(trajectory.steps) // 2
    picoseconds = trajectory.times_fs[-1] / 1000
    drift = (trajectory.conserved[-1] - trajectory.conserved[0]) / len(system.atoms) / picoseconds
    values = {
        "length": f"{picoseconds:g} ps in {seconds:.0f} s ({picoseconds * 86.4 / seconds:.3g} ns/day)",
        "mean temperature": f"{trajectory.temperatures[half:].mean():.1f} K (target {system.temperature_K:g} K)",
        "potential energy": f"{trajectory.energies[0]:.3f} -> {trajectory.energies[half:].mean():.3f} eV (mean)",
        "conserved energy": f"drift {1e3 * drift:.3f} meV/atom/ps",
    }
    return "\n".join([f"{system.name} ({system.model})", *(f"  {name:18}{text}" for name, text in values.items())])


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="demo_output", help="folder for demo.png (default: %(default)s)")
    parser.add_argument("--ethanol-model", default="ethanol-visnet", help="name or file (default: %(default)s)")
    parser.add_argument("--copper-model", default="cu-hvnet", help="name or file (default: %(default)s)")
    parser.add_argument("--ethanol-steps", type=int, default=4000, help="of 0.5 fs (default: %(default)s)")
    parser.add_argument("--copper-steps", type=int, default=500, help="of 2 fs (default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
