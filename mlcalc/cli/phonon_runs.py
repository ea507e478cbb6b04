"""What verbs that compute phonons share: supercells, temperatures, their files, crystals as the models see them."""

from __future__ import annotations

import math
from typing import Any

import click
import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlcalc.cli.options import Decorator
from mlcalc.cli.potential import with_calculator
from mlcalc.ground.warn import warn
from mlcalc.md_protocols.errors import PhysicsWarning

_MOST = 10_000  # temperatures
_RESULTS = (
    *("phonons", "dos", "thermal", "displacements", "supercells", "hessian"),
    *("qha", "grueneisen", "effective_phonons", "conductivity"),
)
PHONON_FILES = (
    *(f"{name}.{kind}" for name in _RESULTS for kind in ("npz", "json", "png")),
    *("crystal.extxyz", "mode.extxyz", "FORCE_SETS", "FORCE_CONSTANTS", "phonopy_params.yaml", "BORN"),
)


def supercell_option(**details: Any) -> Decorator:
    """--supercell A B C, repetitions of the cell."""
    shown = {"help": "Repetitions of the cell along its vectors."} | details
    return click.option("--supercell", type=int, nargs=3, metavar="A B C", **shown)


def temperatures_option(first: float, last: float, step: float) -> Decorator:
    """--temperatures T0 T1 DT with these defaults, K; `temperatures` makes the list."""
    return click.option(
        "--temperatures",
        type=float,
        nargs=3,
        default=(first, last, step),
        show_default=True,
        metavar="T0 T1 DT",
        help="From T0 to T1 by DT, K.",
    )


def temperatures(given: tuple[float, float, float], option: str, *, above: bool = False) -> NDArray[np.float64]:
    """T0, T0 + DT, ... up to T1 and never beyond, K; BadParameter for what is no range.

    above: T0 must be greater than 0 too.
    """
    first, last, step = given
    if not (all(map(math.isfinite, given)) and 0 <= first <= last and step > 0) or (above and first == 0):
        raise click.BadParameter(f"give {'0 < ' * above}T0 <= T1 and DT > 0, in K", param_hint=option)
    count = math.floor((last - first) / step + 1e-9) + 1 if (last - first) / step < _MOST else _MOST + 1
    if count > _MOST:
        raise click.BadParameter(
            f"{first:g} to {last:g} K by {step:g} K are more than {_MOST} temperatures: give a larger DT",
            param_hint=option,
        )
    return np.array([first + step * k for k in range(count)])


def crystal_with_calculator(structure: str, settings: dict[str, Any]) -> Atoms:
    """`with_calculator`, without the magnetic moments and charges of the file, which models do not know; it is told."""
    atoms = with_calculator(structure, settings, "phonons")
    for name, values in (
        ("magnetic moments", atoms.get_initial_magnetic_moments()),
        ("charges", atoms.get_initial_charges()),
    ):
        if values.any():
            warn(PhysicsWarning(f"{structure}: its initial {name} are left out, for the model does not know them"))
    atoms.set_initial_magnetic_moments(None)
    atoms.set_initial_charges(None)
    return atoms
