"""Settings of LAMMPS and of models that are refused, and what is said of them."""

from __future__ import annotations

from typing import Any

from potentials import Morse
from torch import Tensor

from mlcalc.errors import ConfigError, Use
from mlcalc.lammps import attach
from mlcalc.lammps.library import load_lammps, load_mpi
from mlcalc.models import Graph


class LocalMorse(Morse):
    """A potential of ours without any special path, which says how far it reaches."""

    receptive_layers = 1


class Picky(LocalMorse):
    """Fails with remedies, one of which is no setting of LAMMPS."""

    def __call__(self, graph: Graph) -> Tensor:
        remedies = [Use("max_edges", 10), Use("min_distance", 0.1), "look at it"]
        raise ConfigError("the structure is bad", remedies=remedies)


COULOMB = """pair_style hybrid/overlay zero 5.0 coul/long 4.0
pair_coeff * * zero
pair_coeff * * coul/long
set type 1 charge 0.1
kspace_style ewald 1e-3"""

# name: (commands before the box, types, elements, model, commands after the model)
REFUSALS: dict[str, tuple[str, int, tuple[str, ...], Any, str]] = {
    "units": ("units real", 1, ("Cu",), "morse", ""),
    "identifiers": ("atom_modify id no", 1, ("Cu",), "morse", ""),
    "dimension": ("dimension 2", 1, ("Cu",), "morse", ""),
    "types": ("", 2, ("Cu",), "morse", ""),
    "symbol": ("", 1, ("Qq",), "morse", ""),
    "element": ("", 1, ("Au",), "morse", ""),
    "pair style before": ("pair_style lj/cut 3.0", 1, ("Cu",), "morse", ""),
    "reach": ("", 1, ("Cu",), "far", ""),
    "neigh_modify": ("", 1, ("Cu",), "morse", "neigh_modify delay 5"),
    "pair style after": ("", 1, ("Cu",), "morse", "pair_style lj/cut 3.0\npair_coeff * * 0.1 2.0"),
    "respa": ("", 1, ("Cu",), "morse", "fix 1 all nve\nrun_style respa 2 2"),
    "kspace": ("atom_style charge", 1, ("Cu",), "morse", COULOMB),
    "bonds before": ("atom_style bond\nbond_style harmonic", 1, ("Cu",), "morse", ""),
    "bonds after": ("atom_style bond", 1, ("Cu",), "morse", "bond_style harmonic"),
    "gcmc": ("", 1, ("Cu",), "morse", "fix g all gcmc 1 5 5 1 29494 300 -3 0.1"),
    "widom": ("", 1, ("Cu",), "morse", 'if "1 == 1" then "fix w all widom 1 20 1 29494 300"'),
    "numdiff": ("atom_modify map yes", 1, ("Cu",), "morse", "variable s string numdiff\nfix n all ${s} 1 1e-4"),
    "born": ("", 1, ("Cu",), "morse", "compute b all born/matrix/kk &\n numdiff 1e-4 v"),
    "group/group": ("", 1, ("Cu",), "morse", "variable s string group/group\ncompute g all ${s} all"),
    "pair alone": ("", 1, ("Cu",), "morse", "compute p all pe/atom pair"),
    "unfix": ("", 1, ("Cu",), "morse", "unfix mlcalc"),
    "unfix by a variable": ("", 1, ("Cu",), "morse", "variable s string mlcalc\nunfix ${s}"),
    "replicate": ("", 1, ("Cu",), "morse", "replicate 2 1 1"),
    "remedies": ("", 1, ("Cu",), "picky", ""),
    "overlap": ("", 1, ("Cu",), "morse", "create_atoms 1 single 0.03 0.03 0.03"),
    "lost atoms": ("boundary p p f", 1, ("Cu",), "morse", "velocity all set 0 0 5000\nfix 2 all nve"),
}


def refusals() -> dict[str, str]:
    """The errors of REFUSALS, with those of a fix that is there already, and of no box."""
    told = {"no box": refused(None), "fix before": refused(("", 1, ("Cu",), "morse", ""), "fix 1 all nve")}
    return told | {name: refused(case) for name, case in REFUSALS.items()}


def refused(case: Any, between: str = "") -> str:
    lmp = load_lammps().lammps(cmdargs=["-log", "none", "-screen", "none"], comm=load_mpi().COMM_WORLD)
    before, types, elements, model, after = case or ("", 1, ("Cu",), "morse", "")
    potential = {"morse": LocalMorse(), "far": Morse(), "picky": Picky()}[model]
    try:
        flat = "-0.1 0.1" if "dimension" in before else "0 3"
        lattice = "lattice sq 3.6" if "dimension" in before else "lattice fcc 3.6"
        lmp.commands_string(f"units metal\n{before}\n{lattice}\nregion b block 0 3 0 3 {flat}")
        if case:
            lmp.commands_string(f"create_box {types} b\ncreate_atoms 1 box\nmass * 63.546\n{between}")
        attach(lmp, potential, elements=elements)
        for line in after.splitlines():
            lmp.command(line)
        lmp.command("run 1 post no")
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        lmp.close()
    return "nothing was raised"
