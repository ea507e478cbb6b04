"""Path integrals against what is known: `python validation/path_integrals.py [--output DIR]`.

1. Harmonic oscillators (1500 cm^-1, 300 K) with 1 to 64 beads: the energy against that of the discretised path
   integral, which is known for every number of beads, and against the quantum limit; the primitive (thermodynamic) and
   the virial estimator of the kinetic energy against each other.
2. Ethanol with the bundled model, light and fully deuterated: the quantum kinetic energy against that of harmonic modes
   of the same model, and the distribution of the O-H distance against O-D and against classical nuclei.

Runs continue when the command is given again.  About half an hour on two cores.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.calculator import Calculator, all_changes

from mlcalc import MLCalculator
from mlcalc.factory import CalculatorFactory
from mlcalc.md_protocols import IPIRun, relax, run_ipi

TEMPERATURE, WAVENUMBER, OSCILLATORS = 300.0, 1500.0, 64
KT = units.kB * TEMPERATURE
QUANTUM = 100 * units._c * units._hplanck * units.J * WAVENUMBER  # hbar omega, eV
BLOCKS = 20


class Tethers(Calculator):
    """Atoms on springs of one frequency, each by itself."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def __init__(self, sites: np.ndarray, k: float) -> None:
        super().__init__(k=k)
        self.sites = sites

    def calculate(self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        away, k = atoms.positions - self.sites, self.parameters["k"]
        self.results = {"energy": 0.5 * k * float((away**2).sum()), "forces": -k * away}


def oscillators() -> Atoms:
    """Hydrogens on a grid, each tethered to its site."""
    side = round(OSCILLATORS ** (1 / 3))
    sites = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), axis=-1).reshape(-1, 3) * 3.0
    atoms = Atoms("H" * len(sites), positions=sites)
    omega = QUANTUM / (units._hbar * units.J * units.s)  # per ASE's unit of time
    atoms.calc = Tethers(sites, atoms.get_masses()[0] * omega**2)
    return atoms


def discretised(beads: int) -> float:
    """Mean energy per degree of freedom of P beads, eV: a sum over the modes of the ring (Ceriotti et al., 2010)."""
    k = np.arange(beads)
    ring = 2 * beads * KT * np.sin(k * np.pi / beads)  # hbar omega_k
    return float(KT * (QUANTUM**2 / (ring**2 + QUANTUM**2)).sum())


