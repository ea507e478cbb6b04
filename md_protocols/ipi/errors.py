"""Errors of the i-PI drivers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ase import Atoms

from ..errors import ProtocolError


class ServeError(ProtocolError, RuntimeError):
    """Serving ended before the server had finished; `structures` could not be computed, if it was that."""

    def __init__(self, text: str = "", structures: Sequence[Atoms] = (), **known: Any) -> None:
        super().__init__(text, **known)
        self.structures = list(structures)


class WireError(ServeError):
    """The peer sent something that is not i-PI's protocol, or not about the template's atoms."""


class ConnectionFailedError(ServeError):
    """No server was reached, or it went away and did not come back."""


class WorkerError(ServeError):
    """The computing process failed again and again, or gave no usable numbers."""
