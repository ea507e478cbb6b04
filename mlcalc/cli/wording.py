"""Remedies that the library words for Python, as they are called on the command line."""

from __future__ import annotations

_OPTIONS = {
    "pass allow_large_timestep=True": "give --allow-large-timestep",
    "pass allow_float32=True": "give --allow-float32",
    "pass allow_imaginary=True": "give --allow-imaginary",
    "start=..., such as": "--start FILE, such as",
    "limit error_THz=": "limit ",
    "about structures=": "about --structures ",
    "or pass symprec=": "or give --symprec ",
    "mlcalc.md_protocols.relax(atoms, cell=True)": "give --relax",
    "call elastic_constants(..., slab=True)": "give --slab",
    "pass chemical_potential with": "give --mu X=EV with",
    "choose one with site=": "choose one with --site",
    "choose with hop=": "choose with --hop",
}


def as_options(text: str) -> str:
    """The text on one line, its keywords replaced by options."""
    text = " ".join(text.split())
    for keyword, option in _OPTIONS.items():
        text = text.replace(keyword, option)
    return text
