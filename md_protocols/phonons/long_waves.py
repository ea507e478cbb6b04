"""Waves longer than a mesh resolves, which are all that a cold crystal has: finer and finer points around Γ.

The three acoustic modes at Γ, which do not count, stand for all waves of their part of the mesh.  At kT of a few times
the lowest quantum of the mesh heat capacity and entropy are low by a percent, and below it they vanish exponentially
instead of as T^3 (Debye).  A block of cells of the mesh around Γ is therefore divided again, by three along each axis,
then the block in the middle of that, and so on: each time what the finer points give takes the place of what the
coarser ones gave.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase.units import _e, _hplanck, kB
from numpy.typing import NDArray

if TYPE_CHECKING:
    from phonopy import Phonopy

Array = NDArray[np.float64]
_THZ = _hplanck * 1e12 / _e  # eV
_BLOCKS = {4: 3, 20: 2, 10**9: 1}  # cells on either side of Γ, for so many atoms at most; right to 0.5, 1 and 3 %
_DIVISION = 3  # odd, so that Γ stays the middle of a cell
_QUANTA = 8.0  # kT in quanta of the lowest mode, below which a level is needed
_NOISE = 1e-4  # THz
_COLDEST = 1.0  # K: levels down to here are always there
_STIFF = 8.0  # ratio of the first quanta along two axes beyond which a mesh is balanced
_FEWEST, _FINEST = 9, 6  # points along a soft axis, and how much more along a stiff one
_MOST = 7  # divisions: waves of thousands of cells


@dataclass(frozen=True, eq=False)
class Level:
    """Points around Γ and what they give instead of coarser ones: weights, in points of the mesh, sum up to zero."""

    points: Array  # (M, 3)
    frequencies: Array  # (M, bands) THz
    weights: Array  # (M,) negative for what is replaced


def long_waves(phonon: Phonopy, numbers: tuple[int, int, int], dimensions: int, kelvin: Array) -> list[Level]:
    """What corrects sums over a mesh, level by level, down to 1 K or the coldest of these temperatures above 0 K.

    All levels hold for all temperatures: free energies would jump where one begins.
    numbers: of the mesh, around Γ.  dimensions: 2 leaves the third axis alone.
    """
    periodic = np.array([True, True, dimensions == 3])
    block = next(cells for atoms, cells in _BLOCKS.items() if len(phonon.primitive) <= atoms)
    reach = np.where(periodic, np.minimum(block, (np.array(numbers) - 1) // 2), 0)
    step = np.array(numbers, dtype=float)
    coarse = _points(reach, step)
    found = _frequencies(phonon, coarse)
    warmer = _QUANTA * _lowest(coarse, found) * _THZ / kB
    coldest, share = min([_COLDEST, *kelvin[kelvin > 0]]), 1.0
    levels: list[Level] = []
    while warmer > coldest and len(levels) < _MOST:
        step = np.where(periodic, _DIVISION * step, step)
        fine = _points(np.where(periodic, _DIVISION * reach + _DIVISION // 2, 0), step)
        values = _frequencies(phonon, fine)
        finer = share / _DIVISION ** int(periodic.sum())
        weights = np.repeat([-share, finer], [len(coarse), len(fine)])
        levels.append(Level(np.concatenate([coarse, fine]), np.concatenate([found, values]), weights))
        inner = (np.abs(fine * step) < reach + 0.5).all(axis=1)
        coarse, found, share, warmer = fine[inner], values[inner], finer, warmer / _DIVISION
    return levels


def unbalanced(phonon: Phonopy, numbers: tuple[int, int, int], dimensions: int) -> Array | None:
    """(3,) the lowest frequencies (THz) next to Γ along the axes of a mesh, where they differ much; else None.

    A step along the stiff axis of layers or chains then stands for waves of much higher frequencies than those of
    its points at 0, which have the soft axis' frequencies: cold crystals would seem softer than they are.
    """
    axes = [k for k in range(dimensions) if numbers[k] > 1]
    if len(axes) < 2:
        return None
    found = np.array(phonon.run_qpoints(np.eye(3)[axes] / np.array(numbers)).frequencies)
    lowest = np.ones(3)
    lowest[axes] = [float(row[row > _NOISE].min(initial=np.inf)) for row in found]
    if not np.isfinite(lowest[axes]).all() or lowest[axes].max() <= _STIFF * lowest[axes].min():
        return None
    lowest[[k for k in range(3) if k not in axes]] = np.exp(np.log(lowest[axes]).mean())
    return lowest


def balanced(phonon: Phonopy, numbers: tuple[int, int, int], dimensions: int) -> tuple[int, int, int]:
    """As many points in all, but finer along stiff axes and coarser along soft ones."""
    lowest = unbalanced(phonon, numbers, dimensions)
    if lowest is None:
        return numbers
    before = np.array(numbers)
    wanted = np.rint(before * lowest / np.exp(np.log(lowest).mean())).astype(int)
    a, b, c = np.clip(wanted, np.minimum(before, _FEWEST), before * _FINEST).tolist()
    return a, b, c


def _points(reach: NDArray[np.int64], step: Array) -> Array:
    """All whole multiples of 1/step up to so many on either side of Γ."""
    axes = [np.arange(-n, n + 1) for n in reach]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3) / step


def _frequencies(phonon: Phonopy, points: Array) -> Array:
    """(M, bands) THz; q and -q have the same."""
    half = points[: len(points) // 2 + 1]  # Γ is the middle of the list, and the list is its own mirror image
    found = np.array(phonon.run_qpoints(half).frequencies)
    return np.concatenate([found, found[-2::-1]])


def _lowest(points: Array, frequencies: Array) -> float:
    """The lowest frequency next to Γ that counts; 0 where there is none."""
    near = frequencies[np.abs(points).sum(axis=1) > 0]
    return float(near[near > _NOISE].min(initial=np.inf)) if (near > _NOISE).any() else 0.0
