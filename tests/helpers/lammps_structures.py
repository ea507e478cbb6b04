"""Structures of the tests with LAMMPS, their models, and instances of LAMMPS that hold them."""

from __future__ import annotations

from itertools import cycle, islice
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk, fcc100, molecule
from ase.data import atomic_masses, atomic_numbers
from lammps_refusals import LocalMorse
from schnet import registered
from small_networks import random_network

from mlcalc.lammps.library import load_lammps, load_mpi

SMALL = {"cutoff": 3.2, "hidden_channels": 8, "num_layers": 2, "elements": ("Cu", "Au"), "energy_shift": (-3.7, -2.0)}
ORIGINAL = {"lmax": 1, "num_heads": 2, "variant": "original", "structure_shift": 11.0}
SKEWED = np.array([[1, 0, 0], [0.1, 1, 0], [0.2, -0.1, 1.02]])


def alloy() -> Atoms:
    atoms = bulk("Cu", cubic=True) * (2, 2, 4)
    atoms.symbols = list(islice(cycle(["Cu", "Cu", "Au"]), len(atoms)))
    return rattled(atoms, SKEWED)


def rattled(atoms: Atoms, deformation: Any = None, amplitude: float = 0.08) -> Atoms:
    if deformation is not None:
        atoms.set_cell(atoms.cell.array @ deformation, scale_atoms=True)
    atoms.rattle(amplitude, seed=1)
    return atoms


def ethanol() -> Atoms:
    one = molecule("CH3CH2OH", cell=[6.5] * 3)
    one.center()
    one.pbc = True
    return rattled(one * (2, 2, 1), SKEWED, 0.03)


def structure(name: str) -> Atoms:
    """One of STRUCTURES: atoms whose cell is as LAMMPS wants it, a along x and b in the plane of x and y."""
    if name.startswith("alloy"):
        return alloy()
    if name == "ethanol":
        return ethanol()
    if name == "molecule":
        one = molecule("CH3CH2OH", cell=[9, 8, 7])
        one.center()
        return rattled(one, None, 0.03)
    if name == "slab":
        slab = fcc100("Cu", (3, 3, 3), a=3.6, vacuum=6.0, orthogonal=True)
        slab.pbc = (True, True, False)
        return rattled(slab)
    copper = bulk("Cu", a=3.6, cubic=True)
    if name == "box":
        return rattled(copper * (3, 2, 2))
    return rattled({"tiny": copper, "copper": copper * (4, 3, 3), "morse": copper * (3, 2, 2)}[name], SKEWED)


# name: (model, elements of the types)
STRUCTURES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "copper": ("cu-hvnet", ("Cu",)),
    "tiny": ("cu-hvnet", ("Cu",)),
    "slab": ("cu-hvnet", ("Cu",)),
    "ethanol": ("ethanol-visnet", ("O", "H", "C")),
    "molecule": ("aspirin-visnet", ("H", "C", "O")),
    "alloy rmconv": ("hvnet", ("Au", "Cu")),
    "alloy painn": ("hvnet", ("Cu", "Au")),
    "alloy shifted": ("visnet", ("Cu", "Au")),
    "alloy hpnet": ("hpnet", ("Cu", "Au")),
    "alloy schnet": ("schnet", ("Cu", "Au")),
    "morse": (LocalMorse(), ("Cu",)),
}


def model_of(name: str) -> Any:
    model = STRUCTURES[name][0]
    if name == "alloy schnet":
        with registered():
            return random_network(model, SMALL)
    if name == "alloy painn":
        return random_network(model, SMALL | {"sub_network": "painn"})
    if name == "alloy shifted":
        return random_network(model, SMALL | ORIGINAL)
    return random_network(model, SMALL) if name.startswith("alloy") else model


def instance(atoms: Atoms, elements: tuple[str, ...], *, before: str = "") -> Any:
    """LAMMPS with these atoms."""
    lmp = load_lammps().lammps(cmdargs=["-log", "none", "-screen", "none"], comm=load_mpi().COMM_WORLD)
    a, b, c = atoms.cell.array
    boundary = " ".join("p" if periodic else "s" for periodic in atoms.pbc)
    positions, types = atoms.positions, [elements.index(symbol) + 1 for symbol in atoms.symbols]
    lmp.commands_string(
        f"units metal\natom_modify map yes\nboundary {boundary}\n{before}\n"
        f"region box prism 0 {a[0]} 0 {b[1]} 0 {c[2]} {b[0]} {c[0]} {c[1]}\ncreate_box {len(elements)} box\n"
    )
    lmp.create_atoms(len(atoms), list(range(1, len(atoms) + 1)), types, positions.ravel().tolist())
    for number, symbol in enumerate(elements, start=1):
        lmp.command(f"mass {number} {atomic_masses[atomic_numbers[symbol]]}")
    return lmp
