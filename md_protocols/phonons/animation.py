"""Frames of a single mode of vibration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from .. import checks
from ..crystals.supercells import supercell_matrix
from ..errors import ConfigError
from .crystal import to_ase

if TYPE_CHECKING:
    from phonopy import Phonopy


def mode_animation(
    phonon: Phonopy,
    q: Any,
    band: int,
    *,
    amplitude: float = 0.3,
    n_frames: int = 24,
    supercell: Any = None,
    pbc: Any = True,
) -> list[Atoms]:
    """One period of a mode in equal steps: positions x = X + A Re[e_a exp(i (2 pi q.X - phase)) / sqrt(m_a)].

    band: counted from 0, the lowest.  amplitude: Å, of the atom that moves most; X is where it rests.
    supercell: repetitions of the primitive cell; None for the fewest, up to 12, that hold whole waves.  pbc: of the
    frames.
    """
    point = np.asarray(q, dtype=float)
    if point.shape != (3,) or not np.isfinite(point).all():
        raise ConfigError(f"q is {q!r}: give one q-point as three finite numbers", setting="q", value=q)
    band = checks.whole("band", band, at_least=0)
    amplitude = checks.number("amplitude", amplitude, above=0.0, hint=" Å")
    found = phonon.run_qpoints(point[None], with_eigenvectors=True)
    if band >= found.frequencies.shape[1]:
        bands = found.frequencies.shape[1]
        raise ConfigError(
            f"band is {band}: there are {bands}, counted from 0", setting="band", value=band, limit=bands - 1
        )
    primitive = to_ase(phonon.primitive)
    vector = np.array(found.eigenvectors)[0, :, band].reshape(-1, 3) / np.sqrt(primitive.get_masses())[:, None]
    matrix = supercell_matrix(_whole_waves(point) if supercell is None else supercell)
    cells = np.diag(matrix)
    if np.any(matrix != np.diag(cells)):
        raise ConfigError(
            f"supercell is {matrix.tolist()}: an animation repeats the primitive cell along its axes only",
            setting="supercell",
            value=matrix.tolist(),
        )
    steps = np.array(list(np.ndindex(*cells)))
    positions = (steps @ primitive.cell.array)[:, None] + primitive.positions
    phases = np.exp(2j * np.pi * (positions @ np.linalg.inv(primitive.cell.array) @ point))
    waves = (phases[..., None] * vector).reshape(-1, 3)
    waves *= amplitude / np.linalg.norm(waves, axis=1).max()
    base = Atoms(
        numbers=np.tile(primitive.numbers, len(steps)),
        positions=positions.reshape(-1, 3),
        cell=cells[:, None] * primitive.cell.array,
        pbc=pbc,
        info={"frequency_THz": float(found.frequencies[0, band]), "band": band, "q": point},
    )
    result = []
    for k in range(checks.whole("n_frames", n_frames, at_least=2)):
        frame = base.copy()
        frame.positions += (waves * np.exp(-2j * np.pi * k / n_frames)).real
        result.append(frame)
    return result


def _whole_waves(q: Any) -> list[int]:
    return [next((n for n in range(1, 13) if abs(n * x - round(n * x)) < 1e-3), 1) for x in q]
