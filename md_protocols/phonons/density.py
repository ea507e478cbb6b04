"""Densities of states that hold all modes: differences of how many lie below the edges of each bin of frequency."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, permutations, product
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray

from .. import checks, plotting
from ..crystals.kinds import element
from ..errors import ConfigError
from ..results import Arrays, Quantity, Result
from .meshes import mesh_numbers, run_mesh

if TYPE_CHECKING:
    from phonopy import Phonopy

Array = NDArray[np.float64]
Tetrahedra = Iterator[NDArray[np.int64]]
_LENGTHS = {"element": 60.0, "compound": 40.0}  # Å: longest waves resolved by the meshes
_BINS = (10, 100_000)  # fewest and most; the time grows with them
_AT_ONCE = 200_000  # tetrahedra and edges that cut them; memory
_NARROW = 0.02  # of the largest frequency: a narrower spectrum is drawn as one of this width


@dataclass(frozen=True, eq=False, repr=False)
class PhononDOS(Result):
    """Density of states of the primitive cell, means over bins; their sum times the pitch is the number of bands."""

    kind = "phonon_dos"

    frequencies: Annotated[Array, Quantity("centers of the bins", "THz", "(F,)")]
    total: Annotated[Array, Quantity("of all modes", "1/THz", "(F,)")]
    by_element: Annotated[
        dict[str, Array],
        Quantity("modes weighted by |e|^2 of the element's atoms; they add up to the total", "1/THz", "(F,) each"),
    ]
    mesh: Annotated[tuple[int, int, int], Quantity("numbers of q-points")]

    def plot(self, ax: Any = None, *, vertical: bool = False) -> Any:
        """Axes with the total and, of compounds, the elements' shares; vertical has frequencies upwards."""
        ax = plotting.axes(ax)

        def draw(values: Array, **style: Any) -> None:
            pair = (values, self.frequencies) if vertical else (self.frequencies, values)
            ax.plot(*pair, **style)

        draw(self.total, color="0.25", linewidth=1.0, label="total")
        if len(self.by_element) > 1:
            for k, (name, values) in enumerate(self.by_element.items()):
                draw(values, color=f"C{k + 1}", linewidth=1.0, label=name)
            ax.legend(frameon=False, handlelength=1.2, fontsize="small")
        labels = ("frequency (THz)", "DOS (1/THz)")
        (ax.set_ylabel if vertical else ax.set_xlabel)(labels[0])
        (ax.set_xlabel if vertical else ax.set_ylabel)(labels[1])
        (ax.set_xlim if vertical else ax.set_ylim)(0.0, 1.05 * self.total.max())
        occupied = self.frequencies[self.total > 1e-3 * self.total.max()]
        (ax.set_ylim if vertical else ax.set_xlim)(min(0.0, occupied.min()), 1.03 * occupied.max())
        return ax

    @classmethod
    def upgraded(cls, arrays: Arrays, info: dict[str, Any]) -> tuple[Arrays, dict[str, Any]]:
        """Of files whose elements had names of their own."""
        if "elements" in info:
            info["by_element"] = info.pop("elements")
            arrays |= {f"by_element.{name}": arrays.pop(f"element.{name}") for name in info["by_element"]}
        return arrays, info


