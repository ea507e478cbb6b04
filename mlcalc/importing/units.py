"""Units of foreign models."""

from __future__ import annotations

from collections.abc import Mapping

from ase import units as ase_units

from mlcalc.md_protocols.errors import ConfigError

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
# Targets of QM9 as PyTorch Geometric gives them to the original training scripts, energies in eV left out.
QM9_SCALARS: Mapping[str, str] = {
    "dipole_moment": "Debye",
    "dipole": "Debye",
    "isotropic_polarizability": "bohr^3",
    "homo": "eV",
    "lumo": "eV",
    "gap": "eV",
    "electronic_spatial_extent": "bohr^2",
    "zpve": "eV",
    "enthalpy_H": "eV",
    "free_energy": "eV",
    "heat_capacity": "cal/(mol K)",
}


def unit_factor(units: str | None, quantity: str) -> float:
    """What numbers of the quantity are multiplied with, to be in eV, e Å or Å^2; None and "eV" change nothing.

    Other quantities stay in the unit they were trained in, whatever it is called.
    """
    table = _TABLES.get(quantity)
    if units is None or units == "eV" or table is None:
        return 1.0
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
