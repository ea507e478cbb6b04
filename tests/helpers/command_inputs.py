"""Small models, structures and labeled frames in a folder, as a user of the command line would have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from small_networks import random_network

from mlcalc import save_model

SMALL = {"cutoff": 4.0, "hidden_channels": 8, "num_layers": 1, "num_rbf": 4}


def make_folder(folder: Path) -> Path:
    """The folder with copper and organic models, structures, labeled frames and a text file called text.xyz."""
    copper = SMALL | {"elements": ("Cu",), "energy_shift": (-3.7,)}
    organic = SMALL | {
        "elements": ("H", "C", "O"),
        "energy_shift": (-13.0, -1000.0, -2000.0),
        "lmax": 1,
        "num_heads": 2,
    }
    save_model(random_network("hvnet", copper), folder / "copper.safetensors")  # type: ignore[arg-type]
    save_model(random_network("visnet", organic), folder / "organic.safetensors")  # type: ignore[arg-type]
    write(folder / "copper.xyz", bulk("Cu", cubic=True))
    write(folder / "ethanol.xyz", molecule("CH3CH2OH"))
    write(folder / "labeled.xyz", labeled())
    (folder / "text.xyz").write_text("not a structure\n")
    return folder


def labeled() -> list[Atoms]:
    """Rattled crystals with made-up labels, in two groups."""
    rng = np.random.default_rng(0)
    frames = []
    for k in range(12):
        atoms = bulk("Cu", cubic=True)
        atoms.positions += rng.normal(scale=0.05, size=(4, 3))
        atoms.info["group"] = "cold" if k % 3 else "hot"
        atoms.calc = SinglePointCalculator(atoms, energy=-14.8 + 0.1 * rng.normal(), forces=rng.normal(size=(4, 3)))
        frames.append(atoms)
    return frames
