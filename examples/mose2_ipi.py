"""A MoSe2 monolayer at 300 K: i-PI moves it, an HVNet gives the forces, and its g(r) is held against ab initio frames.

    python examples/mose2_ipi.py MODEL.safetensors [--frames FRAMES.xyz] [--steps 4000] [--output mose2]

MODEL: trained as training/mose2-hvnet.toml says (neither the data nor such a model are distributed).  FRAMES: ab initio
molecular dynamics of the same monolayer, for comparison.  Run it again to continue.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
from ase import Atoms
from ase.build import mx2
from ase.io import read

from mlcalc import CalculatorFactory
from mlcalc.md_protocols import radial_distribution, run_ipi

mpl.use("Agg")
from matplotlib import pyplot as plt

PAIRS = (("Mo", "Mo"), ("Mo", "Se"), ("Se", "Se"))


def monolayer(lattice_constant: float) -> Atoms:
    """A sheet of 144 atoms, in a cell as high as the ab initio one."""
    sheet = mx2("MoSe2", kind="2H", a=lattice_constant, thickness=3.34, size=(1, 1, 1), vacuum=10)
    sheet = sheet.repeat((8, 6, 1))
    sheet.cell[2] = [0, 0, 30.0]
    sheet.center(axis=2)
    sheet.pbc = True  # i-PI's cells are periodic along all directions: the layers are 30 Å apart
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--frames", help="ab initio frames that ASE reads")
    parser.add_argument("--steps", type=int, default=4000, help="of 1 fs")
    parser.add_argument("--lattice-constant", type=float, default=3.3775, help="Å")
    parser.add_argument("--output", type=Path, default=Path("mose2"))
    arguments = parser.parse_args()

    run = run_ipi(
        monolayer(arguments.lattice_constant),
        calc=CalculatorFactory(arguments.model, dtype="float32"),
        output=arguments.output,
        ensemble="nvt",
        temperature_K=300,
        timestep_fs=1.0,
        steps=arguments.steps,
        trajectory_interval=10,
        seed=1,
    )
    print(run)
    frames = [frame for frame in run.frames() if frame.info["step"] > 500]
    reference = read(arguments.frames, ":") if arguments.frames else []
    figure, axis = plt.subplots(figsize=(6, 3.6))
    for k, pair in enumerate(PAIRS):
        ours = radial_distribution(frames, r_max=7.5, bins=300, pair=pair)
        axis.plot(ours.r, ours.g, color=f"C{k}", label="-".join(pair))
        if reference:
            theirs = radial_distribution(reference, r_max=7.5, bins=300, pair=pair)
            axis.plot(theirs.r, theirs.g, color="k", lw=0.8, ls=":", label="ab initio" if k == 0 else None)
    axis.set(xlabel="r (Å)", ylabel="g(r), in a cell of 30 Å height", xlim=(2, 7.5), ylim=(0, None))
    axis.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(arguments.output / "mose2.png", dpi=150)


if __name__ == "__main__":
    main()
