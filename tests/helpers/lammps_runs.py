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
from typing import Any
from unittest import mock

import numpy as np
import torch
from lammps_dynamics import conserved, dynamics
from lammps_refusals import LocalMorse, refusals
from lammps_structures import STRUCTURES, instance, model_of, structure

from mlcalc.lammps import attach
from mlcalc.lammps.library import load_mpi
from mlcalc.lammps.ranks import Halo, Ranks
from mlcalc.lammps.schemes import Pieces


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
        from mlcalc.cli.verbs.lammps import lammps_command

        cli.commands.add_command(lammps_command)
        return cli.main(["lammps", *rest])
    if what in ("structures", "everything"):
        before = " ".join(rest) if what == "structures" else ""
        small = ("tiny", "ethanol") if "tiled" in before else ()  # shorter than the cutoff, which LAMMPS refuses
        names = [name for name in STRUCTURES if name not in small]
        say({name: outcome(name, before=before) for name in names})
    if what == "everything":
        say(omissions())
        say(refusals())
        say(dynamics(rest[0]))
    if what == "energy":
        with twins()["ghost forces not sent home"][1] if rest else nullcontext():
            say(conserved())
    if what in ("failure", "everything"):
        failure(rest[0] if what == "failure" else "raises")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
