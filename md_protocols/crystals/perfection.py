"""How well relaxed the perfect crystal is from which energies of defects are counted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ase import Atoms
from ase.units import GPa

from mlcalc.ground.remedies import RELAX_FIRST, RELAX_LAYER_FIRST
from mlcalc.ground.warn import warn

from ..errors import PhysicsWarning
from ..evaluator import Evaluate, Evaluated, Evaluator
from .vacuum import dilution, vacuum_axes, with_vacuum

FORCE_LIMIT = 1e-3  # eV/Å
STRESS_LIMIT_GPA = 0.1  # GPa: times a vacancy's volume of 12 Å^3 it is 7 meV
_RELAX_LAYER = replace(
    RELAX_LAYER_FIRST, python="relax it first, in its plane, mlcalc.md_protocols.relax_crystal(atoms)"
)


@dataclass(frozen=True)
class Perfection:
    """How well relaxed the perfect crystal is."""

    max_force: float  # eV/Å
    max_stress_GPa: float | None  # noqa: N815 - largest component, of the matter without vacuum; None where there is none
    layer: bool = False  # whether there is vacuum

    @classmethod
    def of(cls, found: Evaluated, atoms: Atoms, evaluate: Evaluate | None = None) -> Perfection:
        """found: for the crystal or a supercell; atoms: its unit cell, evaluated with vacuum if pbc left no stress."""
        force = float(np.linalg.norm(found.forces, axis=1).max())
        layer, stress, crystal = bool(vacuum_axes(atoms).any()), found.stress, atoms
        if stress is None and not atoms.pbc.all() and _has_stress(atoms, evaluate):
            crystal = with_vacuum(atoms)
            stress = Evaluator(atoms.calc).one(crystal, stress=True, name="the crystal with vacuum around it").stress
        if stress is None:
            return cls(force, None, layer)
        return cls(force, float(np.abs(stress).max() / GPa) * dilution(crystal), layer)

    def with_forces(self, found: Evaluated) -> Perfection:
        """The same strain, and the forces of another supercell of the crystal."""
        return replace(self, max_force=float(np.linalg.norm(found.forces, axis=1).max()))

    def tell(self) -> None:
        """A PhysicsWarning where the crystal is not relaxed."""
        unrelaxed = []
        if self.max_force > FORCE_LIMIT:
            unrelaxed.append(f"forces of {self.max_force:.2g} eV/Å (limit {FORCE_LIMIT:g})")
        if self.max_stress_GPa is not None and self.max_stress_GPa > STRESS_LIMIT_GPA:
            unrelaxed.append(f"a stress of {self.max_stress_GPa:.2g} GPa (limit {STRESS_LIMIT_GPA:g})")
        if unrelaxed:
            warn(
                PhysicsWarning(
                    f"the perfect crystal is not relaxed: it has {' and '.join(unrelaxed)}, so the energies belong to "
                    "a strained crystal",
                    remedies=[_RELAX_LAYER if self.layer else RELAX_FIRST],
                )
            )


def offers_stress(atoms: Atoms, evaluate: Any, cell: str = "fixed") -> bool:
    """Whether the stress of the perfect crystal can be asked for along with its forces."""
    return bool(atoms.pbc.all()) and (cell != "fixed" or _has_stress(atoms, evaluate))


def _has_stress(atoms: Atoms, evaluate: Any) -> bool:
    return evaluate is None and "stress" in getattr(atoms.calc, "implemented_properties", ())
