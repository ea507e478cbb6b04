"""What a phonon calculation costs beside its forces: `python -m benchmarks.phonons [--repeats 7] [--threads 2]`.

bare: `evaluate` of MLCalculator on the displaced supercells and the perfect one, which are there already.
forces: how the protocol gets the same, from phonopy's cells to forces that are checked.
symmetry: phonopy's search for the symmetry of the supercell and the displacements that it needs.
everything: `phonon_dispersion` to the end, with force constants, bands and the mesh on which stability is judged.
Bulk copper with the bundled model, and a MoSe2 monolayer with a network of random weights (128 channels, 5 layers):
times do not depend on what the weights are.  All in turns, float64.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from statistics import median, quantiles
from typing import Any

import click
import torch
from ase import Atoms
from ase.build import bulk, mx2

from benchmarks.networks import RECIPES, model
from benchmarks.report import table
from mlcalc import MLCalculator
from mlcalc.graphs.graphs import atoms_to_graph
from mlcalc.md_protocols.evaluator import Evaluator
from mlcalc.md_protocols.phonons import phonon_dispersion
from mlcalc.md_protocols.phonons.crystal import displaced_forces, phonopy_crystal, to_ase

_DISPLACEMENT = 0.01  # Å


def copper() -> Atoms:
    """The conventional cell at the lattice constant of the bundled model."""
    atoms = bulk("Cu", a=3.6363, cubic=True)
    atoms.calc = MLCalculator("cu-hvnet")
    return atoms


def monolayer() -> Atoms:
    """A 1H-MoSe2 monolayer with 20 Å to its images."""
    atoms = mx2("MoSe2", kind="2H", a=3.32, thickness=3.34, vacuum=10.0)
    atoms.pbc = True
    sample = atoms * (3, 3, 1)
    sample.rattle(0.03, seed=1)
    network = model(RECIPES["hvnet-128x5-rmconv"], ("Mo", "Se"), atoms_to_graph(sample, 5.0)).network
    atoms.calc = MLCalculator(network)
    return atoms


CASES: dict[str, tuple[Callable[[], Atoms], tuple[int, int, int]]] = {
    "Cu 3x3x3": (copper, (3, 3, 3)),
    "MoSe2 6x6x1": (monolayer, (6, 6, 1)),
}


def _displaced(atoms: Atoms, supercell: tuple[int, int, int]) -> Any:
    phonon = phonopy_crystal(atoms, supercell)
    phonon.generate_displacements(distance=_DISPLACEMENT)
    return phonon


def samples(atoms: Atoms, supercell: tuple[int, int, int], repeats: int) -> tuple[int, dict[str, list[float]]]:
    """Number of supercells, and seconds of each way, taken in turns after one call of each."""
    phonon = _displaced(atoms, supercell)
    cells = [to_ase(cell) for cell in (phonon.supercell, *(phonon.supercells_with_displacements or ()))]
    ways: dict[str, Callable[[], Any]] = {
        "bare": lambda: atoms.calc.evaluate(cells, forces=True),
        "forces": lambda: displaced_forces(phonon, Evaluator(atoms.calc)),
        "symmetry": lambda: _displaced(atoms, supercell),
        "everything": lambda: phonon_dispersion(atoms, supercell=supercell, displacement=_DISPLACEMENT, progress=False),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # random weights have no relaxed crystal
        for _ in range(1 + repeats):
            for name, call in ways.items():
                begin = time.perf_counter()
                call()
                taken[name].append(time.perf_counter() - begin)
    return len(cells), {name: values[1:] for name, values in taken.items()}


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--repeats", default=7, type=click.IntRange(2), help="Samples of each, taken in turns.")
@click.option("--threads", default=2, type=click.IntRange(1), help="Threads of torch and of the fused kernels.")
def main(repeats: int, threads: int) -> None:
    """Times of phonon calculations against their bare force evaluations."""
    torch.set_num_threads(threads)
    rows = []
    for name, (build, supercell) in CASES.items():
        cells, taken = samples(build(), supercell, repeats)
        bare = median(taken["bare"])
        for way, values in taken.items():
            first, _, third = quantiles(values, n=4, method="inclusive")
            spread = f"{100 * (third - first) / median(values):.0f} %"
            rows.append([name, str(cells), way, f"{1e3 * median(values):.4g}", spread, f"{median(values) / bare:.2f}"])
    click.echo(table(["crystal", "supercells", "what", "ms", "spread", "times bare"], rows))


if __name__ == "__main__":
    main()
