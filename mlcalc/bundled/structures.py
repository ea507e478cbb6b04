"""Structures that come with the package, to try things with."""

from __future__ import annotations

from typing import cast

from ase import Atoms
from ase.io import read

from mlcalc.bundled import FOLDER
from mlcalc.errors import ConfigError

SAMPLES = {
    "aspirin": "one molecule, relaxed with aspirin-visnet",
    "copper": "the cubic cell at PBE's lattice constant, 3.635 Å",
    "ethanol": "one molecule, relaxed with ethanol-visnet",
}


def sample(name: str) -> Atoms:
    """A structure by its name: "aspirin", "copper" or "ethanol"; ConfigError for any other."""
    if name not in SAMPLES:
        raise ConfigError(
            f"there is no sample {name!r}: choose one of {', '.join(SAMPLES)}",
            setting="name",
            value=name,
            limit=tuple(SAMPLES),
        )
    return cast("Atoms", read(FOLDER / f"{name}.xyz", format="extxyz"))
