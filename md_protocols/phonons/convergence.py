"""Whether the displacement is small and the supercell large enough: changes of frequencies on common q-points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from .. import checks, plotting
from ..crystals.supercells import supercell_matrix
from ..errors import ConfigError
from ..results import Arrays, Quantity, Result
from .dispersion import PhononDispersion
from .finite_displacements import phonon_dispersion
from .meshes import run_mesh

Array = NDArray[np.float64]
_GRID = 6  # q-points along each reciprocal vector


@dataclass(frozen=True, eq=False, repr=False)
class PhononConvergence(Result):
    """Frequencies on one mesh of q-points for a series of settings, compared with the best of them."""

    kind = "phonon_convergence"

    what: Annotated[str, Quantity('"displacement" or "supercell"')]
    settings: Annotated[tuple[str, ...], Quantity("as they are named in texts and pictures", shape="(K,)")]
    reference: Annotated[
        int, Quantity("which of them is compared with: the smallest displacement, the largest supercell")
    ]
    displacements: Annotated[Array | None, Quantity("that were compared", "Å", "(K,)")]
    n_atoms: Annotated[NDArray[np.int64] | None, Quantity("of the supercells that were compared", shape="(K,)")]
    qpoints: Annotated[Array, Quantity("of the primitive cell, Γ left out", shape="(Q, 3)", json=False)]
    frequencies: Annotated[Array, Quantity("of each setting", "THz", "(K, Q, bands)", json=False)]
    max_change: Annotated[Array, Quantity("largest difference to the reference", "THz", "(K,)")]
    rms_change: Annotated[Array, Quantity("root mean square of the differences", "THz", "(K,)")]
    asr_residuals: Annotated[Array, Quantity("before symmetrisation", "eV/Å^2", "(K,)")]

    @classmethod
    def upgraded(cls, arrays: Arrays, info: dict[str, Any]) -> tuple[Arrays, dict[str, Any]]:
        """Of files with one array of displacements or numbers of atoms, and supercells by columns."""
        if "labels" in info:
            sizes = arrays.pop("sizes")
            info["settings"] = [_turned(label) for label in info.pop("labels")]
            arrays |= {"displacements": sizes} if info["what"] == "displacement" else {"n_atoms": sizes.astype(int)}
        return arrays, info

    def __str__(self) -> str:
        rows = [
            f"{setting}: largest change {largest:.3g} THz, rms {rms:.3g} THz, acoustic sum rule {asr:.2g} eV/Å^2"
            for setting, largest, rms, asr in zip(
                self.settings, self.max_change, self.rms_change, self.asr_residuals, strict=True
            )
        ]
        return "\n".join([f"{self.what} convergence, compared with {self.settings[self.reference]}", *rows])

    def plot(self, ax: Any = None) -> Any:
        """Axes with the largest and the rms change of frequencies over the other settings, logarithmic."""
        ax = plotting.axes(ax)
        sizes: Any = self.n_atoms if self.displacements is None else self.displacements
        others = [k for k in np.argsort(sizes) if k != self.reference]
        places = np.arange(len(others))
        ax.semilogy(places, np.maximum(self.max_change[others], 1e-9), "o-", label="largest")
        ax.semilogy(places, np.maximum(self.rms_change[others], 1e-9), "s-", label="rms")
        ax.set_xticks(places, [self.settings[k] for k in others])
        ax.set_xlabel("displacement (Å)" if self.what == "displacement" else "supercell")
        ax.set_ylabel(f"change of frequencies against {self.settings[self.reference]} (THz)")
        ax.legend(frameon=False)
        return ax


def _turned(label: str) -> str:
    """The name of a supercell with its matrix transposed."""
    if not label.startswith("["):
        return label
    return _named(np.array([row.split() for row in label.strip("[]").split(";")], dtype=np.int64).T)


def displacement_convergence(
    atoms: Atoms, *, supercell: Any, displacements: Sequence[float] = (0.003, 0.01, 0.03), **settings: Any
) -> PhononConvergence:
    """How frequencies change with the displacement (Å), compared with the smallest; settings of `phonon_dispersion`.

    Large displacements feel anharmonicity, small ones the noise of the forces: there should be a range without either.
    """
    values = [checks.number("displacement", d, above=0.0, hint=" Å") for d in displacements]
    found = [phonon_dispersion(atoms, supercell=supercell, displacement=d, **settings) for d in _several(values)]
    return _compared("displacement", [f"{d:g}" for d in values], found, int(np.argmin(values)), np.array(values))


def supercell_convergence(atoms: Atoms, *, supercells: Sequence[Any], **settings: Any) -> PhononConvergence:
    """How frequencies change with the supercell, compared with the largest; settings of `phonon_dispersion`."""
    matrices = [supercell_matrix(s) for s in _several(list(supercells))]
    found = [phonon_dispersion(atoms, supercell=matrix, **settings) for matrix in matrices]
    largest = int(np.argmax([len(result.force_constants) for result in found]))
    return _compared("supercell", [_named(matrix) for matrix in matrices], found, largest, None)


def _several(values: list[Any]) -> list[Any]:
    if len(values) < 2:
        raise ConfigError(f"there is {len(values)} setting to compare: give at least two")
    return values


def _named(matrix: NDArray[np.int64]) -> str:
    if np.array_equal(matrix, np.diag(np.diag(matrix))):
        return "×".join(str(n) for n in np.diag(matrix))
    return "[" + "; ".join(" ".join(str(n) for n in row) for row in matrix) + "]"


def _compared(
    what: str, settings: list[str], found: list[PhononDispersion], reference: int, displacements: Array | None
) -> PhononConvergence:
    mesh = run_mesh(found[reference].phonopy(), (_GRID, _GRID, 1 if found[reference].dimensions == 2 else _GRID))
    points = np.array(mesh.qpoints)
    points = points[np.linalg.norm(points - np.rint(points), axis=1) > 1e-9]
    frequencies = np.array([result.at(points) for result in found])
    changes = frequencies - frequencies[reference]
    return PhononConvergence(
        what=what,
        settings=tuple(settings),
        reference=reference,
        displacements=displacements,
        n_atoms=np.array([len(result.force_constants) for result in found]) if displacements is None else None,
        qpoints=points,
        frequencies=frequencies,
        max_change=np.abs(changes).max(axis=(1, 2)),
        rms_change=np.sqrt((changes**2).mean(axis=(1, 2))),
        asr_residuals=np.array([result.asr_residual for result in found]),
    )
