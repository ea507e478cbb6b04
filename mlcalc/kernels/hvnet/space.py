"""The memory of a call of HVNet's kernels, which the next call uses again."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlcalc.kernels.hvnet.arrays import BLOCK, TILE, Array, Atoms, Edges, Rooms, Settings

_LINE = 64  # bytes
_WASTE = 4  # memory that is this many times too large is given back


class Space:
    """Arrays for calls of any size, in one precision."""

    def __init__(self, kind: np.dtype[Any]) -> None:
        self._kind = kind
        self._held: dict[str, Array] = {}
        self._rooms: tuple[int, Rooms] | None = None
        self._atoms: tuple[tuple[Settings, int], Atoms] | None = None
        self._edges: Edges | None = None

    def rooms(self, shares: int, channels: int) -> Rooms:
        """Working memory of so many shares."""
        if self._rooms is None or self._rooms[0] != shares:
            P, F = shares, channels
            shapes = {
                "filters": (P, TILE, 3 * F), "slopes": (P, TILE, 3 * F), "x": (P, BLOCK, 2, F), "f": (P, BLOCK, F),
                "h": (P, BLOCK, F), "t": (P, BLOCK, 3, F), "UV": (P, BLOCK, 3, 2, F), "inputs": (P, BLOCK, 2, F),
            }  # fmt: skip
            self._rooms = shares, Rooms(**{name: aligned_empty(shape, self._kind) for name, shape in shapes.items()})
        return self._rooms[1]

    def atoms(self, settings: Settings, atoms: int) -> Atoms:
        """States of so many atoms."""
        if self._atoms is None or self._atoms[0] != (settings, atoms):
            self._atoms = None
            made = {name: self._array(name, shape) for name, shape in state_shapes(settings, atoms).items()}
            self._atoms = (settings, atoms), Atoms(**made)
        return self._atoms[1]

    def edges(self, atoms: int, edges: int, elements: int, radial: int) -> Edges:
        """So many edges or somewhat more, of so many atoms or more."""
        held = self._edges
        if held is None or not (_fits(len(held.pairs), atoms) and _fits(len(held.neighbor), edges)):
            self._edges = held = None  # the old memory is free before the new one is taken
            atoms, edges, kind = atoms + atoms // 8, edges + edges // 8, self._kind
            self._edges = held = Edges(
                neighbor=np.empty(edges, np.int32),
                parts=np.empty((atoms, elements + 1), np.int64),
                pairs=np.empty(atoms, np.int64),
                basis=np.empty((edges, 2, radial), kind),
                direction=np.empty((edges, 3), kind),
                distance=np.empty(edges, kind),
                envelope=np.empty((edges, 2), kind),
                gradient=np.empty((edges, 4), kind),
                norm=np.empty(atoms, kind),
            )
        return held

    def matrix(self, atoms: int) -> Array:
        """A square matrix of so many atoms."""
        return self._array("matrix", (atoms, atoms))

    def _array(self, name: str, shape: tuple[int, ...]) -> Array:
        size = int(np.prod(shape))
        held = self._held.get(name)
        if held is None or not _fits(held.size, size):
            self._held.pop(name, None)
            held = None
            held = self._held[name] = aligned_empty(size + size // 16, self._kind)
        return held[:size].reshape(shape)


def state_shapes(settings: Settings, atoms: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the arrays of Atoms; without a first dimension where a sub-network or a call does not use them."""
    D, A, N, F, K = settings.states, settings.kept, atoms, settings.channels, settings.elements
    own = 1 if settings.painn else K
    G, painn, rmconv = N * settings.back, N * settings.painn, N * (not settings.painn)
    means = min(G, rmconv)
    return {
        "s": (D, N, F), "v": (D, N, 3, F), "S": (D, N, F), "V": (D, N, 3, F),
        "h": (A, K, N, F), "phi": (A, K, N, 3, F), "h2": (A, own, N, F), "t": (A, own, N, 3, F),
        "UV": (A, painn, 3, 2, F), "mean": (D, rmconv, 6, F),
        "g_s": (G, F), "g_v": (G, 3, F), "G_S": (2, G, F), "G_V": (2, G, 3, F), "g_phi": (K, G, 3, F),
        "g_t": (K, means, 3, F), "g_mean": (means, 6, F), "g_norm": (means,),
    }  # fmt: skip


def aligned_empty(shape: int | tuple[int, ...], kind: np.dtype[Any]) -> Array:
    """An array that starts with a line of the cache: rows across two lines take the processor twice the time."""
    size = int(np.prod(shape)) * kind.itemsize
    room = np.empty(size + _LINE, np.uint8)
    start = -room.ctypes.data % _LINE
    return room[start : start + size].view(kind).reshape(shape)


def _fits(held: int, wanted: int) -> bool:
    return wanted <= held <= _WASTE * (wanted + 4096)
