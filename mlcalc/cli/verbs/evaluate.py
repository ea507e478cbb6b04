"""`mlcalc eval`: errors of a model on labeled frames."""

from __future__ import annotations

import json
import math
import sys
from typing import TYPE_CHECKING, Any

import click
from ase.units import GPa

import mlcalc
from mlcalc.cli.commands import Verb
from mlcalc.cli.options import (
    device_option,
    dtype_option,
    existing_file,
    json_option,
    kernels_option,
    overwrite_option,
)
from mlcalc.cli.outputs import PICTURES, check_output
from mlcalc.cli.tables import table
from mlcalc.scope import Scope

if TYPE_CHECKING:
    from mlcalc.assessment import Assessment, ErrorStatistics


@click.command("eval", cls=Verb)
@click.argument("model", metavar="NAME_OR_FILE")
@click.argument("frames", type=existing_file)
@json_option
@click.option("--group-by", default="group", show_default=True, metavar="KEY", help="Header entry that names groups.")
@click.option("--plot", type=click.Path(dir_okay=False), metavar="FILE.png", help="Draw a parity plot.")
@click.option("--save", type=click.Path(dir_okay=False), metavar="FILE.npz", help="Save labels and predictions.")
@overwrite_option
@click.option("--energy-key", default="energy", show_default=True, help="Name of the energy (eV).")
@click.option("--forces-key", default="forces", show_default=True, help="Name of the forces (eV/Å).")
@click.option("--stress-key", metavar="KEY", help="Header entry with six stress numbers, where not ASE's `stress`.")
@click.option("--stress-unit", type=click.Choice(["eV/Å^3", "GPa", "kbar"]), default="eV/Å^3", show_default=True)
@click.option("--stress-order", default="xx,yy,zz,yz,xz,xy", show_default=True, help="Order of the six numbers.")
@click.option("--stress-offset", type=float, default=0.0, help="Subtracted from the diagonal, as Pulay stress is.")
@click.option("--compression-positive", is_flag=True, help="Signs are VASP's, opposite to ASE's.")
@dtype_option("float64")
@device_option
@kernels_option
def eval_command(
    *,
    model: str,
    frames: str,
    as_json: bool,
    group_by: str,
    plot: str | None,
    save: str | None,
    overwrite: bool,
    energy_key: str,
    forces_key: str,
    dtype: str,
    device: str,
    kernels: str,
    **stress: Any,
) -> None:
    """MAE and RMSE of energy per atom (meV), force components (meV/Å) and stress (GPa), overall and by group.

    FRAMES is an extxyz file (or another that ASE reads) with energies and forces, or an rMD17-style .npz with
    numbers, positions, energy and forces, in eV and eV/Å.  Frames of equal size also get the error of the total
    energy.

    \b
    Examples:
      mlcalc eval cu-hvnet Cu_test.xyz --plot parity.png
      mlcalc eval ethanol-visnet ethanol_test.npz --json
      mlcalc eval cu-hvnet Cu_test.xyz --stress-key virial_kbar_raw --stress-unit kbar \\
          --stress-order xx,yy,zz,xy,xz,yz --stress-offset 26 --compression-positive
    """
    check_output(plot, "--plot", PICTURES, [model, frames], overwrite=overwrite)
    check_output(save, "--save", [".npz"], [model, frames], overwrite=overwrite)
    from mlcalc.training import StressSource, read_frames  # with torch

    network = mlcalc.load_model(model)
    Scope.of(network).require_potential("mlcalc eval")
    source = None if stress["stress_key"] is None else StressSource(**_stress_source(**stress))
    labeled = read_frames(frames, energy_key=energy_key, forces_key=forces_key, stress=source, group_key=group_by)
    progress = not as_json and sys.stderr.isatty()
    assessment = mlcalc.assess(network, labeled, dtype=dtype, device=device, kernels=kernels, progress=progress)
    # The numbers first: a plot that fails must not lose them.
    if as_json:
        about = {"model": model, "data": frames, "dtype": dtype}
        click.echo(json.dumps(about | assessment.to_json(), indent=2, ensure_ascii=False))
    else:
        overall = assessment.overall
        click.echo(f"{model} on {frames}: {overall.frames} frames, {overall.atoms} atoms, {dtype}\n")
        click.echo(_report(assessment))
    if save is not None:
        assessment.save(save)
    if plot is not None:
        assessment.plot().savefig(plot, dpi=150)
    for written in filter(None, (plot, save)):
        click.echo(f"wrote {written}", err=as_json)


def _stress_source(
    stress_key: str, stress_unit: str, stress_order: str, stress_offset: float, compression_positive: bool
) -> dict[str, Any]:
    return {
        "key": stress_key,
        "unit": stress_unit,
        "compression_positive": compression_positive,
        "order": tuple(word.strip() for word in stress_order.split(",")),
        "offset": stress_offset,
    }


def _report(assessment: Assessment) -> str:
    quantities = [("energy", "E/N", 1e3), ("forces", "F", 1e3), ("stress", "stress", 1 / GPa)]
    legend = ["E/N: energy per atom, meV", "F: force components, meV/Å", "stress: components, GPa"]
    if assessment.one_composition:
        quantities.insert(1, ("total_energy", "E", 1e3))
        legend.insert(1, "E: energy, meV")
    if math.isnan(assessment.overall.stress_mae):
        del quantities[-1], legend[-1]
    columns = [(f"{quantity}_{kind}", scale) for quantity, _, scale in quantities for kind in ("mae", "rmse")]

    def row(name: str, statistics: ErrorStatistics) -> list[str]:
        values = [scale * getattr(statistics, column) for column, scale in columns]
        return [name, str(statistics.frames), *("-" if math.isnan(value) else f"{value:.4g}" for value in values)]

    header = ["group", "frames", *(f"{title} {kind}" for _, title, _ in quantities for kind in ("MAE", "RMSE"))]
    rows = [row(name, statistics) for name, statistics in assessment.by_group.items()]
    return table(header, [*rows, row("all", assessment.overall)]) + "\n\n" + "; ".join(legend)
