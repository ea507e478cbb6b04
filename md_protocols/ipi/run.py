"""A run of i-PI: its input, its server and its clients, in a folder that continues."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.constraints import FixAtoms

from ..checks import choice, number, structure, whole
from ..errors import ConfigError, SimulationError
from ..progress import ProgressBar
from ..settings import check_tau, check_timestep, default_interval, describe_calculator
from ..signals import StopRequest
from .answers import resolved_virial
from .client import serve_ipi
from .inputs import ENSEMBLES, THERMOSTATS, IPISettings
from .result import IPIRun
from .run_folder import IPIFolder, stored_settings
from .server import script

_TICK = 0.2  # s
_SOFT_EXIT_S = 60.0  # for i-PI to end the step at hand and write RESTART
_CONNECT_S = 120.0  # for i-PI to read its input
_CHECKPOINTS = 50  # of a run, by default
_BATCHES_SINCE = (3, 3)
_LONGEST_FOLDER = 60  # bytes, of 107 for the whole name of a socket


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
    thermostat: of i-PI: "svr" (the default), "langevin", "pile_g" (the default of beads) or "pile_l".
    output: the folder, in the end an ordinary one of i-PI (see IPIFolder).
    log_interval, trajectory_interval, checkpoint_interval: steps; chosen from the length of the run if None.
    clients, isolated: processes that compute, side by side; isolated=False computes in this process instead.

    Sources: i-PI, V. Kapil et al., Comput. Phys. Commun. 236, 214 (2019); PILE thermostats, M. Ceriotti et al.,
    J. Chem. Phys. 133, 124104 (2010).  Raises ConfigError before anything is done, SimulationError for a run that i-PI
    gave up, ServeError for structures that cannot be computed.  After any of them the folder can be continued.
    """
    template = atoms.copy() if isinstance(atoms, Atoms) else atoms
    if isinstance(template, Atoms):
        template.calc = atoms.calc if calc is None else calc
    structure(
        template,
        "i-PI",
        needs=() if callable(calc) and not hasattr(calc, "get_property") else ("energy", "forces"),
    )
    calculator = template.calc
    template.calc = None
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
    )
    if settings.ensemble == "npt" and virial == "none":
        raise ConfigError("ensemble 'npt' moves the cell by the virial: virial='none' would leave the ideal gas's part")
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
                _Run(folder, calculator, serving, stop).drive(*begin, clients, bar)
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
    ensemble, clients = choice("ensemble", given["ensemble"], ENSEMBLES), given.pop("clients")
    temperatures = _temperatures(given.pop("temperature_K"), ensemble)
    beads, timestep = given["beads"], given["timestep_fs"]
    thermostat = given["thermostat"] or ("pile_g" if beads > 1 else "svr")
    pressure = given["pressure_GPa"]
    if (ensemble == "npt") != (pressure is not None):
        raise ConfigError(
            "pressure_GPa is for ensemble 'npt', which needs it: give both or neither (0.0001 GPa is 1 bar)"
        )
    if ensemble == "npt" and not atoms.pbc.all():
        raise ConfigError(f"ensemble 'npt' needs a structure periodic in all directions, not pbc={atoms.pbc.tolist()}")
    fixed = _fixed(atoms)
    if fixed and (ensemble in ("npt", "vibrations") or beads > 1):
        raise ConfigError(
            f"{len(fixed)} atoms are fixed, which i-PI respects in classical dynamics at constant volume only, not "
            f"with ensemble {ensemble!r} and {beads} beads: remove the constraint with atoms.set_constraint()"
        )
    interval = given["trajectory_interval"] or default_interval(steps, len(atoms) * beads * len(temperatures))
    given |= {
        "ensemble": ensemble,
        "temperatures_K": temperatures,
        "thermostat": choice("thermostat", thermostat, THERMOSTATS),
        "tau_fs": check_tau(given["tau_fs"], timestep),
        "pressure_GPa": None if pressure is None else number("pressure_GPa", pressure),
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


def _temperatures(given: float | Sequence[float], ensemble: str) -> tuple[float, ...]:
    values = tuple(given) if isinstance(given, Sequence) else (given,)
    temperatures = tuple(number("temperature_K", value, above=0) for value in values)
    if (ensemble == "remd") != (len(temperatures) > 1):
        raise ConfigError(
            f"temperature_K has {len(temperatures)} values for ensemble {ensemble!r}: replica exchange ('remd') needs "
            "two or more, everything else one"
        )
    return temperatures


def _fixed(atoms: Atoms) -> tuple[int, ...]:
    other = [type(c).__name__ for c in atoms.constraints if not isinstance(c, FixAtoms)]
    if other:
        raise ConfigError(f"the constraint {other[0]} is not supported: only FixAtoms is; remove it")
    return tuple(sorted({int(k) for constraint in atoms.constraints for k in constraint.index}))


def _batch_size(structures: int, clients: int) -> int:
    """Structures per request: all that are there at once, shared among the clients; one before i-PI 3.3."""
    version = tuple(int(part) for part in metadata.version("ipi").split(".")[:2])
    return -(-structures // clients) if version >= _BATCHES_SINCE else 1


class _Run:
    """i-PI and its clients, from start to end."""

    def __init__(self, folder: IPIFolder, calculator: Any, serving: dict[str, Any], stop: StopRequest) -> None:
        self._folder, self._calculator, self._serving, self._stop = folder, calculator, serving, stop
        self._errors: list[BaseException] = []

    def drive(self, input_file: str, first: int, clients: int, bar: ProgressBar) -> None:
        """Run from the first step until all are done, or a signal or the wall time stops it."""
        with tempfile.TemporaryDirectory(prefix="mlcalc-ipi-", dir=_short_folder()) as private:  # mode 0700
            server = self._server(input_file, private)
            threads = [threading.Thread(target=self._client, args=(private,), daemon=True) for _ in range(clients)]
            try:
                for thread in threads:
                    thread.start()
                self._watch(server, threads, first, bar)
                crashed = bool(server.poll())  # by itself, and not well
            finally:
                self._end(server)
                for thread in threads:
                    thread.join(timeout=10)
        self._judge(server, crashed)

    def _server(self, input_file: str, private: str) -> subprocess.Popen[bytes]:
        module = f"{__package__}.server"
        code = f"import sys; sys.path[:0] = {[p for p in sys.path if p]!r}; from {module} import main; main()"
        command = [sys.executable, "-c", code, script(), "-S", f"{private}/", input_file]
        with (self._folder.path / "i-pi.log").open("ab") as log:
            return subprocess.Popen(  # noqa: S603
                command,
                cwd=self._folder.path,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C comes to us, who end it softly
            )

    def _client(self, private: str) -> None:
        try:
            serve_ipi(
                self._calculator,
                self._folder.template,
                unix=f"{private}/{self._folder.address()}",
                connect_s=_CONNECT_S,
                reconnect_s=5.0,
                signals=False,
                progress=False,
                **self._serving,
            )
        except BaseException as error:
            self._errors.append(error)

    def _watch(
        self, server: subprocess.Popen[bytes], clients: list[threading.Thread], done: int, bar: ProgressBar
    ) -> None:
        """Until i-PI ends by itself, or there is a reason to end it."""
        while server.poll() is None:
            time.sleep(_TICK)
            if self._stop() or not any(client.is_alive() for client in clients):
                return
            self._folder.prune()
            done = self._show(bar, done)
        self._show(bar, done)

    def _show(self, bar: ProgressBar, done: int) -> int:
        """Bring the bar up to date; the steps it shows then."""
        row = self._folder.last_row() if bar.text_due() else None
        if row is None or row[0] <= done:
            return done
        step = int(row[0])
        bar.advance(step - done)
        bar.describe(step, *row[1:])
        return step

    def _end(self, server: subprocess.Popen[bytes]) -> None:
        """Softly, so that RESTART is written; hard after a minute."""
        if server.poll() is None:
            server.terminate()
        try:
            server.wait(timeout=_SOFT_EXIT_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        if server.stdin is not None:
            server.stdin.close()

    def _judge(self, server: subprocess.Popen[bytes], crashed: bool) -> None:
        """Raise for a run that ended otherwise than by its end or a wish."""
        stopped = self._stop()
        again = self._folder.start()
        if again is None or (stopped and not self._errors and not crashed):
            return
        if self._errors and not stopped and not crashed:
            raise self._errors[0]
        log = self._folder.path / "i-pi.log"
        tail = log.read_text(encoding="utf-8", errors="replace").strip()[-800:]
        raise SimulationError(
            f"i-PI ended (exit code {server.returncode}) after {again[1]} of {self._folder.steps} steps; what is there "
            f"can be continued by the same call. The end of {log}: {tail}"
        )


def _short_folder() -> str | None:
    """Where the socket goes: the folder for temporary files, unless the name of a socket in it would be too long."""
    return "/tmp" if len(os.fsencode(tempfile.gettempdir())) > _LONGEST_FOLDER else None  # noqa: S108 - mode 0700 in it
