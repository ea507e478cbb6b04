"""What another process needs to make the same calculators."""

from __future__ import annotations

import copyreg
import io
import tempfile
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from typing import IO, Any

from ase import Atoms

from mlcalc.ground.errors import MLCalcError, Use

from ..errors import ConfigError
from .responder import Responder


@dataclass(frozen=True, eq=False)
class Recipe:
    """What a computing process needs: calculators, or functions that make them, the template, and what to send."""

    members: tuple[Any, ...]
    atoms: Atoms
    virial: str
    dipole: Any = None

    def responder(self) -> Responder:
        """The calculators, made here and now."""
        dipole = None if self.dipole is None else made(self.dipole)
        return Responder([made(member) for member in self.members], self.atoms, self.virial, dipole)


def made(member: Any) -> Any:
    """The calculator itself, or what the factory makes."""
    return member if hasattr(member, "get_property") and not isinstance(member, type) else member()


def unnamed_file(content: bytes) -> IO[bytes]:
    """A file without a name, from which every process to come reads."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
    file.write(content)
    file.flush()
    return file


def pickled(recipe: Recipe) -> bytes:
    buffer = io.BytesIO()
    pickler = ForkingPickler(buffer)
    # torch registers there that tensors are shared with children of multiprocessing, which ours are not
    pickler.dispatch_table = copyreg.dispatch_table
    try:
        pickler.dump(recipe)
    except (MLCalcError, MemoryError):
        raise
    except Exception as error:
        raise ConfigError(
            f"the calculator cannot be sent to a process of its own ({error})",
            setting="calc",
            remedies=[
                "give a function that makes it, found by its name in a module (for our models CalculatorFactory)",
                Use("isolated", False, "to compute in this process"),
            ],
        ) from error
    return buffer.getvalue()
