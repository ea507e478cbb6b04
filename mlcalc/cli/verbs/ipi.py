"""`mlcalc ipi`: a client for i-PI, the path of its driver, and whole runs of i-PI."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from ase import Atoms
from ase.io import write

from mlcalc.cli.commands import VerbGroup
from mlcalc.cli.options import existing_file
from mlcalc.cli.phonon_runs import supercell_option
from mlcalc.cli.potential import MODEL_SETTINGS, potential_options
from mlcalc.cli.structures import read_structure, repeated
from mlcalc.factory import CalculatorFactory
from mlcalc.md_protocols import ServeError, run_ipi, serve_ipi


class _ServeByDefault(VerbGroup):
    """A group whose first word, unless it names a verb, belongs to `serve`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        known = (*self.commands, "-h", "--help")
        return super().parse_args(ctx, args if not args or args[0] in known else ["serve", *args])


@click.group("ipi", cls=_ServeByDefault, no_args_is_help=True)
def ipi_command() -> None:
    """Serve i-PI (or ASE's SocketIOCalculator) with a trained potential, or run i-PI from start to end.

    \b
    mlcalc ipi STRUCTURE --model NAME_OR_FILE --unix NAME      a client for a server that you started
    mlcalc ipi run STRUCTURE --model NAME_OR_FILE --output DIR  input, server and clients in one
    mlcalc ipi path                                            the driver file, for <pes_path> in i-PI's input

    `mlcalc ipi serve --help` shows the options of the first.
    """


_virial_option = click.option(
    "--virial",
    type=click.Choice(["auto", "none"]),
    default="auto",
    show_default=True,
    help="none: send zeros (and say so in the extras), for structures whose stress cannot be computed.",
)


