"""A potential as the forces of a LAMMPS instance, by its `fix external`."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray

from mlcalc.engine.engine import Engine, check_distance
from mlcalc.graphs.validation import MIN_DISTANCE
from mlcalc.ground.errors import Told, Wording, in_python
from mlcalc.ground.warn import warn
from mlcalc.lammps.checks import check_instance, check_masses, check_settings
from mlcalc.lammps.commands import FIX
from mlcalc.lammps.guard import Guard
from mlcalc.lammps.library import load_mpi
from mlcalc.lammps.ranks import Ranks, is_agreed
from mlcalc.lammps.remedies import keep_remedies, lammps_remedies
from mlcalc.lammps.schemes import Results, View, choose_scheme
from mlcalc.md_protocols.errors import ConfigError, PhysicsWarning
from mlcalc.model_file.model_file import load_model
from mlcalc.models import Potential

__all__ = ["Coupling", "attach"]

_logger = logging.getLogger(__name__)


def attach(
    lmp: Any,
    model: str | os.PathLike[str] | Potential,
    *,
    elements: Sequence[str],
    device: str = "cpu",
    dtype: str = "float64",
    kernels: str = "auto",
    skin: float = 1.0,
    min_distance: float = MIN_DISTANCE,
) -> Coupling:
    """The potential as the forces of an instance `lmp` of lammps.lammps, from now on; called by all of its ranks.

    The simulation box exists already, in `units metal`; other pair styles and fixes come later.  `elements` are the
    symbols of the atom types 1, 2, ...; the other arguments are those of MLCalculator.

    An error of the potential ends a `run`, `minimize` or `rerun` given by lmp.command on all ranks, forces and energy
    of that step being NaN, and is raised from there.  Where more commands would follow (lmp.file, lmp.commands_string)
    the processes end with its text, as they do after LAMMPS' own errors.

    Raises ConfigError for settings of LAMMPS that would give wrong numbers, UnknownElementError, and the errors of
    MLCalculator.
    """
    ranks = Ranks(_communicator(lmp))

    def made() -> Coupling:
        potential: Potential = load_model(model) if isinstance(model, str | os.PathLike) else model
        check_distance(min_distance)
        engine = Engine(potential, device=device, dtype=dtype, kernels=kernels)
        engine.scope.require_potential("LAMMPS")
        check_instance(lmp, elements, engine.scope.elements)
        return Coupling(lmp, ranks, engine, elements, skin=skin, min_distance=min_distance)

    with lammps_remedies():
        coupling = ranks.attempt(made)
    engine = coupling.engine
    if engine.scope.energy_jumps and ranks.rank == 0:
        warn(PhysicsWarning(_JUMPS, remedies=["use a thermostat", "take a smooth model"]))
    lmp.command(f"pair_style zero {engine.scope.cutoff!r}")
    lmp.command("pair_coeff * *")
    lmp.command(f"fix {FIX} all external pf/callback 1 1")
    lmp.command(f"fix_modify {FIX} energy yes virial yes")
    lmp.set_fix_external_callback(FIX, coupling, None)
    lmp.command(f'print "mlcalc: {_name(engine.potential)}, {dtype}, {engine.path}, {coupling.describe()}"')
    Guard(lmp, ranks, coupling)
    return coupling


class Coupling:
    """What LAMMPS calls for forces."""

    def __init__(
        self, lmp: Any, ranks: Ranks, engine: Engine, elements: Sequence[str], *, skin: float, min_distance: float
    ) -> None:
        self.engine = engine
        self.failure: BaseException | None = None  # what ended the run
        self.in_script = False  # whether more commands may follow the one that is executed
        self.evaluations = 0
        self.wording: Wording = in_python  # of remedies, where an error ends the processes
        self._lmp, self._ranks = lmp, ranks
        self.scheme = choose_scheme(engine, ranks, skin=skin, min_distance=min_distance)
        self._numbers = np.array([0, *(atomic_numbers[symbol] for symbol in elements)], dtype=np.int64)
        self._masses_known = False
        self._nan = np.full(6, np.nan)  # virials of atoms, which nobody computes

    def describe(self) -> str:
        """How the ranks share the work."""
        return self.scheme.describe()

    def __call__(  # noqa: PLR0917 - LAMMPS passes them by position
        self, caller: Any, step: int, own: int, tags: Any, positions: Any, forces: Any
    ) -> None:
        """Forces on the own atoms; never raises, for LAMMPS would go on as if nothing had happened."""
        try:
            if self.failure is not None:
                raise self.failure
            found = self._evaluated(own)
            if own:
                forces[:] = found.forces
            self._hand_over(found)
            self.evaluations += 1
        except BaseException as error:
            if self._ranks.size > 1 and self.failure is None and not is_agreed(error):
                self._abort(error)
            self._stop(error, own, forces)

    def _evaluated(self, own: int) -> Results:
        lmp, ranks = self._lmp, self._ranks
        view = ranks.attempt(lambda: self._view(own))
        atoms = int(ranks.sum(np.array([float(own)]))[0])
        ranks.attempt(lambda: check_settings(lmp, atoms))
        return self.scheme.evaluate(view)

    def _view(self, own: int) -> View:
        lmp = self._lmp
        cell, pbc = _box(lmp)
        total = own + lmp.extract_setting("nghost")
        if total == 0:
            return View(0, np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 3)), cell, pbc)
        types = lmp.numpy.extract_atom("type", nelem=total).astype(np.int64)
        if not self._masses_known:
            self._masses_known = True
            if self._ranks.rank == 0:
                check_masses(lmp, self._numbers)
        return View(
            own=own,
            tags=lmp.numpy.extract_atom("id", nelem=total).astype(np.int64),
            numbers=self._numbers[types],
            positions=np.array(lmp.numpy.extract_atom("x", nelem=total, dim=3)),
            cell=cell,
            pbc=pbc,
        )

    def _hand_over(self, found: Results) -> None:
        """Energy and virial are totals, on every rank; virials of atoms are NaN where somebody asks for them."""
        lmp, own = self._lmp, len(found.forces)
        lmp.fix_external_set_energy_global(FIX, found.energy)
        lmp.fix_external_set_virial_global(FIX, found.virial.tolist())
        lmp.fix_external_set_energy_peratom(FIX, found.energies)
        pointers = np.full(max(own, 1), self._nan.ctypes.data, dtype=np.uintp)
        rows = pointers.ctypes.data_as(ctypes.POINTER(ctypes.POINTER(ctypes.c_double)))
        lmp.lib.lammps_fix_external_set_virial_peratom(lmp.lmp, FIX.encode(), rows)  # lists would take seconds

    def _stop(self, error: BaseException, own: int, forces: NDArray[np.float64]) -> None:
        """End the run: all ranks come here with an error."""
        keep_remedies(error)
        if self.failure is None:
            self.failure = error
            if self.in_script:
                self._end(error)
        if own:
            forces[:] = np.nan
        nothing = Results(np.nan, self._nan, np.full(own, np.nan), np.full((own, 3), np.nan))
        self._hand_over(nothing)
        self._lmp.force_timeout()

    def _end(self, error: BaseException) -> NoReturn:
        """Leave all processes, with what LAMMPS has written so far on disk and the error told once."""
        self._lmp.flush_buffers()
        if self._ranks.rank == 0:
            text = error.worded(self.wording) if isinstance(error, Told) else str(error)
            _tell(f"Error: {' '.join(text.split()) or type(error).__name__}")
        from mpi4py import MPI

        MPI.Finalize()
        sys.stdout.flush()
        os._exit(1)

    def _abort(self, error: BaseException) -> NoReturn:
        """Leave all processes at once, from an error that other ranks do not know of and may be waiting for."""
        self._lmp.flush_buffers()
        _logger.error("rank %d failed", self._ranks.rank, exc_info=error)
        _tell(f"Error: rank {self._ranks.rank}: {type(error).__name__}: {error}")
        self._ranks.comm.Abort(1)
        os._exit(1)


def _name(potential: Potential) -> str:
    info = getattr(potential, "info", None)
    sha256 = str(getattr(info, "sha256", None) or "")
    name = str(getattr(info, "name", "") or type(potential).__name__)
    return f"{name} (sha256 {sha256[:16]})" if sha256 else name


def _communicator(lmp: Any) -> Any:
    """That of the instance."""
    mpi = load_mpi()
    comm = lmp.comm if isinstance(getattr(lmp, "comm", None), mpi.Comm) else mpi.COMM_WORLD
    if comm.size != lmp.extract_setting("world_size"):
        raise ConfigError(
            f"LAMMPS runs on {lmp.extract_setting('world_size')} ranks, but mpi4py knows of {comm.size}",
            value=comm.size,
            limit=lmp.extract_setting("world_size"),
            remedies=["give comm=MPI.COMM_WORLD to lammps.lammps", "run without `-partition`"],
        )
    return comm


def _box(lmp: Any) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Cell (3, 3) Å with vectors as rows, and periodicity."""
    low, high, xy, yz, xz, periodic, _ = lmp.extract_box()
    x, y, z = (b - a for a, b in zip(low, high, strict=True))
    return np.array([[x, 0, 0], [xy, y, 0], [xz, yz, z]], dtype=np.float64), np.array(periodic, dtype=np.bool_)


def _tell(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


_JUMPS = (
    "the energy of this model jumps when an atom crosses the cutoff: forces are right in between, but a run at "
    "constant energy drifts"
)