def mean(values: np.ndarray) -> tuple[float, float]:
    """Mean and its standard error, from blocks, of all but the first tenth."""
    kept = values[len(values) // 10 :]
    blocks = np.array([block.mean() for block in np.array_split(kept, BLOCKS)])
    return float(kept.mean()), float(blocks.std(ddof=1) / np.sqrt(BLOCKS))


def oscillator_rows(
    output: Path, steps: int, counts: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
) -> list[dict[str, float]]:
    rows = []
    for beads in counts:
        run = run_ipi(
            oscillators(),
            output=output / f"oscillators-{beads}",
            temperature_K=TEMPERATURE,
            timestep_fs=0.25,
            steps=steps,
            beads=beads,
            thermostat="pile_l",
            tau_fs=20.0,
            remove_drift=False,
            isolated=False,
            log_interval=2,
            trajectory_interval=steps,
            checkpoint_interval=500,
            seed=beads,
        )
        freedom = 3 * OSCILLATORS
        potential, error = mean(run.energies / freedom)
        virial = mean(run.column("kinetic_cv" if beads > 1 else "kinetic_md") / freedom)
        primitive = mean(run.column("kinetic_td") / freedom) if beads > 1 else virial
        rows.append(
            {
                "beads": beads,
                "energy_meV": 1e3 * (potential + virial[0]),
                "error_meV": 1e3 * float(np.hypot(error, virial[1])),
                "discretised_meV": 1e3 * discretised(beads),
                "virial_meV": 1e3 * virial[0],
                "virial_error_meV": 1e3 * virial[1],
                "primitive_meV": 1e3 * primitive[0],
                "primitive_error_meV": 1e3 * primitive[1],
            }
        )
        print(rows[-1])
    return rows


def ethanol(isotope: float) -> Atoms:
    """Relaxed with the bundled model; hydrogens of this mass."""
    atoms = molecule("CH3CH2OH")
    atoms.calc = MLCalculator("ethanol-visnet")
    atoms = relax(atoms, fmax=1e-5).atoms
    atoms.set_masses([isotope if number == 1 else None for number in atoms.numbers])
    return atoms


def harmonic_kinetic_energy(atoms: Atoms) -> float:
    """Quantum kinetic energy of the harmonic modes, eV, and three classical rotations; translation is removed."""
    masses = np.repeat(atoms.get_masses(), 3)
    calc = MLCalculator("ethanol-visnet")
    hessian = calc.hessian(atoms).reshape(len(masses), -1)
    squared = np.linalg.eigvalsh(hessian / np.sqrt(np.outer(masses, masses)))[6:]
    quanta = np.sqrt(squared) * units._hbar * units.J * units.s
    return float((quanta / 4 / np.tanh(quanta / (2 * KT))).sum() + 1.5 * KT)


def ethanol_run(output: Path, name: str, isotope: float, beads: int, steps: int) -> IPIRun:
    atoms = ethanol(isotope)
    atoms.calc = None
    return run_ipi(
        atoms,
        calc=CalculatorFactory("ethanol-visnet", dtype="float32"),
        output=output / name,
        temperature_K=TEMPERATURE,
        timestep_fs=0.5,
        steps=steps,
        beads=beads,
        tau_fs=50.0,
        log_interval=1,
        trajectory_interval=5,
        checkpoint_interval=200,
        seed=7,
    )


def bond_lengths(run: IPIRun) -> np.ndarray:
    """O-H distances of all beads, Å, after the first tenth."""
    frames = run.frames()
    symbols = frames[0].get_chemical_symbols()
    oxygen = symbols.index("O")
    hydrogen = min((k for k, s in enumerate(symbols) if s == "H"), key=lambda k: frames[0].get_distance(oxygen, k))
    kept = [f for f in frames if f.info["step"] > run.steps[-1] // 10]
    return np.array([frame.get_distance(oxygen, hydrogen) for frame in kept])


def ethanol_rows(output: Path, beads: int, steps: int) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    rows, lengths = [], {}
    cases = (("light", 1.008, beads, steps), ("deuterated", 2.014, beads, steps), ("classical", 1.008, 1, 8 * steps))
    for name, isotope, count, length in cases:
        run = ethanol_run(output, f"ethanol-{name}", isotope, count, length)
        kinetic = mean(run.column("kinetic_cv" if count > 1 else "kinetic_md"))
        lengths[name] = bond_lengths(run)
        expected = harmonic_kinetic_energy(ethanol(isotope)) if count > 1 else 1.5 * KT * 8
        rows.append(
            {
                "case": name,
                "beads": count,
                "kinetic_meV": 1e3 * kinetic[0],
                "error_meV": 1e3 * kinetic[1],
                "harmonic_meV": 1e3 * expected,
                "OH_mean_A": float(lengths[name].mean()),
                "OH_width_A": float(lengths[name].std()),
            }
        )
        print(rows[-1])
    return rows, lengths


def draw(rows: list[dict[str, float]], lengths: dict[str, np.ndarray], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6))
    beads = [row["beads"] for row in rows]
    left.semilogx(beads, [row["discretised_meV"] for row in rows], "k-", lw=1, label="P beads, exact")
    left.axhline(500 * QUANTUM / np.tanh(QUANTUM / (2 * KT)), color="grey", ls=":", label="quantum")
    left.axhline(1e3 * KT, color="grey", ls="--", label="classical")
    left.errorbar(beads, [r["energy_meV"] for r in rows], [2 * r["error_meV"] for r in rows], fmt="o", label="i-PI")
    left.set(xlabel="beads", ylabel="energy per oscillator (meV)", xticks=beads, xticklabels=beads)
    left.minorticks_off()
    left.legend(frameon=False)
    for name, label in (("classical", "classical H"), ("deuterated", "D"), ("light", "H")):
        if name in lengths:
            right.hist(lengths[name], bins=60, range=(0.75, 1.3), density=True, histtype="step", label=label)
    right.set(xlabel="O-H distance of ethanol (Å)", ylabel="density (1/Å)")
    right.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("path_integrals"))
    parser.add_argument("--steps", type=int, default=8000, help="of the oscillators")
    parser.add_argument("--molecule-steps", type=int, default=4000)
    parser.add_argument("--beads", type=int, default=32, help="of ethanol")
    arguments = parser.parse_args()
    arguments.output.mkdir(exist_ok=True)
    rows = oscillator_rows(arguments.output, arguments.steps)
    molecules, lengths = ethanol_rows(arguments.output, arguments.beads, arguments.molecule_steps)
    found = {"oscillators": rows, "ethanol": molecules, "temperature_K": TEMPERATURE, "wavenumber": WAVENUMBER}
    (arguments.output / "path_integrals.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    draw(rows, lengths, arguments.output / "path_integrals.png")


if __name__ == "__main__":
    main()
