"""`mlcalc phonons`: dispersion, density of states and thermodynamics from a model's forces."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click
import numpy as np
from ase import Atoms

from mlcalc.cli.commands import Verb
from mlcalc.cli.options import existing_file, folder_options, json_option, setting
from mlcalc.cli.outputs import ResultFolder, result_folder
from mlcalc.cli.phonon_runs import PHONON_FILES, crystal_with_calculator, supercell_option, temperatures
from mlcalc.cli.potential import calculator, potential_options
from mlcalc.cli.relaxing import relax_option, relaxed_first
from mlcalc.cli.tables import table
from mlcalc.errors import DataError
from mlcalc.md_protocols import hessian_check, phonon_dispersion
from mlcalc.md_protocols.phonons import (
    displacement_convergence,
    phonons_of_displacements,
    read_born,
    supercell_convergence,
)
from mlcalc.md_protocols.phonons.crystal import phonopy_crystal
from mlcalc.md_protocols.phonons.phonopy_yaml import read_phonopy


@click.command("phonons", cls=Verb)
@click.argument("structure", type=existing_file, required=False)
@potential_options
@supercell_option()
@setting(phonon_dispersion, "--displacement", help="Of one atom at a time, Å.")
@relax_option
@setting(
    phonon_dispersion, "--path", metavar="POINTS", help='As in "G X K | G L 0.5,0.25,0.75".  [default: recommended]'
)
@click.option("--npoints", type=int, default=101, show_default=True, help="q-points on each segment of the path.")
@setting(
    phonon_dispersion,
    "--mesh",
    type=int,
    nargs=3,
    metavar="A B C",
    help="q-points for the density of states and --thermal.",
)
@setting(phonon_dispersion, "--born", type=existing_file, metavar="FILE", help="Born charges in phonopy's BORN format.")
@setting(
    phonon_dispersion, "--allow-float32", is_flag=True, help="Let --dtype float32 pass; take a larger --displacement."
)
@click.option("--allow-imaginary", is_flag=True, help="Let --thermal leave imaginary modes out.")
@setting(phonon_dispersion, "--symprec", help="Tolerance of the symmetry search, Å.")
@setting(phonon_dispersion, "--rotational", is_flag=True, help="Enforce the rotational sum rules; for sheets.")
@setting(
    phonon_dispersion,
    "--dimensions",
    type=click.Choice(["2", "3"]),
    help="2 for slabs.  [default: found from the vacuum]",
)
@click.option(
    "--overlay", type=existing_file, metavar="FILE", help="Points to draw: columns distance THz, or q1 q2 q3 THz."
)
@click.option(
    "--unit", type=click.Choice(["THz", "meV", "1/cm"]), default="THz", show_default=True, help="Of the picture."
)
@click.option(
    "--convergence",
    is_flag=True,
    help="Also compare displacements, and a supercell one step smaller (of one atom: larger).",
)
@click.option("--hessian", is_flag=True, help="Also compare the force constants with the model's second derivatives.")
@click.option("--thermal", type=float, nargs=3, metavar="T0 T1 DT", help="Thermodynamics from T0 to T1 by DT, K.")
@click.option("--animate", "mode", metavar="Q1,Q2,Q3,BAND", help="Write a mode as extxyz, as in 0.5,0,0.5,2.")
@click.option(
    "--phonopy", type=existing_file, metavar="FILE", help="A phonopy_disp.yaml, in place of STRUCTURE and --supercell."
)
@folder_options("phonons.npz, .json, .png and phonopy's files")
@json_option
def phonons_command(
    *, structure: str | None, output: str | None, overwrite: bool, as_json: bool, **settings: Any
) -> None:
    """Phonons of STRUCTURE by finite displacements: bands, stability, density of states, thermodynamics.

    All displaced supercells are evaluated in batches.  Residual forces and stress, symmetry lost to noise, imaginary
    modes and violated sum rules are told.  With --output the folder also gets phonopy's FORCE_SETS, FORCE_CONSTANTS
    and phonopy_params.yaml.  With --phonopy the displacements are those of a file made by `phonopy-init -d`.

    \b
    Examples:
      mlcalc phonons Cu.cif --model cu-hvnet --supercell 3 3 3 --output phonons
      mlcalc phonons Cu.cif --model cu-hvnet --supercell 3 3 3 --thermal 0 800 10 --json
      mlcalc phonons MoSe2.xyz --model mose2.safetensors --supercell 5 5 1 --rotational --output phonons
      mlcalc phonons --phonopy phonopy_disp.yaml --model cu-hvnet --output forces
    """
    _check(structure, settings, output)
    settings["dimensions"] = int(settings["dimensions"]) if settings["dimensions"] else None
    settings["overlay"] = _points(settings["overlay"])
    inputs = [name for name in (structure, settings["phonopy"], settings["born"]) if name]
    results = result_folder(output, PHONON_FILES, inputs, overwrite=overwrite)
    more = {name: settings.pop(name) for name in ("convergence", "hessian", "thermal", "mode", "overlay", "unit")}
    settings["animated"] = more["mode"]
    more |= {name: settings[name] for name in ("allow_float32", "allow_imaginary", "symprec", "supercell")}
    if settings["phonopy"]:
        atoms, result = _of_phonopy(settings)
    else:
        atoms, result = _of_structure(str(structure), settings, results, as_json)
    _write(result, results, more, settings["mesh"])
    if not as_json:
        click.echo(str(result))
    found: dict[str, Any] = {}
    try:
        for name, value in _more(atoms, result, more, settings["mesh"]):
            found[name] = value
            if not as_json:
                click.echo(_thermal_table(value) if name == "thermal" else str(value))
            results.result(value, name)
    finally:  # what is there when a later one fails
        if as_json:
            click.echo(json.dumps(result.to_json() | {name: value.to_json() for name, value in found.items()}))
        results.tell(as_json)


def _check(structure: str | None, settings: dict[str, Any], output: str | None) -> None:
    if settings["phonopy"] and (structure or settings["supercell"]):
        raise click.UsageError("--phonopy names the crystal and its supercell: leave STRUCTURE and --supercell out")
    if not settings["phonopy"] and not structure:
        raise click.UsageError("Missing argument 'STRUCTURE' (or --phonopy).")
    if not settings["phonopy"] and not settings["supercell"]:
        raise click.UsageError("Missing option '--supercell', as in --supercell 3 3 3")
    if settings["phonopy"] and settings["convergence"]:
        raise click.UsageError("--convergence makes its own displacements: give STRUCTURE and --supercell")
    if settings["phonopy"] and settings["hessian"]:
        raise click.UsageError("--hessian compares phonons of STRUCTURE: give it and --supercell")
    if settings["mode"] and output is None:
        raise click.UsageError("--animate writes a file: give --output too")
    settings["thermal"] = temperatures(settings["thermal"], "--thermal") if settings["thermal"] else None
    _mode(settings["mode"])


def _mode(word: str | None) -> tuple[list[float], int] | None:
    if word is None:
        return None
    try:
        *q, band = word.split(",")
        if len(q) != 3:
            raise ValueError(word)
        return [float(x) for x in q], int(band)
    except ValueError:
        raise click.BadParameter(f"{word!r}: use q1,q2,q3,band, as in 0.5,0,0.5,2", param_hint="--animate") from None


def _check_band(word: str | None, phonon: Any) -> None:
    """BadParameter for a band that the crystal does not have, before any forces."""
    mode, bands = _mode(word), 3 * len(phonon.primitive)
    if mode is not None and not 0 <= mode[1] < bands:
        raise click.BadParameter(
            f"{word!r}: there are {bands} bands, counted from 0, so BAND is at most {bands - 1}", param_hint="--animate"
        )


def _of_structure(structure: str, settings: dict[str, Any], results: ResultFolder, as_json: bool) -> tuple[Atoms, Any]:
    atoms = crystal_with_calculator(structure, settings)
    dimensions = settings["dimensions"]
    flat = None if dimensions is None else dimensions == 2
    atoms = relaxed_first(atoms, "phonons", results, wanted=settings["relax"], as_json=as_json, flat=flat)
    shared: dict[str, Any] = {
        "supercell": list(settings["supercell"]),
        "dimensions": dimensions,
        "symprec": settings["symprec"],
    }
    _check_band(settings["animated"], phonopy_crystal(atoms, **shared))
    born = read_born(settings["born"], atoms, **shared) if settings["born"] else None
    names = ("displacement", "path", "npoints", "rotational", "allow_float32")
    return atoms, phonon_dispersion(atoms, born=born, **shared, **{name: settings[name] for name in names})


def _of_phonopy(settings: dict[str, Any]) -> tuple[Atoms, Any]:
    found = read_phonopy(settings["phonopy"])
    symprec, chosen = settings["symprec"], "auto" if found.primitive_matrix is None else found.primitive_matrix
    _check_band(settings["animated"], found.phonopy(symprec=symprec))
    born = (
        read_born(settings["born"], found.unitcell, supercell=found.supercell, symprec=symprec, primitive_matrix=chosen)
        if settings["born"]
        else None
    )
    names = ("dimensions", "path", "npoints", "rotational", "allow_float32", "symprec")
    result = phonons_of_displacements(
        settings["phonopy"],
        calculator(settings, "phonons"),
        born=born,
        **{name: settings[name] for name in names},
    )
    return found.unitcell, result


def _more(atoms: Atoms, result: Any, more: dict[str, Any], mesh: Any) -> Iterator[tuple[str, Any]]:
    """Further results that were asked for, with the names of their files, one after the other."""
    if more["thermal"] is not None:
        allow = more["allow_imaginary"]
        yield "thermal", result.thermal_properties(more["thermal"], mesh=mesh or None, allow_imaginary=allow)
    if more["convergence"]:
        sizes = np.array(more["supercell"])
        same = {name: more[name] for name in ("allow_float32", "symprec")}
        same |= {"dimensions": result.dimensions, "born": result.born, "rotational": result.rotational}
        same |= {"npoints": 2}
        yield "displacements", displacement_convergence(atoms, supercell=sizes, **same)
        other = np.where(sizes > 1, sizes - 1, 1)
        if len(atoms) * other.prod() == 1:  # whose force constants vanish
            other = np.where(sizes > 1, sizes + 1, 1)
        if not np.array_equal(other, sizes):
            yield "supercells", supercell_convergence(atoms, supercells=[other, sizes], **same)
    if more["hessian"]:
        yield "hessian", hessian_check(result, calc=atoms.calc)


def _write(result: Any, results: ResultFolder, more: dict[str, Any], mesh: Any) -> None:
    if results.path is None:
        return
    results.result(result, "phonons", overlay=more["overlay"], unit=more["unit"])
    results.result(result.dos(mesh=mesh or None), "dos")
    before = set(results.path.iterdir())
    result.write_phonopy(results.path)
    results.written += sorted(path.name for path in set(results.path.iterdir()) - before)
    mode = _mode(more["mode"])
    if mode is not None:
        result.animate(*mode, results.file("mode.extxyz"))


def _points(path: str | None) -> Any:
    if path is None:
        return None
    try:
        points = np.loadtxt(path, ndmin=2)
    except ValueError as error:
        raise DataError(
            f"{path}: {error}; expected columns of numbers, distance and THz or q1 q2 q3 and THz"
        ) from error
    if points.shape[1] not in (2, 4):
        raise DataError(f"{path} has {points.shape[1]} columns: expected 2 (distance, THz) or 4 (q1, q2, q3, THz)")
    return points


def _thermal_table(found: Any) -> str:
    rows = [
        (f"{t:g}", f"{free:.6f}", f"{1e3 * entropy:.6f}", f"{1e3 * heat:.6f}")
        for t, free, entropy, heat in zip(
            found.temperatures, found.free_energy, found.entropy, found.heat_capacity, strict=True
        )
    ]
    return table(("T (K)", "F (eV)", "S (meV/K)", "C_V (meV/K)"), rows) + "\nper primitive cell"
