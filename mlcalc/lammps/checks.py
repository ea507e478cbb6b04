"""What is wrong with the settings of a LAMMPS instance, as far as a potential is concerned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase.data import atomic_masses, atomic_numbers
from numpy.typing import NDArray

from mlcalc.errors import UnknownElementError
from mlcalc.ground.warn import warn
from mlcalc.md_protocols.errors import ConfigError, EvaluationError, PhysicsWarning

__all__ = ["check_instance", "check_masses", "check_settings"]

_MASS_ERROR = 0.02  # relative; masses of isotopes differ by more, those of tables by less


def check_instance(lmp: Any, elements: Sequence[str], known: Sequence[str] | None) -> None:
    """Refuse what would give wrong numbers, or none."""
    if not lmp.extract_setting("box_exist"):
        raise ConfigError(
            "there is no simulation box yet", remedies=["write create_box, read_data or read_restart first"]
        )
    if (units := lmp.extract_global("units")) != "metal":
        raise ConfigError(
            f"the script has `units {units}`, but the model gives eV and eV/Å",
            setting="units",
            value=units,
            limit="metal",
            remedies=["use `units metal` (ps, bar)"],
        )
    if (dimension := lmp.extract_setting("dimension")) != 3:
        raise ConfigError(
            f"the script has `dimension {dimension}`",
            setting="dimension",
            value=dimension,
            limit=3,
            remedies=["use 3, with a wide box for a layer"],
        )
    _check_forces(lmp)
    _check_added(lmp)
    _check_elements(lmp, elements, known)


def _check_forces(lmp: Any) -> None:
    """Refuse forces that are there before those of the model."""
    if (style := lmp.extract_global("pair_style") or "none") not in ("none", "zero"):
        raise ConfigError(
            f"there is a `pair_style {style}` already, whose forces would be added to those of the model",
            setting="pair_style",
            value=style,
            remedies=[
                "remove it",
                "write what is to be added on purpose after the model, as `pair_style hybrid/overlay zero CUTOFF ...`",
            ],
        )
    if fixes := lmp.available_ids("fix"):
        raise ConfigError(
            f"fixes are defined already ({', '.join(fixes)}): they would act before the forces of the model are there, "
            "and fix setforce, say, would hold nothing",
            setting="fix",
            value=list(fixes),
            remedies=["define them after the model"],
        )


def _check_elements(lmp: Any, elements: Sequence[str], known: Sequence[str] | None) -> None:
    """Refuse elements that do not fit the atom types or the model."""
    types = lmp.extract_setting("ntypes")
    if len(elements) != types:
        raise ConfigError(
            f"the box has {types} atom types, but {len(elements)} elements are given ({' '.join(elements)})",
            setting="elements",
            value=list(elements),
            limit=types,
            remedies=["give one for each type, in order"],
        )
    for number, symbol in enumerate(elements, start=1):
        if symbol not in atomic_numbers or symbol == "X":
            raise ConfigError(
                f"elements: {symbol!r} (type {number}) is no chemical element",
                setting="elements",
                value=symbol,
                remedies=["give symbols such as 'Cu'"],
            )
        if known is not None and symbol not in known:
            raise UnknownElementError(
                f"the model does not know {symbol} (type {number}), it was trained on {', '.join(known)}",
                setting="elements",
                value=symbol,
                limit=list(known),
                remedies=["choose a model trained on these elements", "correct the order of the elements"],
            )


def check_settings(lmp: Any, atoms: int) -> None:
    """Refuse what later commands may have changed so that the numbers would be wrong."""
    if (expected := int(lmp.get_natoms())) != atoms:
        raise EvaluationError(
            f"atoms were lost, {atoms} of {expected} are left: they moved too fast or left through a boundary that is "
            "not periodic",
            value=atoms,
            limit=expected,
            remedies=["take a shorter time step", "a better starting structure", "boundaries `s` or `m`"],
        )
    _check_style_of_run(lmp)
    _check_added(lmp)
    style = lmp.extract_global("pair_style")
    if style not in ("zero", "hybrid/overlay"):
        raise ConfigError(
            f"a `pair_style {style}` came after the model, whose forces are added to those of the model",
            setting="pair_style",
            value=style,
            remedies=["remove it", "write `pair_style hybrid/overlay zero CUTOFF ...` if it is meant"],
        )
    found = [lmp.extract_setting(f"neigh_{name}") for name in ("every", "delay", "dist_check")]
    if found != [1, 0, 1]:
        raise ConfigError(
            f"the script has `neigh_modify every {found[0]} delay {found[1]} check {'yes' if found[2] else 'no'}`: "
            "atoms could come into reach before LAMMPS knows of them",
            setting="neigh_modify",
            value=found,
            limit=[1, 0, 1],
            remedies=["use `every 1 delay 0 check yes`, its default"],
        )


def _check_style_of_run(lmp: Any) -> None:
    if levels := lmp.extract_global("respa_levels"):
        raise ConfigError(
            f"the script has `run_style respa` ({levels} levels), which asks for the forces of the model once, at the "
            "start, and lets atoms fly freely then",
            setting="run_style",
            value="respa",
            remedies=["use `run_style verlet`"],
        )


def _check_added(lmp: Any) -> None:
    """Refuse styles beside pair styles whose energies would be added to that of the model."""
    for kind in ("bond", "angle", "dihedral", "improper", "kspace"):
        if (style := lmp.extract_global(f"{kind}_style") or "none") not in ("none", "zero"):
            raise ConfigError(
                f"there is a `{kind}_style {style}`, whose energy and forces would be added to those of the model",
                setting=f"{kind}_style",
                value=style,
                remedies=[
                    f"write `{kind}_style {'none' if kind == 'kspace' else 'zero'}`, topology without it is fine"
                ],
            )


def check_masses(lmp: Any, numbers: NDArray[np.int64]) -> None:
    """A PhysicsWarning for masses of types that are not those of their elements."""
    if lmp.extract_setting("rmass_flag"):
        return
    masses = lmp.numpy.extract_atom("mass", nelem=len(numbers))
    for number in range(1, len(numbers)):
        found, expected = float(np.ravel(masses)[number]), float(atomic_masses[numbers[number]])
        if abs(found - expected) > _MASS_ERROR * expected:
            warn(
                PhysicsWarning(
                    f"mass {number} is {found:g} g/mol, but the element of type {number} has {expected:g}: is the "
                    "order of the elements right? (Isotopes are fine.)",
                    setting="elements",
                    value=found,
                    limit=expected,
                )
            )
