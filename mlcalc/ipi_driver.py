"""The driver that i-PI itself loads, in process (ffdirect) or as a client (i-pi-driver-py -m custom).

In i-PI's input, with the path that `mlcalc ipi path` prints:

    <ffdirect name='mlcalc'>
      <pes>custom</pes> <pes_path>PATH</pes_path>
      <parameters>{template: init.extxyz, model: cu-hvnet}</parameters>
    </ffdirect>

Parameters: template, a structure file that ASE reads; model; virial ("auto", "none", see serve_ipi); and the settings
of MLCalculator (device, dtype, kernels, ...).  With <batch_size> (i-PI 3.3) all beads are computed in one call.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from ipi.pes.dummy import Dummy_driver
from ipi.utils.softexit import softexit
from numpy.typing import NDArray

from mlcalc.cli.structures import read_structure
from mlcalc.factory import CalculatorFactory
from mlcalc.ground.errors import Told, Use
from mlcalc.md_protocols.errors import ConfigError
from mlcalc.md_protocols.ipi.responder import IPI_UNITS, Responder, refuse_unphysical
from mlcalc.md_protocols.ipi.template_check import check_first

Array = NDArray[np.float64]
Result = tuple[float, Array, Array, str]  # hartree, hartree/bohr, hartree, JSON

__DRIVER_NAME__ = "mlcalc"
__DRIVER_CLASS__ = "MLCalcDriver"

_OWN = ("template", "model", "index", "virial", "check_template")
_CALCULATORS = ("device", "dtype", "kernels", "skin", "neighbor_backend", "min_distance", "max_edges")


class MLCalcDriver(Dummy_driver):  # type: ignore[misc]  # i-PI has no types
    """Energies, forces and virials of a trained potential, in i-PI's units.

    Errors of the model stop i-PI with their text; nothing that is not finite is ever returned.
    """

    def __init__(
        self,
        template: str = "",
        model: str = "",
        index: int = -1,
        virial: str = "auto",
        check_template: bool = True,
        **settings: Any,
    ) -> None:
        settings.pop("verbosity", None)  # i-PI's own
        settings.pop("verbose", None)
        self._given = (template, model, int(index), virial)
        self._settings = settings
        self._to_check = str(check_template).lower() not in ("false", "0", "no")
        super().__init__()

    def check_parameters(self) -> None:
        """Load the model and the template."""
        template, model, index, virial = self._given
        if not template or not model:
            raise ConfigError(
                "the driver needs a template and a model",
                setting="model" if template else "template",
                remedies=[
                    "write <parameters>{template: init.extxyz, model: cu-hvnet}</parameters>",
                    "-o template=init.extxyz,model=cu-hvnet",
                ],
            )
        with _told_for_parameters():
            self._template = read_structure(template, index)
            self._respond = Responder([CalculatorFactory(model, **self._settings)()], self._template, virial)

    def compute(self, cell: Array | list[Array], pos: Array | list[Array]) -> Result | list[Result]:
        """One result, or a list for lists of cells (3, 3) and positions (N, 3), in bohr."""
        try:
            with _told_for_parameters():
                if isinstance(cell, list):
                    return self._results(cell, list(pos))
                return self._results([cell], [np.asarray(pos)])[0]
        except Exception as error:
            _stop(error)
            raise

    def _results(self, cells: Sequence[Array], positions: Sequence[Array]) -> list[Result]:
        where = np.array(positions, dtype=float).reshape(len(cells), -1, 3)
        boxes = np.array(cells, dtype=float).reshape(-1, 3, 3)
        if where.shape[1] != len(self._template):
            raise ConfigError(
                f"i-PI sends {where.shape[1]} atoms, the template has {len(self._template)}",
                setting="template",
                value=len(self._template),
                limit=where.shape[1],
                remedies=["start both from the same structure"],
            )
        refuse_unphysical(boxes, where, bool(self._template.pbc.any()))
        if self._to_check:
            check_first(self._template, boxes[0], where[0], IPI_UNITS)
            self._to_check = False
        answers = self._respond(boxes, where, IPI_UNITS)
        return [(answer.energy, answer.forces, answer.virial, answer.extras) for answer in answers]


def in_parameters(remedy: Use) -> str | None:
    """The remedy as the driver's parameters have it; what is wrong with the template, as its file has it."""
    if remedy.setting in (*_OWN, *_CALCULATORS):
        value = "..." if remedy.value is None else remedy.value
        return f"set {remedy.setting}: {value} in the parameters {remedy.why}".strip()
    return f"{remedy.file} {remedy.why}".strip() if remedy.file else None


@contextmanager
def _told_for_parameters() -> Iterator[None]:
    """Within it errors of ours, whose text i-PI prints, name remedies that there are here."""
    try:
        yield
    except Told as error:
        words = [remedy if isinstance(remedy, str) else in_parameters(remedy) for remedy in error.remedies]
        error.remedies = tuple(word for word in words if word)
        raise


def _stop(error: Exception) -> None:
    """End i-PI softly where the driver runs in a thread of it: the thread alone would die, and i-PI wait for ever.

    i-PI would end with exit code 0, as after a run that is complete.
    """
    if threading.current_thread() is threading.main_thread():
        return
    told = f"the mlcalc driver failed: {type(error).__name__}: {error}"
    if not getattr(softexit, "hard_exit", False):  # within somebody's Python
        softexit.trigger(status="bad", message=told)
    softexit.cleanup(status="bad", message=told)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)
