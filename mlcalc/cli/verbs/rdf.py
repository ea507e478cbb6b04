"""`mlcalc rdf`: distributions of distances from frames."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlcalc.cli.options import DebugCommand
from mlcalc.cli.outputs import PICTURES, check_output

if TYPE_CHECKING:
    from ase import Atoms


@click.command("rdf", cls=DebugCommand, short_help="Distribution of distances: g(r), or h(r) of molecules.")
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
def rdf_command(
    *, frames: str, pair: tuple[str, str] | None, r_max: float, bins: int, index: str, kind: str, output: str | None
) -> None:
    """Radial distribution function g(r) of periodic frames, or distribution of distances h(r) of molecules.

    FRAMES is a trajectory file that ASE reads, or the output folder of `mlcalc md`.  Without --output the
    distribution is printed as two columns.

    \b
    Examples:
      mlcalc rdf run --output distances.png
      mlcalc rdf water.extxyz --pair O H --r-max 8 --bins 400 --output goh.csv
    """
    check_output(output, "--output", [*PICTURES, ".csv", ".npz"], [frames])
    images = _frames(frames, index)
    periodic = kind == "rdf" or (kind == "auto" and bool(images[0].pbc.all()))
    result = _distribution(images, periodic, r_max, bins, pair)
    name, values = ("g", result.g) if periodic else ("h", result.h)
    if output is None:
        click.echo(_columns(name, result.r, values, " "))
        return
    suffix = Path(output).suffix.lower()
    if suffix == ".csv":
        Path(output).write_text(_columns(name, result.r, values, ",") + "\n", encoding="utf-8")
    elif suffix == ".npz":
        result.save(output)
    else:
        result.plot().figure.savefig(output, dpi=150)
    click.echo(f"{'g(r)' if periodic else 'h(r)'} of {len(images)} frames; wrote {output}")


def _frames(path: str, index: str) -> list[Atoms]:
    from mlcalc.cli.structures import parse_index, read_trajectory, select_frames

    if not Path(path).is_dir():
        return read_trajectory(path, index)
    from mlcalc.md_protocols import Trajectory

    selection = parse_index(index)
    return select_frames(Trajectory.load(path).frames, selection, path, index)


def _distribution(images: list[Atoms], periodic: bool, r_max: float, bins: int, pair: tuple[str, str] | None) -> Any:
    from mlcalc.md_protocols import interatomic_distances, radial_distribution

    if periodic:
        return radial_distribution(images, r_max=r_max, bins=bins, pair=pair)
    if pair is not None:
        raise click.UsageError("--pair is for g(r) of periodic frames: h(r) counts all pairs of a molecule")
    return interatomic_distances(images, r_max=r_max, bins=bins)


def _columns(name: str, r: Any, values: Any, separator: str) -> str:
    header = f"r_A{separator}{name}"
    return "\n".join([header, *(f"{x:.6f}{separator}{y:.8g}" for x, y in zip(r, values, strict=True))])
