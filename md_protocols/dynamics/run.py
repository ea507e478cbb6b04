"""Molecular dynamics at constant energy and constant temperature, on any ASE calculator."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms

from mlcalc.ground.errors import Use
from mlcalc.ground.warn import warn

from .. import checks
from ..errors import PhysicsWarning, SimulationError
from ..folders.stop import StopRequest
from ..progress import ProgressBar
from .frames import Record
from .integrators import THERMOSTATS
from .recording import MemoryRecorder, Recorder, state_frame
from .run_folder import RunFolder
from .settings import MDSettings, check_tau, check_timestep
from .simulation import FailedStep, Simulation
from .trajectory import Trajectory

_log = logging.getLogger(__name__)

_JUMPS = (
    "the energy of this calculator jumps when an atom crosses the cutoff of its model, while forces are right in "
    "between: this run at constant energy will drift"
)
_AGAINST_JUMPS = (
    "watch the total energy in the log",
    Use("ensemble", "bussi", python="sample with run_nvt"),
    "take a model without jumps",
)


@dataclass(frozen=True)
class _Options:
    """What does not change the numbers of a run."""

    output: str | Path | None
    checkpoint_interval_s: float
    wall_time_s: float | None
    max_temperature_K: float | None  # noqa: N815 - the public keyword
    max_force: float
    progress: bool | None

    def __post_init__(self) -> None:
        checks.number("checkpoint_interval_s", self.checkpoint_interval_s, at_least=0.0)
        checks.number("max_force", self.max_force, above=0.0)
        for name in ("wall_time_s", "max_temperature_K"):
            if getattr(self, name) is not None:
                checks.number(name, getattr(self, name), above=0.0)


def run_nvt(
    atoms: Atoms,
    *,
    temperature_K: float,
    timestep_fs: float,
    steps: int,
    thermostat: str = "berendsen",
    tau_fs: float = 100.0,
    seed: int = 0,
    output: str | Path | None = None,
    trajectory_interval: int | None = None,
    log_interval: int | None = None,
    checkpoint_interval_s: float = 60.0,
    wall_time_s: float | None = None,
    remove_drift: bool = True,
    remove_rotation: bool = False,
    max_temperature_K: float | None = None,
    max_force: float = 500.0,
    allow_large_timestep: bool = False,
    progress: bool | None = None,
) -> Trajectory:
    """The trajectory of `steps` velocity Verlet steps with a thermostat of relaxation time `tau_fs`.

    Thermostats: "berendsen" (right mean temperature but NOT canonical: to equilibrate) and "bussi" (canonical: to
    sample).  Temperatures count 3N - 3 degrees of freedom (3 per mobile atom if some are fixed; 3N - 6 with
    `remove_rotation`, for free molecules), so that their mean is the target.  Everything else is as in `run_nve`.

    Raises ConfigError (a setting or the structure), ThermostatError (no degrees of freedom), SimulationError (the run).
    """
    name = checks.choice("thermostat", thermostat, tuple(THERMOSTATS))
    timestep_fs = check_timestep(timestep_fs, allow_large_timestep)
    settings = _settings(
        ensemble=name,
        timestep_fs=timestep_fs,
        temperature_K=checks.number("temperature_K", temperature_K, at_least=0.0, hint=" kelvin"),
        tau_fs=check_tau(tau_fs, timestep_fs),
        seed=seed,
        trajectory_interval=trajectory_interval,
        log_interval=log_interval,
        remove_drift=remove_drift,
        remove_rotation=remove_rotation,
    )
    options = _Options(output, checkpoint_interval_s, wall_time_s, max_temperature_K, max_force, progress)
    return _run(atoms, settings, checks.whole("steps", steps, at_least=0), options)


def run_nve(
    atoms: Atoms,
    *,
    timestep_fs: float,
    steps: int,
    temperature_K: float | None = None,
    seed: int = 0,
    output: str | Path | None = None,
    trajectory_interval: int | None = None,
    log_interval: int | None = None,
    checkpoint_interval_s: float = 60.0,
    wall_time_s: float | None = None,
    remove_drift: bool = True,
    remove_rotation: bool = False,
    max_temperature_K: float | None = None,
    max_force: float = 500.0,
    allow_large_timestep: bool = False,
    progress: bool | None = None,
) -> Trajectory:
    """The trajectory of `steps` velocity Verlet steps at constant energy.

    The atoms are copied, their calculator is shared.  Momenta they have are kept; otherwise they are drawn with `seed`
    at exactly `temperature_K` (at rest without it).  The center of mass is brought to rest first, unless
    `remove_drift=False` (for external fields); FixAtoms is the one constraint supported.

    Frames are kept every `trajectory_interval` steps, by default as many as give at most 1000 frames and 256 MB, and
    log rows every `log_interval` steps, by default with the frames; the first and the last step are always in.

    With `output`, a folder is written (see `run_folder`) and nothing else; the same call on the same folder continues
    an interrupted run bit for bit (if forces depend on the positions alone), returns a finished one, and extends it if
    `steps` has grown, with the intervals it began with.  SIGINT, SIGTERM and
    SIGUSR1 then end the run after the current step, with a checkpoint, before they take their usual effect; at
    `wall_time_s` seconds the run returns with `completed=False`.

    A calculator whose attribute `energy_jumps` is true has an energy that jumps when an atom crosses the cutoff: the
    total energy cannot be conserved, and a PhysicsWarning says so once per run.

    The run stops with SimulationError at a non-finite energy or force, a force component above `max_force` eV/Å, or
    above `max_temperature_K` (by default 20 times the largest of target, initial temperature and 500 K).
    """
    if temperature_K is not None:
        temperature_K = checks.number("temperature_K", temperature_K, at_least=0.0, hint=" kelvin")
    settings = _settings(
        ensemble="nve",
        timestep_fs=check_timestep(timestep_fs, allow_large_timestep),
        temperature_K=temperature_K,
        tau_fs=None,
        seed=seed,
        trajectory_interval=trajectory_interval,
        log_interval=log_interval,
        remove_drift=remove_drift,
        remove_rotation=remove_rotation,
    )
    options = _Options(output, checkpoint_interval_s, wall_time_s, max_temperature_K, max_force, progress)
    return _run(atoms, settings, checks.whole("steps", steps, at_least=0), options)


def _settings(**values: Any) -> MDSettings:
    checks.whole("seed", values["seed"], at_least=0)
    for name in ("trajectory_interval", "log_interval"):
        if values[name] is not None:
            checks.whole(name, values[name], at_least=1)
    return MDSettings(**values)


def _run(atoms: Atoms, settings: MDSettings, steps: int, options: _Options) -> Trajectory:
    checks.runnable(atoms)
    if settings.ensemble == "nve" and getattr(atoms.calc, "energy_jumps", False):
        warn(PhysicsWarning(_JUMPS, setting="ensemble", value="nve", remedies=_AGAINST_JUMPS))
    simulation = Simulation(atoms, settings, max_temperature_K=options.max_temperature_K, max_force=options.max_force)
    stop = StopRequest(options.wall_time_s, signals=options.output is not None)
    with stop, _recorder(atoms, settings, steps, options) as recorder:
        record = _record(simulation, recorder, steps, stop, options.progress)
    if stop.signal is not None:
        _log.warning("stopped by %s after step %d; the same call continues", stop.signal.name, simulation.step)
    stop.deliver()
    return Trajectory(**record._asdict())


def _recorder(atoms: Atoms, settings: MDSettings, steps: int, options: _Options) -> Recorder:
    if options.output is None:
        return MemoryRecorder(atoms, settings, steps)
    return RunFolder(Path(options.output), atoms, settings, steps=steps, interval_s=options.checkpoint_interval_s)


def _record(simulation: Simulation, recorder: Recorder, steps: int, stop: StopRequest, progress: bool | None) -> Record:
    before = recorder.resumed
    if before is not None and before.step >= steps and before.ended:
        return recorder.result(completed=True)
    if before is None:
        simulation.start()
        recorder.start(simulation.state, simulation.rng_state)
    else:
        simulation.restore(before)
    if before is None or before.is_empty:
        _add(simulation, recorder)
    try:
        _advance(simulation, recorder, steps, stop, progress)
    except FailedStep as failure:
        recorder.checkpoint(simulation.row(), simulation.state, simulation.rng_state, last=True)
        good = list(simulation.guard.good)
        where = recorder.failed([*good, (simulation.step + 1, failure.state)])
        frames = [
            state_frame(simulation.atoms, step, step * simulation.settings.timestep_fs, state) for step, state in good
        ]
        raise SimulationError(f"{failure}{where}", frames, remedies=simulation.guard.remedies) from failure.__cause__
    recorder.checkpoint(simulation.row(), simulation.state, simulation.rng_state, last=True)
    return recorder.result(completed=simulation.step >= steps)


def _advance(simulation: Simulation, recorder: Recorder, steps: int, stop: StopRequest, progress: bool | None) -> None:
    with ProgressBar(progress, simulation.step, steps, simulation.settings.timestep_fs) as bar:
        while simulation.step < steps and not stop():
            simulation.advance()
            _add(simulation, recorder)
            if recorder.checkpoint_due():
                recorder.checkpoint(simulation.row(), simulation.state, simulation.rng_state)
            if bar.text_due():
                bar.describe(simulation.step, simulation.temperature, simulation.state.energy)
            bar.advance()


def _add(simulation: Simulation, recorder: Recorder) -> None:
    log_interval, frame_interval = recorder.intervals
    log, frame = simulation.step % log_interval == 0, simulation.step % frame_interval == 0
    if log or frame:
        recorder.add(simulation.row(), simulation.state, log=log, frame=frame)
