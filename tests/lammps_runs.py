"""LAMMPS with our potentials, as a program for one or several ranks; what it finds is printed as JSON by rank 0.

[mpiexec -n N] python lammps_runs.py structures [COMMAND]   energies, forces and stresses of STRUCTURES
[mpiexec -n N] python lammps_runs.py everything FOLDER      these, twins, refusals, dynamics, and failures
[mpiexec -n N] python lammps_runs.py failure HOW            a potential that raises, or gives nan, on the last rank
[mpiexec -n N] python lammps_runs.py command ...            `mlcalc lammps ...`
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import cycle, islice
from typing import Any
from unittest import mock

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, fcc100, molecule
from ase.data import atomic_masses, atomic_numbers
from lammps_refusals import LocalMorse, refusals
from small_networks import random_network

from mlcalc.lammps import attach
from mlcalc.lammps.library import load_lammps, load_mpi
from mlcalc.lammps.ranks import Halo, Ranks
from mlcalc.lammps.schemes import Pieces

SMALL = {"cutoff": 3.2, "hidden_channels": 8, "num_layers": 2, "elements": ("Cu", "Au"), "energy_shift": (-3.7, -2.0)}
ORIGINAL = {"lmax": 1, "num_heads": 2, "variant": "original", "structure_shift": 11.0}
SKEWED = np.array([[1, 0, 0], [0.1, 1, 0], [0.2, -0.1, 1.02]])


class Failing(LocalMorse):
    """Gives NaN, or raises, on the last rank, at its second call."""

    def __init__(self, how: str, rank: int) -> None:
        super().__init__()
        object.__setattr__(self, "how", how if rank == load_mpi().COMM_WORLD.size - 1 else "")
        object.__setattr__(self, "calls", 0)

    def __call__(self, graph: Any) -> torch.Tensor:
        object.__setattr__(self, "calls", self.calls + 1)
        energies = super().__call__(graph)
        if self.calls < 2 or not self.how:
            return energies
        if self.how == "raises":
            raise RuntimeError("the network is broken")
        return energies * float("nan")


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
    "morse": (LocalMorse(), ("Cu",)),
}


def model_of(name: str) -> Any:
    model = STRUCTURES[name][0]
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


def outcome(name: str, *, before: str = "") -> dict[str, Any]:
    """Energy, forces by ID, stress in ASE's order, and energies of atoms by ID."""
    atoms, elements = structure(name), STRUCTURES[name][1]
    lmp = instance(atoms, elements, before=before)
    coupling = attach(lmp, model_of(name), elements=elements)
    lmp.commands_string(
        "compute each all pe/atom\ncompute press all pressure NULL virial\ncompute each_stress all stress/atom NULL\n"
        "compute stresses all reduce sum c_each_stress[1]\nrun_style verlet\nfix move all nve\n"
        "thermo_style custom step pe c_press[1] c_press[2] c_press[3] c_press[4] c_press[5] c_press[6] c_stresses\n"
        "dump d all custom 1 /dev/null id c_each"
    )
    lmp.command("run 0 post no")
    thermo, nktv2p = lmp.last_thermo(), lmp.extract_global("nktv2p")
    pressure = np.array([thermo[f"c_press[{k}]"] for k in (1, 2, 3, 6, 5, 4)])
    each = lmp.numpy.extract_compute("each", 1, 1)[: lmp.extract_setting("nlocal")]
    tags = lmp.numpy.extract_atom("id")[: lmp.extract_setting("nlocal")]
    pieces = load_mpi().COMM_WORLD.gather(dict(zip(tags.tolist(), each.tolist(), strict=True)))
    found = {
        "energy": thermo["PotEng"],
        "forces": np.array(lmp.gather_atoms("f", 1, 3)).reshape(-1, 3).tolist(),
        "stress": (-pressure / nktv2p).tolist(),
        "stresses of atoms": str(thermo["c_stresses"]),
        "scheme": coupling.describe(),
    }
    if pieces is not None:
        energies = {tag: energy for piece in pieces for tag, energy in piece.items()}
        found["energies"] = [energies[tag] for tag in sorted(energies)]
    lmp.close()
    return found