def density_of_states(
    phonon: Phonopy, *, dimensions: int, mesh: Any = None, sigma: float | None = None, pitch: float | None = None
) -> PhononDOS:
    """Density of states by the linear tetrahedron method, or Gaussians of width `sigma` (THz), total and by element.

    Each value is the number of modes in a bin over its width, so that bands narrower than that count in full.
    mesh: numbers of q-points; None for enough for waves of 60 Å, of compounds 40 Å.  pitch: width of the bins (THz),
    None for 1/167 of the spectrum.

    Raises ConfigError for settings.
    """
    width = None if sigma is None else checks.number("sigma", sigma, above=0.0, hint=" THz")
    symbols = [element(label) for label in phonon.primitive.symbols]
    names = list(dict.fromkeys(symbols))
    length = _LENGTHS["element" if len(names) == 1 else "compound"]
    numbers = mesh_numbers(phonon, mesh, dimensions=dimensions, length=length)
    found = run_mesh(phonon, numbers, symmetry=False, eigenvectors=len(names) > 1)
    frequencies = np.array(found.frequencies)
    shares = np.ones((*frequencies.shape, 1))
    if len(names) > 1:
        squares = np.abs(np.array(found.eigenvectors).reshape(len(frequencies), -1, 3, frequencies.shape[1])) ** 2
        belongs = np.array([[symbol == name for symbol in symbols] for name in names], dtype=float)
        shares = np.einsum("qaxb,na->qbn", squares, belongs)
    centers, edges = _bins(frequencies, pitch, 0.0 if width is None else 5.0 * width)
    if width is None:
        below = _below_in_tetrahedra(
            edges, frequencies, shares, _tetrahedra(found.qpoints, numbers, phonon.primitive.cell)
        )
    else:
        below = _below_in_gaussians(edges, frequencies, shares, width)
    density = np.diff(below, axis=0) / np.diff(edges)[:, None]
    return PhononDOS(centers, density.sum(axis=1), dict(zip(names, density.T, strict=True)), numbers)


def _bins(frequencies: Array, pitch: float | None, margin: float) -> tuple[Array, Array]:
    """Centers and edges (THz) of bins that hold all frequencies, with at least two empty ones on each side."""
    low, high = float(frequencies.min()), float(frequencies.max())
    span = max(high - low, _NARROW * max(abs(low), abs(high)), 1e-3)
    margin = max(0.1 * span, margin)
    whole = high - low + 2 * margin
    step = whole / 200 if pitch is None else checks.number("pitch", pitch, above=0.0, hint=" THz")
    if not _BINS[0] <= whole / step <= _BINS[1]:
        raise ConfigError(
            f"pitch is {step:g} THz, which makes {whole / step:.3g} bins of the {whole:.3g} THz of this density of "
            f"states: choose it from {whole / _BINS[1]:.2g} to {whole / _BINS[0]:.2g} THz",
            setting="pitch",
            value=step,
        )
    count = int(np.ceil(whole / step)) + 3
    start = low - margin - step
    return start + step * np.arange(count, dtype=float), start + step * (np.arange(count + 1, dtype=float) - 0.5)


def _below_in_gaussians(edges: Array, frequencies: Array, shares: Array, width: float) -> Array:
    """(F + 1, P): how much of the modes, each a Gaussian of this width, is below each edge, per q-point."""
    from scipy.special import ndtr

    flat, weights = frequencies.ravel(), shares.reshape(frequencies.size, -1) / len(frequencies)
    found = np.array([ndtr((edge - flat) / width) @ weights for edge in edges])
    found[0], found[-1] = 0.0, weights.sum(axis=0)  # the tails, 3e-7 of a mode
    return found


def _below_in_tetrahedra(edges: Array, frequencies: Array, shares: Array, tetrahedra: Tetrahedra) -> Array:
    """(F + 1, P): how much of the modes is below each edge, frequencies linear within tetrahedra of the mesh.

    shares: (Q, bands, P).  The weights of the corners are those of Blöchl, Jepsen and Andersen, Phys. Rev. B 49, 16223
    (1994), Appendix B.
    """
    found = np.zeros((len(edges), shares.shape[2]))
    for corners in tetrahedra:
        values = frequencies[corners].transpose(0, 2, 1).reshape(-1, 4)
        parts = shares[corners].transpose(0, 2, 1, 3).reshape(-1, 4, shares.shape[2])
        order = np.argsort(values, axis=1)
        values = np.take_along_axis(values, order, axis=1)
        parts = np.take_along_axis(parts, order[:, :, None], axis=1)
        first = np.searchsorted(edges, values[:, 0], side="right")
        last = np.searchsorted(edges, values[:, 3], side="left")
        for p in range(shares.shape[2]):  # tetrahedra below an edge altogether count in full from there on
            full = np.bincount(last, parts[:, :, p].mean(axis=1), minlength=len(edges))
            found[:, p] += np.cumsum(full)
        counts = np.maximum(last - first, 0)  # edges that cut the tetrahedron; none where it lies on one
        for some in _pieces(counts):
            mine = counts[some]
            which = np.repeat(np.arange(len(mine)), mine)
            cut = np.arange(len(which)) - np.repeat(np.cumsum(mine) - mine, mine) + first[some][which]
            weights = _corner_weights(edges[cut], values[some][which])
            below = np.einsum("tc,tcp->tp", weights, parts[some][which])
            for p in range(shares.shape[2]):
                found[:, p] += np.bincount(cut, below[:, p], minlength=len(edges))
    return found / (6 * len(frequencies))


