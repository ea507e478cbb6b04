"""Remedies of errors where LAMMPS runs: those that its users have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mlcalc.ground.errors import Told, Use

__all__ = ["SETTINGS", "keep_remedies", "lammps_remedies"]

# Keywords of `attach` and `run_script`; ranks are started by mpiexec or by the command line.
SETTINGS = ("model", "elements", "device", "dtype", "kernels", "skin", "min_distance", "ranks")


def keep_remedies(error: BaseException) -> None:
    """Drop remedies that are settings of something else, such as of the calculator of ASE."""
    if isinstance(error, Told):
        error.remedies = tuple(
            remedy for remedy in error.remedies if not isinstance(remedy, Use) or remedy.setting in SETTINGS
        )


@contextmanager
def lammps_remedies() -> Iterator[None]:
    """Within it errors of ours name such remedies only."""
    try:
        yield
    except Told as error:
        keep_remedies(error)
        raise
