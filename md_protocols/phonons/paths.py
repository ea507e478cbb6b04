"""Paths through the Brillouin zone, of crystals and of planes."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..errors import ConfigError

if TYPE_CHECKING:
    from phonopy import Phonopy


Array = NDArray[np.float64]
_SAME = 1e-3  # relative: lengths and cosines taken as equal


def plane_points(cell: Array) -> tuple[dict[str, Array], list[tuple[str, str]]]:
    """Named points of a plane's Brillouin zone and the path through them, by the symmetry of its lattice.

    Hexagonal Γ-M-K-Γ, square Γ-X-M-Γ, rectangular Γ-X-S-Y-Γ, centered rectangular Γ-X-S-Γ-Y (X and Y along the axes of
    the rectangle), oblique Γ-X-C-Y-Γ-C.  The points are in fractional coordinates of the cell given.
    """
    reduced, steps = _reduced(cell[:2])
    kind = _kind(reduced)
    if kind == "centered rectangular" and abs(_length(reduced[0]) / _length(reduced[1]) - 1.0) > _SAME:
        change = np.array([[0.0, 1.0], [-1.0, 1.0]])  # from the short side of the rectangle to the rhombus
        change = change if reduced[0] @ reduced[1] > 0 else np.abs(change)
        reduced, steps = change @ reduced, change @ steps
    turn = -1.0 if reduced[0] @ reduced[1] > 1e-6 * _length(reduced[0]) ** 2 else 1.0
    reduced, steps = reduced * [[1.0], [turn]], steps * [[1.0], [turn]]  # an angle of 90 degrees or more
    points, path = _POINTS[kind]
    # A point with coordinates x on the reduced reciprocal axes has phases x = k . a; those on the cell's follow.
    back = np.linalg.inv(steps)
    named = {name: np.append(back @ np.array(x), 0.0) for name, x in points.items()}
    return named, list(itertools.pairwise(path))


_POINTS: dict[str, tuple[dict[str, tuple[float, float]], tuple[str, ...]]] = {
    "hexagonal": ({"Γ": (0, 0), "M": (0.5, 0), "K": (1 / 3, 1 / 3)}, ("Γ", "M", "K", "Γ")),
    "square": ({"Γ": (0, 0), "X": (0.5, 0), "M": (0.5, 0.5)}, ("Γ", "X", "M", "Γ")),
    "rectangular": ({"Γ": (0, 0), "X": (0.5, 0), "Y": (0, 0.5), "S": (0.5, 0.5)}, ("Γ", "X", "S", "Y", "Γ")),
    "centered rectangular": (
        {"Γ": (0, 0), "X": (0.5, 0.5), "S": (0.5, 0), "Y": (0.5, -0.5)},
        ("Γ", "X", "S", "Γ", "Y"),
    ),
    "oblique": ({"Γ": (0, 0), "X": (0.5, 0), "Y": (0, 0.5), "C": (0.5, 0.5)}, ("Γ", "X", "C", "Y", "Γ", "C")),
}


def _reduced(vectors: Array) -> tuple[Array, Array]:
    """The two shortest vectors of the lattice (Gauss), and the whole numbers that make them of the given ones."""
    a, b = np.array(vectors, dtype=float)
    steps = np.eye(2)
    while True:
        if a @ a > b @ b * (1 + 1e-9):
            a, b, steps = b, a, steps[::-1]
        shift = np.rint(a @ b / (a @ a) * (1 - 1e-9))  # a vector half-way stays where it is
        if shift == 0:
            return np.array([a, b]), np.array(steps)
        b, steps = b - shift * a, np.array([steps[0], steps[1] - shift * steps[0]])


def _kind(reduced: Array) -> str:
    a, b = reduced
    equal = abs(_length(a) / _length(b) - 1.0) < _SAME
    cosine = abs(float(a @ b) / (_length(a) * _length(b)))
    if cosine < _SAME:
        return "square" if equal else "rectangular"
    if equal:
        return "hexagonal" if abs(cosine - 0.5) < _SAME else "centered rectangular"
    half_way = abs(2 * abs(float(a @ b)) / float(a @ a) - 1.0) < _SAME
    return "centered rectangular" if half_way else "oblique"


def _length(vector: Array) -> float:
    return float(np.linalg.norm(vector))


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


def sample(path: BandPath, npoints: int, cell: Array) -> SampledPath:
    """So many q-points along each segment, its ends included."""
    npoints = checks.whole("npoints", npoints, at_least=2)
    fractions = np.linspace(0.0, 1.0, npoints)[None, :, None]
    qpoints = path.corners[:, :1] * (1.0 - fractions) + path.corners[:, 1:] * fractions
    reciprocal = np.linalg.inv(cell).T
    lengths = np.linalg.norm((path.corners[:, 1] - path.corners[:, 0]) @ reciprocal, axis=1)
    starts = np.concatenate([[0.0], np.cumsum(lengths)[:-1]])
    distances = starts[:, None] + lengths[:, None] * fractions[:, :, 0]
    first = npoints * np.arange(len(lengths))
    return SampledPath(
        qpoints.reshape(-1, 3), distances.ravel(), np.stack([first, first + npoints], axis=1), path.labels
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
        raise ConfigError(
            f"path is {path!r}: it has no segment; give two points or more, as in 'Γ X | Γ L'",
            setting="path",
            value=path,
        )
    if any(np.allclose(start, end) for start, end in corners):
        raise ConfigError(
            f"path is {path!r}: one of its segments starts and ends at the same point", setting="path", value=path
        )
    return BandPath(np.array(corners), tuple(labels))


def _point(word: Any, named: Mapping[str, Array]) -> tuple[str, Array]:
    if isinstance(word, str) and "," not in word:
        label = _PLAIN.get(word.upper(), word)
        if label not in named:
            raise ConfigError(
                f"path names the point {word!r}: this Brillouin zone has {', '.join(sorted(named))}; give others by "
                "coordinates, as in 0.5,0.5,0",
                setting="path",
                value=word,
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
        raise ConfigError(
            f"path has the point {word!r}: coordinates are three finite numbers, as in 0.5,0.5,0",
            setting="path",
            value=word,
        )
    return np.array(values, dtype=float)
