"""Whether the displacement is small and the supercell large enough: changes of frequencies on common q-points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from .. import checks, plotting
from ..crystals.supercells import supercell_matrix
from ..errors import ConfigError
from ..folders.storage import load_arrays, save_arrays
from .dispersion import PhononDispersion
from .finite_displacements import phonon_dispersion
from .meshes import run_mesh

Array = NDArray[np.float64]
_GRID = 6  # q-points along each reciprocal vector


@dataclass(frozen=True, eq=False)
class PhononConvergence:
    """Frequencies on one mesh of q-points for a series of settings, compared with the best of them."""

    what: str  # "displacement" (Å) or "supercell"
    labels: tuple[str, ...]  # (K) the settings
    reference: int  # which of them is compared with: the smallest displacement, the largest supercell
    sizes: Array  # (K,) displacement (Å), or number of atoms of the supercell
    qpoints: Array  # (Q, 3) fractional coordinates of the primitive cell; Γ left out
    frequencies: Array  # (K, Q, bands) THz
    max_change: Array  # (K,) THz, largest difference to the reference
    rms_change: Array  # (K,) THz
    asr_residuals: Array  # (K,) eV/Å^2, before symmetrisation

    def __str__(self) -> str:
        rows = [
            f"{label}: largest change {largest:.3g} THz, rms {rms:.3g} THz, acoustic sum rule {asr:.2g} eV/Å^2"
            for label, largest, rms, asr in zip(
                self.labels, self.max_change, self.rms_change, self.asr_residuals, strict=True
            )
        ]
        return "\n".join([f"{self.what} convergence, compared with {self.labels[self.reference]}", *rows])

    def plot(self, ax: Any = None) -> Any:
        """Axes with the largest and the rms change of frequencies over the other settings, logarithmic."""
        ax = plotting.axes(ax)
        others = [k for k in np.argsort(self.sizes) if k != self.reference]
        places = np.arange(len(others))
        ax.semilogy(places, np.maximum(self.max_change[others], 1e-9), "o-", label="largest")
        ax.semilogy(places, np.maximum(self.rms_change[others], 1e-9), "s-", label="rms")
        ax.set_xticks(places, [self.labels[k] for k in others])
        ax.set_xlabel("displacement (Å)" if self.what == "displacement" else "supercell")
        ax.set_ylabel(f"change of frequencies against {self.labels[self.reference]} (THz)")
        ax.legend(frameon=False)
        return ax

    def to_json(self) -> dict[str, Any]:
        """Plain values with units in their names."""
        return {
            "what": self.what,
            "settings": list(self.labels),
            "displacements_A" if self.what == "displacement" else "atoms": self.sizes.tolist(),
            "reference": self.labels[self.reference],
            "max_change_THz": self.max_change.tolist(),
            "rms_change_THz": self.rms_change.tolist(),
            "asr_residuals_eV_per_A2": self.asr_residuals.tolist(),
            "q_points": len(self.qpoints),
        }

    def save(self, path: str | Path) -> None:
        """Write everything to one .npz file, without pickle."""
        names = ("sizes", "qpoints", "frequencies", "max_change", "rms_change", "asr_residuals")
        arrays = {name: getattr(self, name) for name in names}
        save_arrays(
            path, "phonon_convergence", arrays, {"what": self.what, "labels": self.labels, "reference": self.reference}
        )

    @classmethod
    def load(cls, path: str | Path) -> PhononConvergence:
        """The comparison of a file written by `save`."""
        arrays, info = load_arrays(path, "phonon_convergence")
        named: dict[str, Any] = {**arrays, "what": info["what"], "labels": tuple(info["labels"])}
        named["reference"] = info["reference"]
        return cls(**named)


def displacement_convergence(
    atoms: Atoms, *, supercell: Any, displacements: Sequence[float] = (0.003, 0.01, 0.03), **settings: Any
) -> PhononConvergence:
    """How frequencies change with the displacement (Å), compared with the smallest; settings of `phonon_dispersion`.

    Large displacements feel anharmonicity, small ones the noise of the forces: there should be a range without either.
    """
    values = [checks.number("displacement", d, above=0.0, hint=" Å") for d in displacements]
    found = [phonon_dispersion(atoms, supercell=supercell, displacement=d, **settings) for d in _several(values)]
    return _compared("displacement", [f"{d:g}" for d in values], np.array(values), found, int(np.argmin(values)))


def supercell_convergence(atoms: Atoms, *, supercells: Sequence[Any], **settings: Any) -> PhononConvergence:
    """How frequencies change with the supercell, compared with the largest; settings of `phonon_dispersion`."""
    matrices = [supercell_matrix(s) for s in _several(list(supercells))]
    found = [phonon_dispersion(atoms, supercell=matrix, **settings) for matrix in matrices]
    sizes = np.array([len(result.force_constants) for result in found], dtype=float)
    return _compared("supercell", [_named(matrix) for matrix in matrices], sizes, found, int(np.argmax(sizes)))


def _several(values: list[Any]) -> list[Any]:
    if len(values) < 2:
        raise ConfigError(f"there is {len(values)} setting to compare: give at least two")
    return values


def _named(matrix: NDArray[np.int64]) -> str:
    if np.array_equal(matrix, np.diag(np.diag(matrix))):
        return "×".join(str(n) for n in np.diag(matrix))
    return "[" + "; ".join(" ".join(str(n) for n in row) for row in matrix) + "]"


def _compared(
    what: str, labels: list[str], sizes: Array, found: list[PhononDispersion], reference: int
) -> PhononConvergence:
    mesh = run_mesh(found[reference].phonopy(), (_GRID, _GRID, 1 if found[reference].dimensions == 2 else _GRID))
    points = np.array(mesh.qpoints)
    points = points[np.linalg.norm(points - np.rint(points), axis=1) > 1e-9]
    frequencies = np.array([result.at(points) for result in found])
    changes = frequencies - frequencies[reference]
    return PhononConvergence(
        what=what,
        labels=tuple(labels),
        reference=reference,
        sizes=sizes,
        qpoints=points,
        frequencies=frequencies,
        max_change=np.abs(changes).max(axis=(1, 2)),
        rms_change=np.sqrt((changes**2).mean(axis=(1, 2))),
        asr_residuals=np.array([result.asr_residual for result in found]),
    )
