"""LAMMPS with our potentials on one or several MPI ranks, by its `fix external`: nothing is compiled."""

from mlcalc.lammps.coupling import Coupling, attach
from mlcalc.lammps.script import run_script

__all__ = ["Coupling", "attach", "run_script"]
