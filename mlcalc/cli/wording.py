"""Remedies that the library words for Python, as they are called on the command line."""

from __future__ import annotations

_OPTIONS = {
    "pass allow_large_timestep=True": "give --allow-large-timestep",
    "pass allow_float32=True": "give --allow-float32",
    "pass allow_imaginary=True": "give --allow-imaginary",
    "start=..., such as": "--start FILE, such as",
    "call elastic_constants(..., slab=True)": "give --slab",
    "elastic_constants(..., slab=True)": "mlcalc elastic --slab",
    "or pass relax_ions=False": "or give --clamped",
    "relax_shape=True with relax_ions=False": "--relax-shape with --clamped",
    "slab=True": "--slab",
    "leave slab out": "leave --slab out",
    "limit error_THz=": "limit ",
    "or pass symprec=": "or give --symprec ",
    "mlcalc.md_protocols.relax(atoms, cell=True)": "give --relax",
    "pass chemical_potential with": "give --mu X=EV with",
    "or pass allow_remote=True": "or give --allow-remote",
    "pressure_GPa is for ensemble": "--pressure-GPa is for ensemble",
    "or pass virial='none'": "or give --virial none",
    "isolated=False computes": "--no-isolation computes",
    "choose one with site=": "choose one with --site",
    "choose with hop=": "choose with --hop",
    "give all sites with sites=": "give all of them with --sites",
    "set atoms.pbc = True, for": 'make the file say so (extended XYZ: pbc="T T T"), for',
    "set atoms.pbc along": 'make the file say so (extended XYZ: pbc="T T F"), along',
    "remove it with atoms.set_constraint()": "remove it from the file",
    "remove them with atoms.set_constraint()": "remove them from the file",
    "remove them with atoms.set_initial_charges()": "remove them from the file",
    "relax(atoms, cell='in-plane') with pbc=True and vacuum in the cell": "give --relax",
    "first, relax(atoms, cell=True)": "first, give --relax",
    "choose one with termination=": "choose one with --termination",
}


def as_options(text: str) -> str:
    """The text on one line, its keywords replaced by options."""
    text = " ".join(text.split())
    for keyword, option in _OPTIONS.items():
        text = text.replace(keyword, option)
    return text