def twins() -> dict[str, tuple[str, Any]]:
    """What is left out: the structure on which it shows, and a context in which it is missing."""
    piece = Pieces._piece

    def smaller(self: Pieces, *arguments: Any) -> Any:
        with mock.patch.object(self, "_layers", self._layers - 1):
            return piece(self, *arguments)

    def own(self: Ranks, values: Any) -> Any:
        return values if values.size == 7 else whole(self, values)

    whole = Ranks.sum
    return {
        "ghost forces not sent home": ("copper", mock.patch.object(Halo, "bring_home", return_value=None)),
        "energy and virial not summed": ("copper", mock.patch.object(Ranks, "sum", own)),
        "states not exchanged": ("copper", mock.patch.object(Halo, "fetch", return_value=None)),
        "derivatives not sent home": ("alloy shifted", mock.patch.object(Halo, "bring_home", return_value=None)),
        "rim too small": ("alloy hpnet", mock.patch.object(Pieces, "_piece", smaller)),
    }


@contextmanager
def uninitialized() -> Iterator[None]:
    """Memory that would be left as it is filled with something, so that twins give the same numbers each time."""
    with mock.patch.object(np, "empty", lambda shape, dtype=float: np.full(shape, 0.1, dtype)):
        yield


def copper_run(commands: str, folder: str = "", *, name: str = "copper", restart: str = "") -> Any:
    """LAMMPS after these commands on a structure of copper, new or from a restart file in the folder."""
    if restart:
        lmp = load_lammps().lammps(cmdargs=["-log", "none", "-screen", "none"], comm=load_mpi().COMM_WORLD)
        lmp.command(f"read_restart {folder}/{restart}")
    else:
        lmp = instance(structure(name), ("Cu",))
        lmp.command("velocity all create 600 1 loop all")
    attach(lmp, "cu-hvnet", elements=("Cu",))
    lmp.commands_string(f"timestep 0.002\nthermo 1\n{commands.format(folder=folder)}")
    return lmp


def by_id(lmp: Any, *names: str) -> np.ndarray:
    return np.concatenate([np.array(lmp.gather_atoms(name, 1, 3)) for name in names]).reshape(len(names), -1, 3)


def difference(one: Any, other: Any) -> list[float]:
    """Largest differences of positions (Å, images of atoms apart) and velocities (Å/ps), and of volumes (Å^3)."""
    x, v = by_id(one, "x", "v") - by_id(other, "x", "v")
    return [float(np.abs(x).max()), float(np.abs(v).max()), abs(one.get_thermo("vol") - other.get_thermo("vol"))]


def dynamics(folder: str) -> dict[str, Any]:
    """A trajectory of 20 steps; restarts of two ensembles; the stress as LAMMPS' energies say it."""
    start = copper_run("run 0")
    velocities = by_id(start, "v")[0]
    found: dict[str, Any] = {"velocities": velocities.tolist()}
    for name, fix in (("nve", "fix 1 all nve"), ("npt", "fix 1 all npt temp 600 600 0.1 tri 0 0 1")):
        whole = copper_run(f"{fix}\nrun 10\nwrite_restart {{folder}}/{name}.restart\nrun 10", folder)
        again = copper_run(f"{fix}\nrun 10", folder, restart=f"{name}.restart")
        found[f"{name} restart"] = difference(whole, again)
        found[f"{name} positions"] = by_id(whole, "x")[0].tolist()
        found[f"{name} energies"] = [whole.last_thermo()["TotEng"]]
        for lmp in (whole, again):
            lmp.close()
    found["stress"], found["slopes"] = slopes()
    return found


