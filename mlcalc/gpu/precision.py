"""Which arithmetic float32 matrix products use on the GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mlcalc.md_protocols.errors import ConfigError

MATMUL = ("ieee", "tf32")


@contextmanager
def matmul_precision(kind: str) -> Iterator[None]:
    """float32 products in "ieee" (exact float32) or "tf32" (10 bits of mantissa) arithmetic, inside of the block only.

    The switch is one of the whole process, so the user's own choice comes back at the end.  A captured graph keeps the
    kernels that were chosen while it was captured: its replays need no block.
    """
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = kind
    try:
        yield
    finally:
        matmul.fp32_precision = before


def check_matmul(kind: str, dtype: torch.dtype) -> None:
    """ConfigError for an unknown arithmetic, or for tf32 where float64 was asked for."""
    if kind not in MATMUL:
        raise ConfigError(f"matmul = {kind!r} is not known: choose one of {', '.join(MATMUL)}")
    if kind == "tf32" and dtype != torch.float32:
        raise ConfigError(f"matmul = 'tf32' shortens float32 numbers and means nothing in {dtype}: leave it at 'ieee'")
