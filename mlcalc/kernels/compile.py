"""How kernels are compiled: without the GIL, kept on disk, and never used after any of their sources has changed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import FunctionCache

_Function = TypeVar("_Function", bound=Callable[..., Any])
# sums may be reordered and multiplications fused, but NaN and infinity stay what they are
_FAST = {"reassoc", "contract", "nsz", "arcp"}


def _sources() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


_DIGEST = _sources()
_logger = logging.getLogger(__name__)
_told: list[bool] = []


class _Cache(FunctionCache):
    """Compiled code on disk; numba alone would not see that a function of another file, inlined here, has changed."""

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return *super()._index_key(sig, codegen), _DIGEST

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        found = super().load_overload(sig, target_context)
        if found is None and not _told:
            _told.append(True)
            _logger.warning(
                "compiling the kernels for this processor: about 20 s, once for each kind of network and precision"
            )
        return found


def kernel(function: _Function) -> _Function:
    """The function, compiled at its first call for the types of its arguments."""
    return _compiled(function, _FAST)


def kernel_in_order(function: _Function) -> _Function:
    """The same for arithmetic whose order matters."""
    return _compiled(function, {"contract"})


def _compiled(function: _Function, fastmath: set[str]) -> _Function:
    # no kernel makes arrays, and counting references to slices would cost more time than what is done with them
    options: dict[str, Any] = {"nogil": True, "fastmath": fastmath, "error_model": "numpy", "_nrt": False}
    dispatcher: Any = numba.njit(**options)(function)
    try:
        dispatcher._cache = _Cache(function)
    except RuntimeError:  # no folder to write to
        if not _told:
            _told.append(True)
            _logger.warning(
                "kernels are compiled anew in every process, about 20 s each: no folder to keep them in can be written "
                "to. Name one in the environment, NUMBA_CACHE_DIR=..."
            )
    return cast("_Function", dispatcher)
