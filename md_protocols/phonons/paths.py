"""Paths through the Brillouin zone: recommended ones, and the user's own, in the primitive cell that is used."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..errors import ConfigError
from .plane import plane_points

if TYPE_CHECKING:
    from phonopy import Phonopy

Array = NDArray[np.float64]
_GAMMA = "Γ"
_PLAIN = {"GAMMA": _GAMMA, "G": _GAMMA}
_BREAK = "|"


@dataclass(frozen=True, eq=False)
class BandPath:
    """Straight segments through reciprocal space, in fractional coordinates of the primitive cell."""

    corners: Array  # (S, 2, 3) where each segment starts and ends
    labels: tuple[tuple[str, str], ...]  # names of these points


@dataclass(frozen=True, eq=False)
class SampledPath:
    """q-points along a path."""

    qpoints: Array  # (Q, 3) fractional
    distances: Array  # (Q,) 1/Å, without 2 pi, along the path; jumps between segments add none
    segments: NDArray[np.int64]  # (S, 2) first q-point of each segment and the one after its last
    labels: tuple[tuple[str, str], ...]


def band_path(phonon: Phonopy, path: Any = None, *, dimensions: int = 3) -> BandPath:
    """The recommended path of the crystal (or of the plane, with 2 dimensions), or the one that `path` describes.

    In 3D: Hinuma et al., Comput. Mater. Sci. 128, 140 (2017), by seekpath, turned into the axes of the primitive cell
    used.  path: words as in "Γ X K | Γ L" (G is Γ), a list of labels and coordinates, or pairs (label, coordinates);
    "|" or None is a jump.
    """
    named, recommended = _special_points(phonon, dimensions)
    if path is None:
        corners = [(named[start], named[end]) for start, end in recommended]
        return BandPath(np.array(corners), tuple(recommended))
    return _own_path(path, named)


def sample(path: BandPath, points: int, cell: Array) -> SampledPath:
    """So many q-points along each segment, its ends included."""
    points = checks.whole("points", points, at_least=2)
    fractions = np.linspace(0.0, 1.0, points)[None, :, None]
    qpoints = path.corners[:, :1] * (1.0 - fractions) + path.corners[:, 1:] * fractions
    reciprocal = np.linalg.inv(cell).T
    lengths = np.linalg.norm((path.corners[:, 1] - path.corners[:, 0]) @ reciprocal, axis=1)
    starts = np.concatenate([[0.0], np.cumsum(lengths)[:-1]])
    distances = starts[:, None] + lengths[:, None] * fractions[:, :, 0]
    first = points * np.arange(len(lengths))
    return SampledPath(
        qpoints.reshape(-1, 3), distances.ravel(), np.stack([first, first + points], axis=1), path.labels
    )


def special_points(phonon: Phonopy, *, dimensions: int = 3) -> dict[str, Array]:
    """The named points of the Brillouin zone, in fractional coordinates of the primitive cell."""
    return _special_points(phonon, dimensions)[0]


def _special_points(phonon: Phonopy, dimensions: int) -> tuple[dict[str, Array], list[tuple[str, str]]]:
    cell = phonon.primitive.cell
    if dimensions == 2:
        return plane_points(cell)
    import seekpath

    names = phonon.primitive.symbols  # labels: atoms of one element and another mass have their own
    kinds = [list(dict.fromkeys(names)).index(name) + 1 for name in names]
    with warnings.catch_warnings():
        # A crystal between two cases has either path; a primitive cell chosen larger than need be is the user's wish.
        warnings.simplefilter("ignore")
        found = seekpath.get_path_orig_cell(
            (cell, phonon.primitive.scaled_positions, kinds), symprec=phonon.symmetry.tolerance
        )
    named = {_pretty(name): np.array(point, dtype=float) for name, point in found["point_coords"].items()}
    return named, [(_pretty(start), _pretty(end)) for start, end in found["path"]]


def _pretty(name: str) -> str:
    return _PLAIN.get(name, name)


def _own_path(path: Any, named: Mapping[str, Array]) -> BandPath:
    words: Sequence[Any] = path.replace(_BREAK, f" {_BREAK} ").split() if isinstance(path, str) else list(path)
    corners, labels, last = [], [], None
    for word in words:
        point = None if word is None or (isinstance(word, str) and word == _BREAK) else _point(word, named)
        if point is not None and last is not None:
            corners.append((last[1], point[1]))
            labels.append((last[0], point[0]))
        last = point
    if not corners:
        raise ConfigError(f"path is {path!r}: it has no segment; give two points or more, as in 'Γ X | Γ L'")
    if any(np.allclose(start, end) for start, end in corners):
        raise ConfigError(f"path is {path!r}: one of its segments starts and ends at the same point")
    return BandPath(np.array(corners), tuple(labels))


def _point(word: Any, named: Mapping[str, Array]) -> tuple[str, Array]:
    if isinstance(word, str) and "," not in word:
        label = _PLAIN.get(word.upper(), word)
        if label not in named:
            raise ConfigError(
                f"path names the point {word!r}: this Brillouin zone has {', '.join(sorted(named))}; give others by "
                "coordinates, as in 0.5,0.5,0"
            )
        return label, named[label]
    if isinstance(word, str):
        return word, _coordinates([_number(part) for part in word.split(",")], word)
    if len(word) == 2 and isinstance(word[0], str):
        return word[0], _coordinates(word[1], word)
    values = _coordinates(word, word)
    return "(" + " ".join(f"{x:g}" for x in values) + ")", values


def _number(text: str) -> Any:
    top, _, bottom = text.partition("/")
    try:
        return float(top) / float(bottom) if bottom else float(top)
    except (ValueError, ZeroDivisionError):
        return text


def _coordinates(values: Any, word: Any) -> Array:
    if len(values) != 3 or not all(isinstance(x, Real) and np.isfinite(float(x)) for x in values):
        raise ConfigError(f"path has the point {word!r}: coordinates are three finite numbers, as in 0.5,0.5,0")
    return np.array(values, dtype=float)
