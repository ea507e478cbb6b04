"""`mlcalc doctor`: what this machine and installation have, and how a model runs on them."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

import mlcalc
from mlcalc.cli.commands import Verb
from mlcalc.cli.options import device_option, existing_file, json_option, kernels_option
from mlcalc.cli.structures import read_structure

if TYPE_CHECKING:
    from mlcalc.doctor import Backend, Examination, Machine


@click.command("doctor", cls=Verb)
@click.argument("model", metavar="[NAME_OR_FILE]", required=False)
@click.option("--structure", type=existing_file, metavar="FILE", help="Measure with this structure, not samples.")
@click.option(
    "--dtype", type=click.Choice(["float32", "float64"]), multiple=True, help="Only this one.  [default: both]"
)
@device_option
@kernels_option
@json_option
def doctor_command(
    *, model: str | None, structure: str | None, dtype: tuple[str, ...], device: str, kernels: str, as_json: bool
) -> int:
    """Machine, packages, and for a MODEL the path that computes it, its speed, its errors and its largest system.

    Exits with 1 if a required package is missing, or if forces differ from those of autograd in float64 by more than
    1e-4 eV/Å (float32) or 1e-8 eV/Å (float64); by more in proportion where forces exceed 10 eV/Å.

    \b
    Examples:
      mlcalc doctor
      mlcalc doctor cu-hvnet
      mlcalc doctor my_model.safetensors --structure water.xyz --dtype float32 --json
    """
    from mlcalc.doctor import backends, machine, sample_structures  # with torch

    if model is None and structure is not None:
        raise click.UsageError("--structure needs a model: mlcalc doctor NAME_OR_FILE --structure FILE")
    here, packages = machine(), backends()
    examined: list[Examination] = []
    if model is not None:
        network = mlcalc.load_model(model)
        structures = sample_structures(network, None if structure is None else read_structure(structure))
        examined = [
            mlcalc.examine(network, structures, device=device, dtype=each, kernels=kernels)
            for each in dtype or ("float32", "float64")
        ]
    if as_json:
        click.echo(json.dumps(_as_json(here, packages, model, examined), indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join(_machine_lines(here, packages)))
        for examination in examined:
            click.echo(f"\n{model}, {examination}")
    sound = all(package.version or "required" not in package.brings for package in packages)
    return 0 if sound and all(examination.agrees for examination in examined) else 1


def _as_json(
    here: Machine, packages: tuple[Backend, ...], model: str | None, examined: list[Examination]
) -> dict[str, Any]:
    return {
        "machine": asdict(here),
        "packages": [asdict(package) for package in packages],
        "model": model,
        "examinations": [examination.to_json() for examination in examined],
    }


def _machine_lines(here: Machine, packages: tuple[Backend, ...]) -> list[str]:
    limit = "" if here.limit_GiB is None else f", limited to {here.limit_GiB:.1f} GiB by the control group"
    lines = [
        f"processor       {here.processor}",
        f"cores           {here.cores}, {here.threads} threads (OMP_NUM_THREADS or torch.set_num_threads)",
        f"memory          {here.memory_GiB:.1f} GiB, {here.available_GiB:.1f} GiB available{limit}",
        f"GPUs            {'; '.join(here.gpus) or 'none'}" + ("" if here.cuda else " (torch was built without CUDA)"),
        f"python          {here.python}",
    ]
    for package in packages:
        state = package.version or f"{package.problem} (it brings: {package.brings})"
        lines.append(f"{package.name:<15} {state}")
    return lines