@ipi_command.command("serve", short_help="Answer a running server.")
@click.argument("structure", type=existing_file)
@potential_options
@_virial_option
@click.option("--unix", metavar="NAME_OR_PATH", help="Unix socket: the <address> of i-PI's input, or a path with a /.")
@click.option("--prefix", default="/tmp/ipi_", show_default=True, help="Before NAME; i-pi's -S.")  # noqa: S108
@click.option("--host", default="localhost", show_default=True, help="With --port.")
@click.option("--port", type=int, help="Of a server that listens on a port (mode='inet').")
@click.option("--allow-remote", is_flag=True, help="Accept a host beyond this machine: no password, no encryption.")
@click.option("--connect-s", type=float, default=60.0, show_default=True, help="Wait so long for the server, s.")
@click.option("--reconnect-s", type=float, default=60.0, show_default=True, help="The same after it went away, s.")
@click.option("--idle-s", type=float, help="Give up after so long without a word from the server, s.")
@click.option("--request-s", type=float, help="Start the computing process again if it takes longer for one request.")
@click.option("--wall-time-s", type=float, help="End after so many seconds.")
@click.option(
    "--isolated/--no-isolation",
    default=True,
    help="--no-isolation: compute in this process, where a crash resets the connection.",
)
@click.option(
    "--check-template/--no-check", default=True, help="--no-check: do not compare the first structure with STRUCTURE."
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def serve_command(structure: str, as_json: bool, **settings: Any) -> None:
    """Answer a server that is running, or about to, until it says that it has finished.

    STRUCTURE gives the elements, in the server's order, and the periodic directions; positions come from the server.
    Beads come in batches where i-PI's input has <batch_size>.  A crash of the model is survived: it is computed in a
    process of its own, which is started again.

    \b
    Examples:
      mlcalc ipi init.xyz --model cu-hvnet --unix driver
      mlcalc ipi init.xyz --model aspirin-visnet --port 31415
    """
    atoms, factory = _prepared(structure, settings)
    try:
        report = serve_ipi(factory, atoms, **settings)
    except ServeError as error:
        _keep(error)
        raise
    click.echo(json.dumps(report.to_json()) if as_json else str(report))
    if report.ending == "idle":
        raise click.ClickException(f"no word from the server for {settings['idle_s']:g} s: its run may not be complete")


@ipi_command.command("path", short_help="The driver file for i-PI's input.")
def path_command() -> None:
    """Print the path of the driver file, for <pes_path> of an <ffdirect> or -P of i-pi-driver-py (i-PI 3.3).

    \b
    Examples:
      i-pi-driver-py -m custom -P $(mlcalc ipi path) -u -a driver -o template=init.xyz,model=cu-hvnet
      <ffdirect name='d'> <pes>custom</pes> <pes_path>PATH</pes_path>
        <parameters>{template: init.xyz, model: cu-hvnet}</parameters> </ffdirect>
    """
    click.echo(Path(__file__).parents[2] / "ipi_driver.py")


@ipi_command.command("run", short_help="Run i-PI; run again to continue.")
@click.argument("structure", type=existing_file)
@potential_options
@_virial_option
@click.option("--output", required=True, type=click.Path(file_okay=False), help="Folder for all files of the run.")
@click.option(
    "--ensemble",
    type=click.Choice(["nve", "nvt", "npt", "remd", "vibrations"]),
    default="nvt",
    show_default=True,
    help="remd: replica exchange between temperatures; vibrations: modes by finite differences.",
)
@click.option("--temperature-K", "temperature_K", type=float, multiple=True, help="K; several times for remd.")
@click.option("--beads", type=int, default=1, show_default=True, help="Of the ring polymers; 1 is classical.")
@click.option("--timestep-fs", type=float, default=1.0, show_default=True, help="fs; 0.25 to 0.5 with hydrogen.")
@click.option("--steps", type=int, default=1000, show_default=True, help="In all, earlier calls included.")
@click.option(
    "--thermostat", type=click.Choice(["bussi", "langevin", "pile_g", "pile_l"]), help="[default: bussi; pile_g]"
)
@click.option("--tau-fs", type=float, default=100.0, show_default=True, help="Of the thermostat, fs.")
@click.option("--pressure-GPa", "pressure_GPa", type=float, help="For npt (isotropic).")
@click.option("--barostat-tau-fs", type=float, default=500.0, show_default=True, help="For npt, fs.")
@click.option("--exchange-interval", type=int, default=100, show_default=True, help="Steps, on average, for remd.")
@click.option("--displacement", type=float, default=0.01, show_default=True, help="For vibrations, Å.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of velocities and thermostats.")
@supercell_option()
@click.option("--log-interval", type=int, help="Steps between log rows.  [default: 10 or fewer]")
@click.option("--trajectory-interval", type=int, help="Steps between frames.  [default: at most 1000 frames]")
@click.option("--checkpoint-interval", type=int, help="Steps between checkpoints.  [default: 50 of them]")
@click.option("--clients", type=int, default=1, show_default=True, help="Processes that compute side by side.")
@click.option("--wall-time-s", type=float, help="Stop softly before so many seconds.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--plot/--no-plot", default=True, show_default=True, help="Draw DIR/ipi.png.")
def run_command(structure: str, output: str, as_json: bool, plot: bool, **settings: Any) -> None:
    """Run i-PI on STRUCTURE with a trained potential: classical or path-integral dynamics in one command.

    The folder is an ordinary one of i-PI (input.xml, sim.out, sim.pos_*.xyz, RESTART).  The same command continues it
    after a kill, without rows that are doubled or missing, or when --steps has grown.

    \b
    Examples:
      mlcalc ipi run MoSe2.cif --model mose2.safetensors --temperature-K 300 --steps 20000 --output nvt
      mlcalc ipi run aspirin.xyz --model aspirin-visnet --beads 16 --temperature-K 300 --timestep-fs 0.5 --output pimd
    """
    repeats = settings.pop("supercell")
    temperatures = settings.pop("temperature_K") or (300.0,)
    atoms, factory = _prepared(structure, settings)
    atoms = repeated(atoms, repeats, structure)
    try:
        run = run_ipi(
            atoms,
            calc=factory,
            output=output,
            temperature_K=temperatures if len(temperatures) > 1 else temperatures[0],
            **settings,
        )
    except ServeError as error:
        _keep(error, Path(output))
        raise
    if plot:
        figure: Any = run.plot().figure
        figure.savefig(Path(output) / "ipi.png", dpi=150)
    click.echo(json.dumps(run.to_json()) if as_json else str(run))


def _prepared(structure: str, settings: dict[str, Any]) -> tuple[Atoms, CalculatorFactory]:
    """The structure and a recipe of the calculator; takes their settings out of the others."""
    atoms = read_structure(structure, settings.pop("index"))
    model = {name: settings.pop(name) for name in MODEL_SETTINGS}
    return atoms, CalculatorFactory(model.pop("model"), **model)


def _keep(error: Any, folder: Path = Path()) -> None:
    """Write the structures that could not be computed."""
    if not error.structures:
        return
    path = folder / "ipi-failed.extxyz"
    write(path, error.structures)
    click.echo(f"The structures that could not be computed are in {path}", err=True)
