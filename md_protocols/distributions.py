"""Distributions of interatomic distances over frames: g(r) of periodic matter, h(r) of molecules."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols
from numpy.typing import NDArray

from mlcalc.ground.errors import Use
from mlcalc.ground.remedies import SET_PBC

from . import checks, plotting
from .dynamics.trajectory import Trajectory
from .errors import ConfigError
from .results import Quantity, Result

Array = NDArray[np.float64]
_BLOCKS = 10  # contiguous blocks of frames for the standard error


@dataclass(frozen=True, eq=False, repr=False)
class RadialDistribution(Result):
    """g(r) of a periodic system."""

    kind = "radial_distribution"

    r: Annotated[Array, Quantity("bin centers", "Å", "(bins,)")]
    g: Annotated[Array, Quantity("1 for an ideal gas", shape="(bins,)")]
    standard_error: Annotated[Array, Quantity("of g, from blocks of frames; NaN for a single one", shape="(bins,)")]
    coordination: Annotated[
        Array,
        Quantity("mean number of neighbors up to the outer edge of the bin", shape="(bins,)"),
    ]
    pair: Annotated[tuple[str, str] | None, Quantity("elements, center first; None: all atoms")]
    n_frames: Annotated[int, Quantity("frames averaged over")]

    def plot(self, ax: Any = None) -> Any:
        """Axes with g(r) and its standard error."""
        ax = plotting.axes(ax)
        ax.plot(self.r, self.g, label="–".join(self.pair) if self.pair else "all pairs")
        if np.isfinite(self.standard_error).all():
            ax.fill_between(self.r, self.g - self.standard_error, self.g + self.standard_error, alpha=0.3, linewidth=0)
        ax.axhline(1.0, color="gray", linewidth=0.5)
        ax.set_xlabel("r (Å)")
        ax.set_ylabel("g(r)")
        ax.legend(frameon=False)
        return ax


@dataclass(frozen=True, eq=False, repr=False)
class InteratomicDistances(Result):
    """h(r) of a molecule: the probability density of the distance between two of its atoms."""

    kind = "interatomic_distances"

    r: Annotated[Array, Quantity("bin centers", "Å", "(bins,)")]
    h: Annotated[Array, Quantity("integrates to 1 over all r", "1/Å", "(bins,)")]
    standard_error: Annotated[Array, Quantity("of h, from blocks of frames; NaN for a single one", "1/Å", "(bins,)")]
    beyond: Annotated[float, Quantity("share of the pairs farther apart than r_max")]
    n_frames: Annotated[int, Quantity("frames averaged over")]

    def difference(self, other: InteratomicDistances) -> float:
        """Mean absolute difference of two h(r) over their common bins, 1/Å; ConfigError if the bins differ."""
        if self.r.shape != other.r.shape or not np.allclose(self.r, other.r):
            raise ConfigError(
                f"the distributions have other bins ({len(self.r)} up to {self.r[-1]:g} Å, {len(other.r)} up to "
                f"{other.r[-1]:g} Å)",
                setting="bins",
                value=len(other.r),
                limit=len(self.r),
                remedies=["compute both with the same r_max and bins"],
            )
        return float(np.abs(self.h - other.h).mean())

    def plot(self, ax: Any = None) -> Any:
        """Axes with h(r)."""
        ax = plotting.axes(ax)
        ax.plot(self.r, self.h)
        ax.set_xlabel("r (Å)")
        ax.set_ylabel("h(r) (1/Å)")
        return ax


def radial_distribution(
    frames: Iterable[Atoms] | Trajectory,
    *,
    r_max: float,
    bins: int,
    pair: tuple[str | int, str | int] | None = None,
) -> RadialDistribution:
    """g(r) of fully periodic frames up to `r_max` (Å): all atoms, or from the first to the second element of `pair`.

    With n(r) ordered pairs a -> b (every periodic image of b, images of a itself included, a itself not) in the shell
    of volume v(r) = 4 pi (r_outer^3 - r_inner^3) / 3, summed over frames:

        g(r) = sum n(r) / sum (N_a N_b / V) v(r)

    so that it tends to 1, and equals the mean of the frames' own g(r) when numbers and volume are constant.  r_max may
    exceed half the cell: images are counted exactly.  Numbers of atoms and cells may change between frames.

    Raises ConfigError for settings, frames that are not periodic, and elements that no frame holds.
    """
    r_max, edges = _edges(r_max, bins)
    species = None if pair is None else _pair(pair)
    counts, ideal, centers = [], [], 0
    shells = 4.0 / 3.0 * np.pi * np.diff(edges**3)
    for k, frame in enumerate(_each(frames)):
        _require_periodic(frame, k)
        first, second = (np.ones(len(frame), dtype=bool),) * 2 if species is None else _masks(frame, species)
        counts.append(np.histogram(_pair_distances(frame, first, second, r_max), edges)[0])
        ideal.append(first.sum() * second.sum() / abs(np.linalg.det(frame.cell.array)) * shells)
        centers += int(first.sum())
    names = None if species is None else (chemical_symbols[species[0]], chemical_symbols[species[1]])
    if not np.any(ideal):
        raise ConfigError(
            f"no frame holds both elements of the pair {names}",
            setting="pair",
            value=names,
            remedies=["choose elements of the structure"],
        )
    n, expected = np.array(counts, dtype=float), np.array(ideal)
    return RadialDistribution(
        r=(edges[1:] + edges[:-1]) / 2,
        g=n.sum(axis=0) / expected.sum(axis=0),
        standard_error=_block_error(n, expected),
        coordination=np.cumsum(n.sum(axis=0)) / centers,
        pair=names,
        n_frames=len(n),
    )


def interatomic_distances(frames: Iterable[Atoms] | Trajectory, *, r_max: float, bins: int) -> InteratomicDistances:
    """h(r) of molecules: the distribution of the distance over all pairs of atoms and all frames.

        h(r) = < 1 / (N (N - 1)) sum_{i != j} delta(r - |x_i - x_j|) >_frames

    (Chmiela et al., Sci. Adv. 3, e1603015 (2017); ViSNet, Nat. Commun. 15, 313 (2024), Fig. 2.)  Its integral over all
    r is 1; pairs beyond `r_max` count in it and their share is reported.  Frames are taken as free molecules.

    Raises ConfigError for settings, periodic frames and frames of fewer than two atoms.
    """
    r_max, edges = _edges(r_max, bins)
    shares = []
    for k, frame in enumerate(_each(frames)):
        if frame.pbc.any():
            raise ConfigError(
                f"frame {k} is periodic: h(r) is defined for free molecules",
                setting="pbc",
                value=frame.pbc.tolist(),
                remedies=[
                    Use("distribution", python="use radial_distribution"),
                    Use(
                        "pbc",
                        False,
                        "if the molecule is whole and its box meaningless",
                        python="set pbc=False",
                        file='make the file say so (extended XYZ: pbc="F F F")',
                    ),
                ],
            )
        if len(frame) < 2:
            raise ConfigError(f"frame {k} has {len(frame)} atoms: a distance needs two")
        i, j = np.triu_indices(len(frame), 1)
        distances = np.linalg.norm(frame.positions[j] - frame.positions[i], axis=1)
        shares.append(np.histogram(distances, edges)[0] / len(distances))
    found = np.array(shares)
    widths = np.broadcast_to(np.diff(edges), found.shape)
    return InteratomicDistances(
        r=(edges[1:] + edges[:-1]) / 2,
        h=found.mean(axis=0) / np.diff(edges),
        standard_error=_block_error(found, widths),
        beyond=max(0.0, 1.0 - float(found.mean(axis=0).sum())),
        n_frames=len(found),
    )


def _edges(r_max: float, bins: int) -> tuple[float, Array]:
    r_max = checks.number("r_max", r_max, above=0.0, hint=" Å")
    return r_max, np.linspace(0.0, r_max, checks.whole("bins", bins, at_least=1) + 1)


def _each(frames: Iterable[Atoms] | Trajectory) -> Iterable[Atoms]:
    """The frames, checked one by one; a single structure counts as one frame."""
    source = frames.frames if isinstance(frames, Trajectory) else [frames] if isinstance(frames, Atoms) else frames
    k = -1
    for k, frame in enumerate(source):
        if not isinstance(frame, Atoms):
            raise ConfigError(f"frame {k} is a {type(frame).__name__}: give ase.Atoms objects")
        if len(frame) == 0:
            raise ConfigError(f"frame {k} has no atoms")
        # The neighbor list would drop atoms at NaN without a word, and hang on a NaN cell.
        checks.finite_rows(f"frame {k}: positions", frame.positions)
        if not np.isfinite(frame.cell.array).all():
            raise ConfigError(f"frame {k}: the cell is not finite: {frame.cell.array.tolist()}")
        yield frame
    if k < 0:
        raise ConfigError("there are no frames: give at least one structure", setting="frames")


def _require_periodic(frame: Atoms, k: int) -> None:
    if not frame.pbc.all():
        raise ConfigError(
            f"frame {k} has pbc={frame.pbc.tolist()}: g(r) needs a density, so all three directions must be periodic",
            setting="pbc",
            value=frame.pbc.tolist(),
            remedies=[SET_PBC, Use("distribution", python="use interatomic_distances for a molecule")],
        )
    lengths = np.linalg.norm(frame.cell.array, axis=1)
    if abs(np.linalg.det(frame.cell.array)) <= 1e-6 * lengths.prod() or not lengths.all():
        raise ConfigError(f"frame {k} is periodic but its cell has no volume: {frame.cell.array.tolist()}")


def _pair(pair: Any) -> tuple[int, int]:
    if isinstance(pair, str) or not isinstance(pair, Iterable) or len(kinds := list(pair)) != 2:
        raise ConfigError(
            f"pair is {pair!r}: give two elements, for example ('O', 'H') or (8, 1)", setting="pair", value=pair
        )
    first, second = (_atomic_number(kind) for kind in kinds)
    return first, second


def _atomic_number(kind: Any) -> int:
    if isinstance(kind, str) and kind in atomic_numbers:
        return int(atomic_numbers[kind])
    if isinstance(kind, int | np.integer) and not isinstance(kind, bool) and 0 < kind < len(chemical_symbols):
        return int(kind)
    raise ConfigError(
        f"unknown element {kind!r} in pair: give a symbol such as 'O', or an atomic number", setting="pair", value=kind
    )


def _masks(frame: Atoms, species: tuple[int, int]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    return frame.numbers == species[0], frame.numbers == species[1]


def _pair_distances(frame: Atoms, first: NDArray[np.bool_], second: NDArray[np.bool_], r_max: float) -> Array:
    """Distances of all ordered pairs first -> second, every image, in a fully periodic cell."""
    from matscipy.neighbours import neighbour_list

    kept = first | second
    if not (first.any() and second.any()):
        return np.empty(0)
    i, j, distances = neighbour_list(
        "ijd", positions=frame.positions[kept].astype(float), cell=frame.cell.array, pbc=frame.pbc, cutoff=r_max
    )
    found: Array = distances[first[kept][i] & second[kept][j]]
    return found


def _block_error(numerators: Array, denominators: Array) -> Array:
    """Standard error of sum(numerators) / sum(denominators) over frames (F, bins), from contiguous blocks."""
    if len(numerators) < 2:
        return np.full(numerators.shape[1], np.nan)
    blocks = min(_BLOCKS, len(numerators))
    sums = [np.array([part.sum(axis=0) for part in np.array_split(x, blocks)]) for x in (numerators, denominators)]
    ratios = np.divide(sums[0], sums[1], out=np.zeros_like(sums[0]), where=sums[1] > 0)
    error: Array = ratios.std(axis=0, ddof=1) / np.sqrt(blocks)
    return error
