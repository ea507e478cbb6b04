"""`mlcalc rdf`: distributions of distances from frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from ase import Atoms

from mlcalc.cli.commands import Verb
from mlcalc.cli.options import json_option, overwrite_option
from mlcalc.cli.outputs import PICTURES, check_output
from mlcalc.cli.structures import parse_index, read_trajectory, select_frames
from mlcalc.md_protocols import Trajectory, interatomic_distances, radial_distribution


@click.command("rdf", cls=Verb)
@click.argument("frames", type=click.Path(exists=True))
@click.option("--pair", nargs=2, metavar="X Y", help="Two elements, as in --pair O H.  [default: all atoms]")
@click.option(
    "--r-max", type=float, default=6.0, show_default=True, help="Largest distance, Å; may exceed half a cell."
)
@click.option("--bins", type=int, default=300, show_default=True, help="Number of equal bins from 0 to r-max.")
@click.option("--index", default=":", show_default=True, metavar="SLICE", help="Frames, as in 100: or ::10.")
@click.option(
    "--kind",
    type=click.Choice(["auto", "rdf", "distances"]),
    default="auto",
    show_default=True,
    help="rdf: g(r), needs a periodic cell; distances: h(r); auto: g(r) if the frames are periodic in 3 directions.",
)
@click.option("--output", type=click.Path(dir_okay=False), metavar="FILE", help=".png, .pdf, .svg; .csv; or .npz")
@overwrite_option
@json_option
def rdf_command(
    *,
    frames: str,
    pair: tuple[str, str] | None,
    r_max: float,
    bins: int,
    index: str,
    kind: str,
    output: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Radial distribution function g(r) of periodic frames, or distribution of distances h(r) of molecules.

    FRAMES is a trajectory file that ASE reads, or the output folder of `mlcalc md`.  Without --output the
    distribution is printed as two columns.

    \b
    Examples:
      mlcalc rdf run --output distances.png
      mlcalc rdf water.extxyz --pair O H --r-max 8 --bins 400 --output goh.csv
    """
    check_output(output, "--output", [*PICTURES, ".csv", ".npz"], [frames], overwrite=overwrite)
    images = _frames(frames, index)
    periodic = kind == "rdf" or (kind == "auto" and bool(images[0].pbc.all()))
    result = _distribution(images, periodic, r_max, bins, pair)
    if as_json:
        click.echo(json.dumps(result.to_json()))
    else:
        click.echo(str(result) if output else _columns(result, " "))
    if output is not None:
        _write(result, Path(output))
        click.echo(f"wrote {output}", err=as_json)


def _write(result: Any, path: Path) -> None:
    suffix = path.suffix.lower()
    if suffix == ".csv":
        path.write_text(_columns(result, ",") + "\n", encoding="utf-8")
    elif suffix == ".npz":
        result.save(path)
    else:
        result.plot().figure.savefig(path, dpi=150)


def _frames(path: str, index: str) -> list[Atoms]:
    if not Path(path).is_dir():
        return read_trajectory(path, index)
    selection = parse_index(index)
    return select_frames(Trajectory.load(path).frames, selection, path, index)


def _distribution(images: list[Atoms], periodic: bool, r_max: float, bins: int, pair: tuple[str, str] | None) -> Any:
    if periodic:
        return radial_distribution(images, r_max=r_max, bins=bins, pair=pair)
    if pair is not None:
        raise click.UsageError("--pair is for g(r) of periodic frames: h(r) counts all pairs of a molecule")
    return interatomic_distances(images, r_max=r_max, bins=bins)


def _columns(result: Any, separator: str) -> str:
    name = "g" if hasattr(result, "g") else "h"
    header = f"r_A{separator}{name}"
    rows = zip(result.r, getattr(result, name), strict=True)
    return "\n".join([header, *(f"{x:.6f}{separator}{y:.8g}" for x, y in rows)])
