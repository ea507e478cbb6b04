"""What equations of state, elastic constants and structure files refuse or say, since a number would be wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.io import write
from click.testing import CliRunner
from defect_crystals import copper

from mlcalc.cli.structures import read_structure
from mlcalc.cli.verbs.eos import eos_command
from mlcalc.errors import DataError
from mlcalc.md_protocols.elasticity.constants import elastic_constants
from mlcalc.md_protocols.elasticity.equation_of_state import equation_of_state
from mlcalc.md_protocols.errors import ConfigError, PhysicsWarning
from mlcalc.md_protocols.relaxation.outcome import Relaxation
from mlcalc.md_protocols.relaxation.relax import relax

SITE = """data_x
_cell_length_a 3.7
_cell_length_b 3.7
_cell_length_c 3.7
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'F m -3 m'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
"""


def slab() -> Atoms:
    atoms = fcc111("Cu", (1, 1, 3), a=copper().cell[0, 0], vacuum=6.0, periodic=True)
    atoms.calc = EMT()
    return relax(atoms, cell="in-plane", fmax=1e-6, smax=1e-9).atoms


@pytest.mark.parametrize(
    ("change", "settings", "text"),
    [
        (
            lambda atoms: atoms.center(vacuum=5.0, axis=2),
            {},
            r"vacuum .* along c, and its volume, and with it V0",
        ),
        (lambda atoms: atoms.set_constraint(FixAtoms([0])), {}, r"has constraints \(FixAtoms\), which hold atoms"),
        (
            lambda atoms: None,
            {"relax_ions": False, "relax_shape": True},
            r"relax_ions False, .*relax_ions=True, or pass relax_shape=F",
        ),
    ],
)
def test_no_equation_of_state(change: Any, settings: dict[str, Any], text: str) -> None:
    atoms = copper()
    change(atoms)
    with pytest.raises(ConfigError, match=text):
        equation_of_state(atoms, **settings)


def test_constraints_do_not_matter_to_clamped_ions() -> None:
    atoms = copper()
    expected = equation_of_state(atoms, relax_ions=False, n_volumes=5)
    atoms.set_constraint(FixAtoms([0]))
    assert equation_of_state(atoms, relax_ions=False, n_volumes=5).B0_GPa == expected.B0_GPa


def test_the_command_says_so_in_its_own_words_before_it_relaxes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlcalc.cli.relaxing.relax_crystal", lambda *_, **__: pytest.fail("relaxed"))

    write(tmp_path / "Cu.extxyz", bulk("Cu", a=3.63))
    words = [str(tmp_path / "Cu.extxyz"), "--model", "cu-hvnet", "--clamped", "--relax-shape"]
    done = CliRunner().invoke(eos_command, words)
    assert isinstance(done.exception, ConfigError)


def test_vacuum_is_told_where_it_makes_constants_meaningless() -> None:
    atoms = slab()
    calculator = atoms.calc
    text = r"vacuum .* along c, .* call elastic_constants\(.*slab=True\)"
    with pytest.warns(PhysicsWarning, match=f"elastic constants: the cell has {text}"):
        elastic_constants(atoms, relax_ions=False)  # planes that only follow the strain do resist along z
    single = atoms[:1]
    single.calc = calculator
    with pytest.warns(PhysicsWarning, match=f"not stable.*{text}"):
        elastic_constants(relax(single, cell="in-plane", fmax=1e-6, smax=1e-9).atoms)
    assert elastic_constants(atoms, slab=True, relax_ions=False).stable
    with pytest.warns(PhysicsWarning, match=r"slab=True, but the structure has no vacuum along z"):
        elastic_constants(copper(), slab=True, relax_ions=False)
    primitive = bulk("Cu")
    primitive.calc = EMT()
    with pytest.raises(ConfigError, match=r"slab=True is for slabs with .* leave the setting out for a crystal"):
        elastic_constants(primitive, slab=True)


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ("Cu1 Cu 0 0 0 0.75\nNi1 Ni 0 0 0 0.25\n", r"occupied in part \(Cu 0\.75, Ni 0\.25\)"),
        ("Cu1 Cu 0 0 0 0.75\n", r"occupied in part \(Cu 0\.75\)"),
        ("Cu1 Cu 0 0 0 1.0\nNi1 Ni 0.5 0.5 0.5 0.5\n", r"occupied in part \(Ni 0\.5\)"),
        ("Cu1 Cu 0 0 0 1.0\n", ""),
        ("Cu1 Cu 0 0 0 1.0\nNi1 Ni 0.5 0.5 0.5 1.0\n", ""),
    ],
)
def test_sites_in_part_are_refused(tmp_path: Path, rows: str, text: str) -> None:
    path = tmp_path / "x.cif"
    path.write_text(SITE + rows)
    if not text:
        assert len(read_structure(str(path))) == 4 * rows.count("\n")
        return
    with pytest.raises(DataError, match=text):
        read_structure(str(path))


def test_results_keep_moments_charges_and_tags(tmp_path: Path) -> None:
    atoms = copper()
    atoms.set_initial_magnetic_moments([1.0, -1.0, 0.5, 0.0])
    atoms.set_initial_charges([0.1, 0.2, -0.3, 0.0])
    atoms.set_tags([3, 2, 1, 0])
    relax(atoms).save(tmp_path / "relaxed.npz")
    again = Relaxation.load(tmp_path / "relaxed.npz").atoms
    for name in ("initial_magmoms", "initial_charges", "tags"):
        np.testing.assert_array_equal(again.arrays[name], atoms.arrays[name])
    plain = copper()
    relax(plain).save(tmp_path / "plain.npz")
    assert set(Relaxation.load(tmp_path / "plain.npz").atoms.arrays) <= {"numbers", "positions", "masses"}