def conserved(twin: bool) -> dict[str, Any]:
    """Total energies (eV) of 400 steps of 2 fs, 48 atoms; the twin does not send ghosts' forces home."""
    with twins()["ghost forces not sent home"][1] if twin else nullcontext():
        lmp = copper_run("fix 1 all nve\nthermo_style custom step temp etotal", name="box")
        found = []
        for _ in range(40):
            lmp.command("run 10 post no")
            found.append(lmp.last_thermo()["TotEng"])
        temperature = lmp.last_thermo()["Temp"]
        lmp.close()
    return {"energies": found, "temperature": temperature}


def slopes(strain: float = 1e-4) -> tuple[list[float], list[float]]:
    """Pressures of LAMMPS (bar), and -dE/dV of boxes stretched along x, y and z and sheared (yz, xz, xy)."""
    lmp = copper_run(
        "compute press all pressure NULL virial\nfix 1 all nve\nthermo_style custom pe c_press[*]", name="box"
    )
    lmp.command("run 0 post no")
    thermo, per_volume = lmp.last_thermo(), lmp.extract_global("nktv2p") / lmp.get_thermo("vol")
    pressures = [thermo[f"c_press[{k}]"] for k in (1, 2, 3, 6, 5, 4)]
    sides = np.diag(structure("box").cell.array)
    derivatives = []
    for change, side in [("x", 0), ("y", 0), ("z", 0), ("yz", sides[2]), ("xz", sides[2]), ("xy", sides[1])]:
        energies = []
        for e in (strain, -strain):
            there, back = (
                (f"delta {e * side}", f"delta {-e * side}") if side else (f"scale {1 + e}", f"scale {1 / (1 + e)}")
            )
            lmp.commands_string(f"change_box all {change} {there} remap\nrun 0 post no")
            energies.append(lmp.get_thermo("pe"))  # last_thermo keeps that of the step
            lmp.command(f"change_box all {change} {back} remap")
        derivatives.append(-(energies[0] - energies[1]) / (2 * strain) * per_volume)
    lmp.close()
    return pressures, derivatives


def failure(how: str) -> None:
    """Runs whose potential fails at step 1: by a command, which raises, and then in a script, which ends us."""
    atoms, rank = structure("morse"), load_mpi().COMM_WORLD.rank
    lmp = instance(atoms, ("Cu",))
    attach(lmp, Failing(how, rank), elements=("Cu",))
    lmp.command("fix move all nve")
    try:
        lmp.command("run 10")
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
    else:
        told = "nothing was raised"
    step = lmp.extract_global("ntimestep")
    lmp.close()
    say({"raised": told, "step": step})
    lmp = instance(atoms, ("Cu",))
    attach(lmp, Failing(how, rank), elements=("Cu",))
    lmp.commands_string('fix move all nve\nrun 10\nprint "went on" screen yes')
    say({"raised": "the script went on"})


def say(found: Any) -> None:
    if load_mpi().COMM_WORLD.rank == 0:
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()


def omissions() -> dict[str, Any]:
    """What comes of each of the twins."""
    found = {}
    for name, (where, missing) in twins().items():
        with missing, uninitialized():
            found[name] = where, outcome(where)
    return found


def main(arguments: list[str]) -> int:
    what, *rest = arguments
    if what == "command":
        from mlcalc import cli
        from mlcalc.cli.lammps import lammps_command

        cli.commands.add_command(lammps_command)
        return cli.main(["lammps", *rest])
    if what in ("structures", "everything"):
        before = " ".join(rest) if what == "structures" else ""
        say({name: outcome(name, before=before) for name in STRUCTURES})
    if what == "everything":
        say(omissions())
        say(refusals())
        say(dynamics(rest[0]))
    if what == "energy":
        say(conserved(bool(rest)))
    if what in ("failure", "everything"):
        failure(rest[0] if what == "failure" else "raises")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
