"""A run of i-PI: its input, its server and its clients, in a folder that continues."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.constraints import FixAtoms

from mlcalc.ground.errors import Remedy, Use
from mlcalc.ground.remedies import NO_CONSTRAINTS, SET_PBC

from ...checks import choice, number, structure, whole
from ...dynamics.settings import check_tau, check_timestep, default_interval
from ...errors import ConfigError
from ...folders.identity import describe_calculator
from ...folders.stop import StopRequest
from ...progress import ProgressBar
from ..responder import resolved_virial
from .folder import IPIFolder, stored_settings
from .inputs import ENSEMBLES, THERMOSTATS, IPISettings
from .process import ServedRun
from .result import IPIRun
from .server import script

_CHECKPOINTS = 50  # of a run, by default
_BATCHES_SINCE = (3, 3)


def run_ipi(
    atoms: Atoms,
    *,
    output: str | os.PathLike[str],
    ensemble: str = "nvt",
    temperature_K: float | Sequence[float] = 300.0,
    timestep_fs: float = 1.0,
    steps: int = 1000,
    beads: int = 1,
    calc: Any = None,
    thermostat: str | None = None,
    tau_fs: float = 100.0,
    pressure_GPa: float | None = None,
    barostat_tau_fs: float = 500.0,
    exchange_interval: int = 100,
    displacement: float = 0.01,
    remove_drift: bool = True,
    seed: int = 0,
    log_interval: int | None = None,
    trajectory_interval: int | None = None,
    checkpoint_interval: int | None = None,
    clients: int = 1,
    isolated: bool = True,
    virial: str = "auto",
    allow_large_timestep: bool = False,
    wall_time_s: float | None = None,
    signals: bool = True,
    progress: bool | None = None,
) -> IPIRun:
    """The result of a run that i-PI does with forces from here; the same call on the same folder continues it.

    atoms: the structure, with its calculator unless calc is given: a calculator or a function that makes one, as for
    serve_ipi.  Velocities are kept where there is one bead, else drawn at the temperature.  FixAtoms is respected.
    ensemble: "nve", "nvt", "npt" (isotropic, pressure_GPa), "remd" (replica exchange between the temperatures given)
    or "vibrations" (the dynamical matrix by finite differences of displacement Å; steps do not count then).
    remove_drift: keep the center of mass at rest; not with fixed atoms, or in an external potential.
    beads: of the ring polymers; more than one is path-integral molecular dynamics, all beads in one batch.
    thermostat: "bussi" (the default; i-PI's svr), "langevin", "pile_g" (the default of beads) or "pile_l".
    output: the folder, in the end an ordinary one of i-PI (see IPIFolder).
    log_interval, trajectory_interval, checkpoint_interval: steps; chosen from the length of the run if None.
    clients, isolated: processes that compute, side by side; isolated=False computes in this process instead.

    Sources: i-PI, V. Kapil et al., Comput. Phys. Commun. 236, 214 (2019); PILE thermostats, M. Ceriotti et al.,
    J. Chem. Phys. 133, 124104 (2010).  Raises ConfigError before anything is done, SimulationError for a run that i-PI
    gave up, ServeError for structures that cannot be computed.  After any of them the folder can be continued.
    """
    template, calculator = _template(atoms, calc)
    steps = whole("steps", steps, at_least=1)
    resolved_virial(virial, template, [calculator] if hasattr(calculator, "get_property") else [])
    path = Path(output)
    before = stored_settings(path)
    settings = _settings(
        template,
        steps,
        before,
        ensemble=ensemble,
        temperature_K=temperature_K,
        timestep_fs=check_timestep(timestep_fs, allow_large_timestep),
        beads=whole("beads", beads, at_least=1),
        thermostat=thermostat,
        tau_fs=tau_fs,
        pressure_GPa=pressure_GPa,
        barostat_tau_fs=barostat_tau_fs,
        exchange_interval=exchange_interval,
        displacement=number("displacement", displacement, above=0),
        remove_drift=bool(remove_drift) and not any(template.constraints),
        seed=whole("seed", seed, at_least=0),
        log_interval=log_interval,
        trajectory_interval=trajectory_interval,
        checkpoint_interval=checkpoint_interval,
        clients=whole("clients", clients, at_least=1),
        virial=virial,
    )
    script()  # there is one, or nothing begins
    total = 3 * len(atoms) + 1 if settings.ensemble == "vibrations" else steps
    with (
        StopRequest(wall_time_s, signals=signals) as stop,
        IPIFolder(path, template, settings, total, describe_calculator(calculator)) as folder,
    ):
        begin = folder.start()
        if begin is not None:
            with ProgressBar(progress, begin[1], total, settings.timestep_fs) as bar:
                serving = {"virial": virial, "isolated": isolated}
                ServedRun(folder, calculator, serving, stop).drive(*begin, clients, bar)
    stop.deliver()
    return IPIRun.load(path)


def _template(atoms: Any, calc: Any) -> tuple[Atoms, Any]:
    """A copy of the structure, and who computes: a calculator, or functions and lists as serve_ipi takes them."""
    made = isinstance(atoms, Atoms) and (calc is None or hasattr(calc, "get_property"))
    template = atoms.copy() if isinstance(atoms, Atoms) else atoms
    if isinstance(atoms, Atoms):
        template.calc = atoms.calc if calc is None else calc
    structure(template, "i-PI", needs=("energy", "forces") if made else ())
    calculator, template.calc = template.calc, None
    return template, calculator


def _settings(atoms: Atoms, steps: int, before: dict[str, Any], **given: Any) -> IPISettings:
    """The settings, complete and checked; intervals that are not given are those of the run to be continued."""
    for name in ("log_interval", "trajectory_interval", "checkpoint_interval"):
        given[name] = before.get(name) if given[name] is None else given[name]
    ensemble, clients = _ensemble(given["ensemble"]), given.pop("clients")
    temperatures = _temperatures(given["temperature_K"], ensemble)
    beads, timestep = given["beads"], given["timestep_fs"]
    pressure = _pressure(given["pressure_GPa"], ensemble, atoms, given["virial"])
    fixed = _fixed(atoms)
    if fixed and (ensemble in ("npt", "vibrations") or beads > 1):
        raise ConfigError(
            f"{len(fixed)} atoms are fixed, which i-PI respects in classical dynamics at constant volume only, not "
            f"with ensemble {ensemble!r} and {beads} beads",
            setting="constraints",
            value=fixed,
            remedies=[NO_CONSTRAINTS],
        )
    interval = given["trajectory_interval"] or default_interval(steps, len(atoms) * beads * len(temperatures))
    given |= {
        "ensemble": ensemble,
        "temperature_K": temperatures,
        "thermostat": _thermostat(given["thermostat"], beads),
        "tau_fs": check_tau(given["tau_fs"], timestep),
        "pressure_GPa": pressure,
        "barostat_tau_fs": check_tau(given["barostat_tau_fs"], timestep),
        "exchange_interval": whole("exchange_interval", given["exchange_interval"], at_least=1),
        "trajectory_interval": whole("trajectory_interval", interval, at_least=1),
        "log_interval": whole("log_interval", given["log_interval"] or min(interval, 10), at_least=1),
        "checkpoint_interval": whole(
            "checkpoint_interval", given["checkpoint_interval"] or max(1, steps // _CHECKPOINTS), at_least=1
        ),
        "fixed": fixed,
        "batch_size": _batch_size(beads * len(temperatures), clients),
    }
    return IPISettings(**given)


def _ensemble(given: Any) -> str:
    if given in THERMOSTATS:
        raise ConfigError(
            f"ensemble is {given!r}, which is a thermostat",
            setting="ensemble",
            value=given,
            limit=ENSEMBLES,
            remedies=[Use("thermostat", given, "with the ensemble 'nvt'")],
        )
    return choice("ensemble", given, ENSEMBLES)


def _thermostat(given: str | None, beads: int) -> str:
    if given in THERMOSTATS.values() and given not in THERMOSTATS:
        ours = next(name for name, theirs in THERMOSTATS.items() if theirs == given)
        raise ConfigError(
            f"thermostat is {given!r}, i-PI's word",
            setting="thermostat",
            value=given,
            limit=tuple(THERMOSTATS),
            remedies=[Use("thermostat", ours, "which is the same")],
        )
    return choice("thermostat", given or ("pile_g" if beads > 1 else "bussi"), tuple(THERMOSTATS))


def _pressure(given: Any, ensemble: str, atoms: Atoms, virial: str) -> float | None:
    if (ensemble == "npt") != (given is not None):
        remedies: list[Remedy] = [Use("pressure_GPa", why="as well (0.0001 GPa is 1 bar)")]
        if given is not None:
            remedies = [Use("ensemble", "npt"), "leave the pressure out"]
        raise ConfigError(
            f"pressure_GPa is for ensemble 'npt', which needs it; the ensemble is {ensemble!r}, the pressure {given}",
            setting="pressure_GPa",
            value=given,
            remedies=remedies,
        )
    if ensemble == "npt" and not atoms.pbc.all():
        raise ConfigError(
            f"ensemble 'npt' needs a structure periodic in all directions, not pbc={atoms.pbc.tolist()}",
            setting="pbc",
            value=atoms.pbc.tolist(),
            remedies=[SET_PBC, Use("ensemble", "nvt")],
        )
    if ensemble == "npt" and virial == "none":
        raise ConfigError(
            "ensemble 'npt' moves the cell by the virial, which is 'none': the ideal gas's part would be left",
            setting="virial",
            value=virial,
            remedies=[Use("virial", "auto"), Use("ensemble", "nvt")],
        )
    return None if given is None else number("pressure_GPa", given)


def _temperatures(given: float | Sequence[float], ensemble: str) -> tuple[float, ...]:
    values = tuple(given) if isinstance(given, Sequence) else (given,)
    temperatures = tuple(number("temperature_K", value, above=0) for value in values)
    if (ensemble == "remd") != (len(temperatures) > 1):
        raise ConfigError(
            f"temperature_K has {len(temperatures)} values for ensemble {ensemble!r}: replica exchange ('remd') needs "
            "two or more, everything else one",
            setting="temperature_K",
            value=temperatures,
        )
    return temperatures


def _fixed(atoms: Atoms) -> tuple[int, ...]:
    other = [type(c).__name__ for c in atoms.constraints if not isinstance(c, FixAtoms)]
    if other:
        raise ConfigError(
            f"the constraint {other[0]} is not supported, only FixAtoms is",
            setting="constraints",
            value=other[0],
            remedies=[NO_CONSTRAINTS],
        )
    return tuple(sorted({int(k) for constraint in atoms.constraints for k in constraint.index}))


def _batch_size(structures: int, clients: int) -> int:
    """Structures per request: all that are there at once, shared among the clients; one before i-PI 3.3."""
    version = tuple(int(part) for part in metadata.version("ipi").split(".")[:2])
    return -(-structures // clients) if version >= _BATCHES_SINCE else 1
