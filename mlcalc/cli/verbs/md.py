"""`mlcalc md`: a molecular-dynamics run in a folder."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
from ase import Atoms

from mlcalc.cli.commands import Verb
from mlcalc.cli.figures import md_figure
from mlcalc.cli.options import device_option, dtype_option, existing_file, kernels_option, setting
from mlcalc.cli.phonon_runs import supercell_option
from mlcalc.cli.potential import calculator, model_option
from mlcalc.cli.structures import read_structure, repeated
from mlcalc.md_protocols import ResultFileError, Trajectory, run_nve, run_nvt
from mlcalc.md_protocols.errors import ConfigError
from mlcalc.md_protocols.folders.storage import load_arrays

ENSEMBLES = ("nve", "berendsen", "bussi")


@click.command("md", cls=Verb)
@click.argument("structure", type=existing_file)
@model_option
@click.option(
    "--ensemble",
    type=click.Choice(ENSEMBLES),
    default="berendsen",
    show_default=True,
    help="nve: constant energy; berendsen: constant temperature, not canonical, to equilibrate; bussi: canonical.",
)
@click.option("--temperature-K", "temperature_K", type=float, help="Target; for nve of the first velocities. K")
@click.option("--timestep-fs", type=float, default=1.0, show_default=True, help="fs; 0.5 with hydrogen.")
@click.option("--steps", type=int, required=True, help="Number of steps in all, earlier runs in the folder included.")
@setting(run_nvt, "--seed", help="Of the velocities and the thermostat.")
@click.option("--output", required=True, type=click.Path(file_okay=False), help="Folder for all files of the run.")
@setting(run_nvt, "--tau-fs", help="Relaxation time of the thermostat, fs.")
@click.option("--trajectory-interval", type=int, help="Steps between frames.  [default: at most 1000 frames in all]")
@click.option("--log-interval", type=int, help="Steps between log rows.  [default: with the frames]")
@supercell_option()
@click.option("--index", type=int, default=-1, show_default=True, help="Which frame of STRUCTURE to start from.")
@click.option("--wall-time-s", type=float, help="Stop with a checkpoint before so many seconds.")
@click.option("--allow-large-timestep", is_flag=True, help="Accept more than 10 fs.")
@click.option("--min-distance", type=float, default=0.3, show_default=True, help="Closer atoms are an error, Å.")
@click.option("--skin", type=float, default=1.0, show_default=True, help="Of the neighbor list, Å; changes speed only.")
@dtype_option("float64")
@device_option
@kernels_option
@click.option("--plot/--no-plot", default=True, show_default=True, help="Draw DIR/md.png.")
def md_command(structure: str, output: str, plot: bool, **settings: Any) -> None:
    """Molecular dynamics of STRUCTURE with a trained potential, written to a folder.

    Velocities in STRUCTURE are kept; otherwise they are drawn at the temperature.  The folder gets the frames
    (trajectory.extxyz), the log (log.csv), a checkpoint, and md.png with temperature, energies and the distribution
    of distances: h(r) of a molecule, g(r) of a periodic structure.

    The same command on the same folder continues an interrupted run bit for bit, or a finished one if --steps has
    grown.  Ctrl-C and SIGTERM end it after the step at hand.

    \b
    Examples:
      mlcalc md ethanol.xyz --model ethanol-visnet --temperature-K 300 --timestep-fs 0.5 --steps 2000 --output run
      mlcalc md Cu.cif --model cu-hvnet --supercell 3 3 3 --ensemble bussi --temperature-K 600 --timestep-fs 2 \\
          --steps 5000 --seed 1 --output cu600
    """
    atoms = _prepared(structure, settings)
    folder = Path(os.path.expanduser(output))  # noqa: PTH111 - leaves a ~ of nobody for the run to refuse
    first, started = _steps_done(folder), time.perf_counter()
    trajectory = _run(atoms, folder, settings)
    seconds = time.perf_counter() - started
    steps = int(trajectory.steps[-1])
    click.echo("\n".join(_summary(trajectory, len(atoms))))
    engine = atoms.calc.engine
    click.echo(f"computed by     {engine.path}" + (f" ({engine.why})" if engine.why else ""))
    if steps > first:
        speed = (steps - first) * settings["timestep_fs"] * 1e-6 / (seconds / 86400)
        click.echo(f"speed           {speed:.4g} ns/day ({1e3 * seconds / (steps - first):.3g} ms per step)")
    if not trajectory.completed:
        click.echo(f"stopped after {steps} of {settings['steps']} steps: run the same command again to continue")
    if plot:
        md_figure(trajectory).savefig(folder / "md.png", dpi=150)
    click.echo(f"files           {folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")


def _prepared(structure: str, settings: dict[str, Any]) -> Atoms:
    """The starting structure with its calculator; takes what concerns them out of the settings."""
    thermostat = settings["ensemble"] != "nve"
    if thermostat and settings["temperature_K"] is None:
        raise ConfigError(f"--ensemble {settings['ensemble']} needs a temperature: give --temperature-K")
    supercell = settings.pop("supercell")
    atoms = read_structure(structure, settings.pop("index"))
    atoms = repeated(atoms, supercell, structure)
    atoms.calc = calculator(settings, "molecular dynamics", "skin", "min_distance")
    return atoms


def _run(atoms: Atoms, folder: Path, settings: dict[str, Any]) -> Trajectory:
    ensemble, tau_fs = settings["ensemble"], settings["tau_fs"]
    common = {name: value for name, value in settings.items() if name not in ("ensemble", "tau_fs")}
    if ensemble == "nve":
        return run_nve(atoms, output=folder, **common)
    return run_nvt(atoms, thermostat=ensemble, tau_fs=tau_fs, output=folder, **common)


def _steps_done(folder: Path) -> int:
    """Steps in the folder's checkpoint, so that the speed is that of the steps added; 0 where there is none."""
    try:
        return int(load_arrays(folder / "checkpoint.npz", "checkpoint")[1]["step"])
    except ResultFileError:  # nothing there yet, or damaged: the run itself says so
        return 0


def _summary(trajectory: Trajectory, atoms: int) -> list[str]:
    half = len(trajectory.steps) // 2
    total = trajectory.total_energies
    lines = [
        f"steps           {trajectory.steps[-1]} ({trajectory.times_fs[-1] / 1000:g} ps), {atoms} atoms",
        f"temperature     {trajectory.temperatures.mean():.1f} K mean, {trajectory.temperatures[half:].mean():.1f} K "
        "mean of the second half",
        f"potential       {trajectory.energies[0]:.4f} -> {trajectory.energies[-1]:.4f} eV",
        f"total energy    {total[0]:.4f} -> {total[-1]:.4f} eV",
    ]
    if len(trajectory.steps) > 2:
        slope = np.polyfit(trajectory.times_fs / 1000, trajectory.conserved, 1)[0]
        lines.append(f"drift           {1e3 * slope / atoms:.2g} meV/atom/ps of the conserved energy")
    return lines
