"""How far a step goes: modules and Python calls of our own on the way of a calculator step, an MD step, a phonon.

    python -m benchmarks.walks

Counted with sys.setprofile, so independent of the machine.  The first calls, which fill caches, are not counted.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

from ase.build import bulk, molecule

from mlcalc import MLCalculator
from mlcalc.md_protocols import phonon_dispersion, run_nvt


def counted(action: Callable[[], object]) -> tuple[int, int]:
    """Modules entered and Python functions called, of mlcalc alone."""
    found: Counter[str] = Counter()

    def profile(frame: FrameType, event: str, _: Any) -> None:
        name = str(frame.f_globals.get("__name__"))
        if event == "call" and name.split(".", maxsplit=1)[0] == "mlcalc":
            found[name] += 1

    sys.setprofile(profile)
    try:
        action()
    finally:
        sys.setprofile(None)
    return len(found), sum(found.values())


def calculator_step() -> tuple[int, int]:
    """One steady step of an MD of ethanol: energy and forces at moved positions, the neighbor list still valid."""
    atoms = molecule("CH3CH2OH")
    atoms.calc = MLCalculator("ethanol-visnet")
    for _ in range(3):
        atoms.positions += 1e-3
        atoms.get_forces()
    atoms.positions[0, 0] += 1e-3
    return counted(atoms.get_forces)


def dynamics() -> tuple[int, int]:
    """100 steps of NVT of ethanol; calls per step."""
    atoms = molecule("CH3CH2OH")
    atoms.calc = MLCalculator("ethanol-visnet")
    settings: dict[str, Any] = {"temperature_K": 300, "timestep_fs": 0.5, "thermostat": "bussi", "seed": 1}
    run_nvt(atoms, steps=10, progress=False, **settings)
    modules, calls = counted(lambda: run_nvt(atoms, steps=100, progress=False, **settings))
    return modules, round(calls / 100)


def phonons() -> tuple[int, int]:
    """A whole phonon dispersion of copper."""
    atoms = bulk("Cu", a=3.636)
    atoms.calc = MLCalculator("cu-hvnet")
    phonon_dispersion(atoms, supercell=(2, 2, 2))
    return counted(lambda: phonon_dispersion(atoms, supercell=(2, 2, 2)))


def main() -> None:
    """Print the table."""
    print("| walk | modules | Python calls |\n|---|---|---|")
    for name, walk in (
        ("calculator step", calculator_step),
        ("MD step (100 of them, memory)", dynamics),
        ("phonon dispersion, Cu 2x2x2", phonons),
    ):
        modules, calls = walk()
        print(f"| {name} | {modules} | {calls} |")


if __name__ == "__main__":
    main()
