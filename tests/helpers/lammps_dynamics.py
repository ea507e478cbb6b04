"""LAMMPS in motion: trajectories, restarts, conserved energies, derivatives by the box."""

from __future__ import annotations

from typing import Any

import numpy as np
from lammps_structures import instance, structure

from mlcalc.lammps import attach
from mlcalc.lammps.library import load_lammps, load_mpi


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


def conserved() -> dict[str, Any]:
    """Total energies (eV) of 400 steps of 2 fs, 48 atoms."""
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
