"""Units of foreign models."""

from __future__ import annotations

from collections.abc import Mapping

from ase import units as ase_units

from mlcalc.errors import ConfigError

ENERGY: Mapping[str, float] = {  # eV
    "eV": 1.0,
    "meV": 1e-3,
    "kcal/mol": ase_units.kcal / ase_units.mol,
    "kJ/mol": ase_units.kJ / ase_units.mol,
    "Hartree": ase_units.Hartree,
}
DIPOLE: Mapping[str, float] = {"e*Å": 1.0, "Debye": ase_units.Debye}  # e Å
AREA: Mapping[str, float] = {"Å^2": 1.0, "bohr^2": ase_units.Bohr**2}  # Å^2

_TABLES = {"energy": ENERGY, "dipole": DIPOLE, "electronic_spatial_extent": AREA}
# What the data sets of the original training scripts hold.
_DATA = {
    ("MD17", "energy"): "kcal/mol",
    ("rMD17", "energy"): "kcal/mol",
    ("MD22", "energy"): "kcal/mol",
    ("QM9", "dipole"): "Debye",
    ("QM9", "electronic_spatial_extent"): "bohr^2",
}


def unit_factor(units: str | None, quantity: str) -> float:
    """What numbers of the quantity are multiplied with, to be in eV, e Å or Å^2; None and "eV" change nothing."""
    if units is None or units == "eV":
        return 1.0
    table = _TABLES.get(quantity)
    if table is None:
        raise ConfigError(
            f"units is {units!r}, but this model predicts {quantity!r}, which stays in the unit it was trained in: "
            "leave units out"
        )
    for name, factor in table.items():
        if _plain(name) == _plain(units):
            return factor
    raise ConfigError(f"units is {units!r}: for {quantity} choose one of {', '.join(table)}")


def _plain(unit: str) -> str:
    """The unit without case and in ASCII, so that e A, e*Å and E*Å are one."""
    return unit.casefold().replace("å", "a").replace("²", "^2").replace(" ", "*")


def data_unit(dataset: object, quantity: str) -> str | None:
    """The unit of the quantity in a data set of the original training scripts, where it is none of eV, e Å, Å^2."""
    return _DATA.get((dataset, quantity)) if isinstance(dataset, str) else None
