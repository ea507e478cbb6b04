"""Files of results that the last version wrote load with the same numbers, under today's names and units."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.units import GPa

from mlcalc.errors import ResultFileError
from mlcalc.md_protocols import (
    ElasticConstants,
    EquationOfState,
    MigrationBarrier,
    Relaxation,
    StackingFault,
    SurfaceEnergy,
    VacancyEnergy,
    VacancySeries,
)
from mlcalc.md_protocols.results import Result

FOLDER = Path(__file__).parents[1] / "data" / "results"
KINDS: dict[str, type[Result]] = {
    cls.kind: cls
    for cls in (
        Relaxation,
        ElasticConstants,
        EquationOfState,
        VacancyEnergy,
        VacancySeries,
        MigrationBarrier,
        SurfaceEnergy,
        StackingFault,
    )
}
RENAMED = {
    "relaxation": {"max_stress_GPa": ("max_stress_eV_per_A3", GPa), "cell_A": "lattice_A"},
    "elastic_constants": {
        "clamped_stiffness_GPa": "clamped_GPa",
        "conventional_stiffness_GPa": "conventional_GPa",
        "operations": "n_operations",
    },
    "equation_of_state": {
        "kind": None,
        "atoms": "n_atoms",
        "V0_A3_per_atom": "V0_per_atom_A3",
        "E0_eV_per_atom": "E0_per_atom_eV",
        "lattice_scale": "scale",
        "residual_meV_per_atom": ("residual_eV_per_atom", 1e-3),
    },
    "vacancy_energy": {"converged": "each_converged"},
    "migration_barrier": {"fmax_eV_per_A": "band_fmax_eV_per_A"},
    "surface_energy": {
        "layers": "n_layers",
        "converged": "each_converged",
        "conventional_cellpar_A_degrees": "cellpar",
        "plane_spacing_A": "spacing_A",
    },
    "stacking_fault": {"layers": "n_layers", "converged": "each_converged"},
}  # today's names, with the factor from the earlier unit; None for what is looked at by itself


def before(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "crystal_properties.json").read_text(encoding="utf-8"))[kind]
    return found


def agree(kind: str, old: dict[str, Any], new: dict[str, Any]) -> None:
    """All that the last version said is there, and says the same."""
    for name, value in old.items():
        today = RENAMED.get(kind, {}).get(name, name)
        if today is None:
            continue
        key, factor = today if isinstance(today, tuple) else (today, 1.0)
        if name == "hops":
            assert [{"vector": hop["vector_A"], "distance": hop["distance_A"]} for hop in new[key]] == [
                {"vector": hop["vector"], "distance": hop["distance"]} for hop in value
            ]
        elif name in ("others", "results", "moduli"):
            inner = {"others": "surface_energy", "results": "vacancy_energy"}.get(name, "")
            pairs = zip(value, new[key], strict=True) if isinstance(value, list) else [(value, new[key])]
            for one, other in pairs:
                agree(inner, one, other)
        elif isinstance(value, float) or (isinstance(value, list) and np.asarray(value).dtype.kind == "f"):
            np.testing.assert_allclose(new[key], np.asarray(value) * factor, rtol=1e-12, atol=1e-14, err_msg=name)
        else:
            assert new[key] == value, name


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_files_of_the_last_version_load(kind: str, tmp_path: Path) -> None:
    found = KINDS[kind].load(FOLDER / f"{kind}.npz")
    agree(kind, before(kind), found.to_json())
    found.save(tmp_path / "again.npz")
    again = KINDS[kind].load(tmp_path / "again.npz")
    assert again.to_json() == found.to_json()
    assert str(again) == str(found)
    assert type(found).__name__ in repr(found)
    found.plot()  # type: ignore[attr-defined]


def test_a_twin_that_left_its_units_would_be_noticed() -> None:
    found = ElasticConstants.load(FOLDER / "elastic_constants.npz").to_json()
    found["residual_stress_GPa"] = found["residual_stress_eV_per_A3"]
    with pytest.raises(AssertionError, match="residual_stress_GPa"):
        agree("elastic_constants", before("elastic_constants"), found)


def test_structures_come_along() -> None:
    surface = SurfaceEnergy.load(FOLDER / "surface_energy.npz")
    assert [len(slab) for slab in surface.slabs] == surface.n_atoms.tolist()
    assert [len(other.slabs) for other in surface.others] == [len(surface.n_layers)] * len(surface.others) != []
    vacancy = VacancyEnergy.load(FOLDER / "vacancy_energy.npz")
    assert [len(atoms) for atoms in vacancy.structures] == [vacancy.n_atoms - 1]
    assert vacancy.supercell.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]  # rows, then as now
    barrier = MigrationBarrier.load(FOLDER / "migration_barrier.npz")
    assert [len(image) for image in barrier.images] == [barrier.n_atoms - 1] * len(barrier.energies)
    assert (barrier.band_fmax, barrier.fmax) == (0.1, None)
    assert EquationOfState.load(FOLDER / "equation_of_state.npz").eos == "birch_murnaghan"
    series = VacancySeries.load(FOLDER / "vacancy_series.npz")
    assert [len(result.structures[0]) for result in series.results] == (series.n_atoms - 1).tolist()


def test_one_kind_is_not_another(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "relaxation.npz", tmp_path / "x.npz")
    with pytest.raises(ResultFileError, match="holds a 'relaxation'"):
        VacancyEnergy.load(tmp_path / "x.npz")