def _pieces(counts: NDArray[np.int64]) -> list[slice]:
    """Stretches of tetrahedra that are cut so often, in all, that memory suffices."""
    ends = np.cumsum(counts)
    limits = np.arange(_AT_ONCE, ends[-1] + _AT_ONCE, _AT_ONCE)
    bounds = np.unique([0, *(np.searchsorted(ends, limits) + 1).clip(max=len(counts)).tolist(), len(counts)])
    return [slice(int(a), int(b)) for a, b in pairwise(bounds)]


def _corner_weights(edge: Array, values: Array) -> Array:
    """(T, 4): share of each corner's value in the part of its tetrahedron below its edge (T); corners ascend."""
    e = [edge - values[:, k] for k in range(4)]  # distances from the corners to the edge
    gap = {(k, j): values[:, k] - values[:, j] for k in range(4) for j in range(k)}
    found = np.zeros_like(values)
    low, high = edge <= values[:, 1], edge > values[:, 2]
    middle = ~(low | high)

    def at(rows: NDArray[np.bool_]) -> tuple[list[Array], dict[tuple[int, int], Array]]:
        return [x[rows] for x in e], {key: x[rows] for key, x in gap.items()}

    d, g = at(low)
    c = d[0] ** 3 / (4 * g[1, 0] * g[2, 0] * g[3, 0])
    others = [c * d[0] / g[k, 0] for k in (1, 2, 3)]
    found[low] = np.stack([4 * c - sum(others), *others], axis=1)
    d, g = at(middle)
    c1 = d[0] ** 2 / (4 * g[3, 0] * g[2, 0])
    c2 = d[0] * d[1] * -d[2] / (4 * g[3, 0] * g[2, 1] * g[2, 0])
    c3 = d[1] ** 2 * -d[3] / (4 * g[3, 1] * g[2, 1] * g[3, 0])
    found[middle] = np.stack(
        [
            c1 - (c1 + c2) * d[2] / g[2, 0] - (c1 + c2 + c3) * d[3] / g[3, 0],
            c1 + c2 + c3 - (c2 + c3) * d[2] / g[2, 1] - c3 * d[3] / g[3, 1],
            (c1 + c2) * d[0] / g[2, 0] + (c2 + c3) * d[1] / g[2, 1],
            (c1 + c2 + c3) * d[0] / g[3, 0] + c3 * d[1] / g[3, 1],
        ],
        axis=1,
    )
    d, g = at(high)
    c = -(d[3] ** 3) / (4 * g[3, 0] * g[3, 1] * g[3, 2])
    others = [c * -d[3] / g[3, k] for k in (0, 1, 2)]
    found[high] = 0.25 - np.stack([*others, 4 * c - sum(others)], axis=1)
    return found


def _tetrahedra(qpoints: Array, numbers: tuple[int, int, int], cell: Array) -> Tetrahedra:
    """Six times (Q, 4): the q-points at the corners of tetrahedra around each mesh cell's shortest diagonal."""
    steps = np.linalg.inv(cell).T / np.array(numbers)[:, None]
    signs = min(product((1, -1), repeat=3), key=lambda s: float(np.linalg.norm(np.array(s) @ steps)))
    sizes = np.array(numbers)
    places = np.rint(np.asarray(qpoints) * sizes).astype(int) % sizes
    index = np.empty(numbers, dtype=np.int64)
    index[tuple(places.T)] = np.arange(len(places))
    for order in permutations(range(3)):
        corner, corners = np.zeros(3, dtype=int), [places]
        for axis in order:
            corner[axis] = signs[axis]
            corners.append((places + corner) % sizes)
        yield np.stack([index[tuple(found.T)] for found in corners], axis=1)
