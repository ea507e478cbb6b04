"""The ASE calculator: results, caching, bad input, copies and threads."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.calculators.morse import MorsePotential
from small_networks import random_network

from mlcalc import MLCalculator, evaluate
from mlcalc.errors import (
    CellError,
    DeviceError,
    EmptyStructureError,
    MissingExtraError,
    NonFiniteError,
    NonFiniteResultError,
    OutOfMemoryError,
    OverlapError,
    StructureError,
    TooManyEdgesError,
    UnknownElementError,
    UnknownModelError,
)
from mlcalc.md_protocols import run_nve
from mlcalc.md_protocols.errors import ConfigError
from mlcalc.models import Graph

NETWORK = random_network(
    "hvnet", {"elements": ("Cu",), "cutoff": 4.0, "hidden_channels": 8, "num_layers": 2, "energy_shift": (-3.7,)}
)
WATER = random_network("visnet", {"elements": ("H", "O"), "hidden_channels": 16, "num_layers": 2, "num_heads": 2})


def copper(repeat: int = 2, seed: int = 1) -> Atoms:
    atoms = bulk("Cu", cubic=True) * repeat
    atoms.rattle(0.05, seed=seed)
    return atoms


def calculator(**settings: object) -> MLCalculator:
    return MLCalculator(NETWORK, **{"dtype": "float64", **settings})


@dataclass
class MorsePairs:
    """The Morse potential of ASE's calculator, as a two-line Potential."""

    cutoff: float = 5.0

    def __call__(self, graph: Graph) -> torch.Tensor:
        r = graph.edge_vectors().norm(dim=1)
        inner, outer = 0.8 * self.cutoff, self.cutoff
        x = ((r - inner) / (outer - inner)).clamp(0, 1)
        pair = (torch.exp(-12 * (r - 1)) - 2 * torch.exp(-6 * (r - 1))) * (1 - 10 * x**3 + 15 * x**4 - 6 * x**5)
        return torch.zeros(len(graph.numbers), dtype=r.dtype).index_add(0, graph.edges[0], pair / 2)


def test_agrees_with_ase_morse_calculator() -> None:
    atoms = bulk("Cu", a=1.6, cubic=True) * 2
    atoms.rattle(0.05, seed=3)
    reference = atoms.copy()
    reference.calc = MorsePotential(epsilon=1.0, r0=1.0, rho0=6.0, rcut1=0.8 * 5.0, rcut2=5.0)
    atoms.calc = MLCalculator(MorsePairs(), skin=0.5)
    assert atoms.get_potential_energy() == pytest.approx(reference.get_potential_energy(), rel=1e-5)
    np.testing.assert_allclose(atoms.get_forces(), reference.get_forces(), atol=2e-4)
    np.testing.assert_allclose(atoms.get_stress(), reference.get_stress(), atol=2e-4)


def test_derivatives_by_ase_finite_differences() -> None:
    atoms = copper(1)
    atoms.calc = calculator()
    np.testing.assert_allclose(atoms.get_forces(), calculate_numerical_forces(atoms, eps=1e-4), atol=1e-6)
    np.testing.assert_allclose(atoms.get_stress(), calculate_numerical_stress(atoms, eps=1e-5), atol=1e-6)
    assert atoms.get_potential_energies().sum() == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
    assert atoms.calc.results["free_energy"] == atoms.get_potential_energy()


def test_float32_near_float64_and_float64_results() -> None:
    atoms = copper()
    atoms.calc = calculator()
    single = atoms.copy()
    single.calc = calculator(dtype="float32")
    assert single.get_forces().dtype == np.float64
    assert np.abs(single.get_forces() - atoms.get_forces()).max() < 1e-4
    assert single.get_potential_energy() == pytest.approx(atoms.get_potential_energy(), abs=1e-5 * len(atoms))


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.positions.__setitem__((0, 0), a.positions[0, 0] + 0.1),
        lambda a: a.set_cell(a.cell * 1.01, scale_atoms=True),
        lambda a: a.set_pbc([True, True, False]),
        lambda a: a.pop(3),
    ],
    ids=["positions", "cell", "pbc", "number of atoms"],
)
def test_changes_in_place_are_noticed(change) -> None:
    atoms = copper()
    atoms.calc = calculator()
    before = atoms.get_potential_energy()
    change(atoms)
    fresh = atoms.copy()
    fresh.calc = calculator()
    assert atoms.get_potential_energy() == fresh.get_potential_energy() != before


def test_numbers_changed_in_place() -> None:
    atoms = molecule("H2O")
    atoms.calc = MLCalculator(WATER)
    before = atoms.get_potential_energy()
    atoms.numbers[1] = 8
    assert atoms.get_potential_energy() != before


def test_skin_makes_no_difference() -> None:
    rng = np.random.default_rng(5)
    atoms = copper()
    with_skin, without = calculator(skin=1.0), calculator(skin=0.0)
    for _ in range(12):
        atoms.positions += rng.normal(scale=0.04, size=(len(atoms), 3))
        atoms.set_cell(atoms.cell.array + rng.normal(scale=0.01, size=(3, 3)), scale_atoms=True)
        results = []
        for calc in (with_skin, without):
            atoms.calc = calc
            results.append((atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()))
        for one, other in zip(*results, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)
    assert with_skin.neighbors.rebuilds < without.neighbors.rebuilds


class Failing:
    """A potential that fails in the chosen calls."""

    cutoff = 3.0

    def __init__(self, value: float | Exception, calls: tuple[int, ...]) -> None:
        self.value, self.calls, self.count = value, calls, 0

    def __call__(self, graph: Graph) -> torch.Tensor:
        self.count += 1
        energies = torch.zeros(len(graph.numbers), dtype=torch.float64).index_add(
            0, graph.edges[0], graph.edge_vectors().square().sum(1)
        )
        if self.count not in self.calls:
            return energies
        if isinstance(self.value, Exception):
            raise self.value
        return energies * self.value


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (float("nan"), NonFiniteResultError, "NaN or infinity as energy.*32 atoms.*look at these atoms"),
        (float("inf"), NonFiniteResultError, "NaN or infinity"),
        (ValueError("half-way"), ValueError, "half-way"),
    ],
)
def test_a_failed_calculation_leaves_nothing_behind(value, error, text) -> None:
    atoms = copper()
    atoms.calc = MLCalculator(Failing(value, calls=(2,)))
    good = atoms.get_potential_energy()
    atoms.positions[0] += 0.1
    positions = atoms.positions.copy()
    with pytest.raises(error, match=text):
        atoms.get_forces()
    assert atoms.calc.results == {}
    np.testing.assert_array_equal(atoms.positions, positions)
    third = atoms.get_potential_energy()  # computed again, not served from the failed call
    assert np.isfinite(third)
    assert third != good


def test_running_out_of_memory_names_the_size() -> None:
    class Hungry:
        cutoff = 3.0

        def __call__(self, graph: Graph) -> torch.Tensor:
            return torch.ones(2**55, dtype=torch.float64)[: len(graph.numbers)]

    atoms = copper()
    atoms.calc = MLCalculator(Hungry())
    with pytest.raises(OutOfMemoryError, match=r"32 atoms with 384 edges do not fit.*evaluate a smaller structure"):
        atoms.get_potential_energy()
    assert atoms.calc.results == {}


def broken(change) -> Atoms:
    atoms = copper()
    change(atoms)
    return atoms


BAD_STRUCTURES = {
    "B1 element": (
        lambda: Atoms("CuH", [[0, 0, 0], [2, 0, 0]]),
        UnknownElementError,
        r"does not know H \(atom 1\).*trained on Cu.*choose a model",
    ),
    "B2 empty": (Atoms, EmptyStructureError, "no atoms.*check the file"),
    "B4 overlap": (
        lambda: broken(lambda a: a.positions.__setitem__(1, a.positions[0] + [0.1, 0, 0])),
        OverlapError,
        r"atoms 0 and 1 are 0\.1.* closer than 0\.3.*remove doubled atoms",
    ),
    "B4 same place": (
        lambda: broken(lambda a: a.positions.__setitem__(1, a.positions[0])),
        OverlapError,
        "atoms 0 and 1 are 0 Å apart",
    ),
    "B5 NaN position": (
        lambda: broken(lambda a: a.positions.__setitem__((7, 1), np.nan)),
        NonFiniteError,
        "positions of atom 7 are NaN.*check the input file",
    ),
    "B5 infinite position": (
        lambda: broken(lambda a: a.positions.__setitem__((3, 0), np.inf)),
        NonFiniteError,
        "positions of atom 3",
    ),
    "B5 NaN momentum": (
        lambda: broken(lambda a: a.set_momenta(np.full((len(a), 3), np.nan))),
        NonFiniteError,
        "momenta of atoms 0.*draw new velocities",
    ),
    "B5 NaN cell": (
        lambda: broken(lambda a: a.cell.__setitem__((0, 0), np.nan)),
        NonFiniteError,
        "cell has NaN.*vector a.*check",
    ),
    "B6 zero vector": (
        lambda: broken(lambda a: a.cell.__setitem__(2, 0.0)),
        CellError,
        r"periodic along axis 2 \(c\).*set atoms\.pbc\[2\] = False",
    ),
    "B6 flat cell": (
        lambda: broken(lambda a: a.set_cell([[7, 0, 0], [0, 7, 0], [7, 7, 0]])),
        CellError,
        "in one plane.*set atoms.pbc to False",
    ),
    "B11 tiny cell": (
        lambda: Atoms("Cu", cell=[0.31, 0.31, 0.31], pbc=True),
        TooManyEdgesError,
        "9044 neighbor pairs.*more than the limit of 5000.*raise max_edges",
    ),
    "B12 far away": (
        lambda: broken(lambda a: a.positions.__setitem__((0, 0), 1e9)),
        StructureError,
        "beyond the limit.*move the structure to the origin",
    ),
}


@pytest.mark.parametrize("row", BAD_STRUCTURES)
@pytest.mark.parametrize("through", ["calculator", "evaluate"])
def test_bad_structures(row: str, through: str) -> None:
    make, error, text = BAD_STRUCTURES[row]
    atoms = make()
    positions = atoms.positions.copy()
    if through == "calculator":
        atoms.calc = calculator(max_edges=5000)
        with pytest.raises(error, match=text):
            atoms.get_potential_energy()
        assert atoms.calc.results == {}
    else:
        with pytest.raises(error, match=f"(?s)structure 1: .*{text}"):
            evaluate(NETWORK, [copper(), atoms], max_edges=5000)
    np.testing.assert_array_equal(atoms.positions, positions)


def test_b3_isolated_atom() -> None:
    atoms = Atoms("Cu", [[0.3, 0.1, 0.2]])
    atoms.calc = calculator()
    assert np.isfinite(atoms.get_potential_energy())
    np.testing.assert_array_equal(atoms.get_forces(), np.zeros((1, 3)))
    with pytest.raises(PropertyNotImplementedError, match=r"periodic along 0 of 3.*set all of atoms\.pbc"):
        atoms.get_stress()


def test_b7_left_handed_equals_right_handed() -> None:
    atoms = copper()
    right = atoms.copy()
    atoms.set_cell(atoms.cell.array[[1, 0, 2]])
    assert np.linalg.det(atoms.cell.array) < 0
    for structure in (atoms, right):
        structure.calc = calculator()
    assert atoms.get_potential_energy() == pytest.approx(right.get_potential_energy(), abs=1e-10)
    np.testing.assert_allclose(atoms.get_stress(), right.get_stress(), atol=1e-10)


def test_b8_b9_slabs_and_vacuum() -> None:
    slab = fcc111("Cu", (3, 3, 2), vacuum=None, orthogonal=False)
    slab.cell[2] = 0.0
    slab.pbc = (True, True, False)
    boxed = slab.copy()
    boxed.set_cell(np.vstack([slab.cell.array[:2], [[0, 0, 30.0]]]))
    wrapped = boxed.copy()
    wrapped.pbc = True
    energies = []
    for atoms in (slab, boxed, wrapped):
        atoms.calc = calculator()
        energies.append(atoms.get_potential_energy())
    assert energies[0] == pytest.approx(energies[1], abs=1e-10)
    assert energies[0] == pytest.approx(energies[2], abs=1e-10)
    with pytest.raises(PropertyNotImplementedError, match="periodic along 2 of 3"):
        slab.get_stress()
    assert slab.get_potential_energy() == pytest.approx(energies[0], abs=1e-12)


def test_b10_small_and_skewed_cells_equal_their_supercells() -> None:
    primitive = bulk("Cu")
    skewed = primitive.copy()
    skewed.set_cell([[1, 0, 0], [50, 1, 0], [0, 0, 1]] @ primitive.cell.array)
    big = primitive * (4, 4, 4)
    results = evaluate(NETWORK, [primitive, skewed, big])
    assert results[0].energy == pytest.approx(results[2].energy / 64, abs=1e-9)
    assert results[1].energy == pytest.approx(results[2].energy / 64, abs=1e-9)


def test_b12_atoms_in_far_cells_are_the_same_atoms() -> None:
    atoms = copper()
    far = atoms.copy()
    far.positions += np.random.default_rng(0).integers(-37, 38, size=(len(far), 3)) @ far.cell.array
    near, away = evaluate(NETWORK, [atoms, far])
    assert away.energy == pytest.approx(near.energy, abs=1e-9)
    np.testing.assert_allclose(away.forces, near.forces, atol=1e-8)


@pytest.mark.parametrize(
    "positions",
    [[[0, 0, 0], [2, 0, 0], [0, 2, 1]], np.array([[0, 0, 0], [2, 0, 0], [0, 2, 1]], dtype=np.float32)],
    ids=["integers", "float32"],
)
def test_b16_number_types(positions) -> None:
    reference = Atoms("Cu3", np.array(positions, dtype=float))
    odd = Atoms("Cu3", positions)
    odd.arrays["positions"] = np.asfortranarray(odd.positions)
    energy = evaluate(NETWORK, [reference])[0].energy
    assert evaluate(NETWORK, [odd])[0].energy == pytest.approx(energy, abs=1e-13)


def test_b17_no_neighbor_is_dropped() -> None:
    atoms = bulk("Cu", cubic=True) * 3
    dense, cutoff = calculator(), NETWORK.cutoff
    distances = atoms.get_all_distances(mic=True)
    assert (distances[0] < cutoff).sum() - 1 == 18
    atoms.calc = dense
    base = atoms.get_potential_energies()[0]
    for neighbor in np.flatnonzero((distances[0] < cutoff) & (distances[0] > 0)):
        without = atoms.copy()
        del without[[int(neighbor)]]
        assert abs(evaluate(NETWORK, [without])[0].energies[0] - base) > 1e-6


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:3"])
def test_b18_missing_device(device: str) -> None:
    with pytest.raises(DeviceError, match=rf"'{device}' is not available: this machine has cpu.*'auto'"):
        calculator(device=device)
    assert calculator(device="auto").engine.device.type == "cpu"


def test_wrong_settings() -> None:
    with pytest.raises(DeviceError, match="'gpu' is not available"):
        calculator(device="gpu")
    with pytest.raises(ConfigError, match=r"float16.*choose float32 or float64"):
        calculator(dtype="float16")
    with pytest.raises(ConfigError, match="skin = -1"):
        calculator(skin=-1.0)
    with pytest.raises(ConfigError, match=r"matscypi.*matscipy"):
        calculator(neighbor_backend="matscypi")
    with pytest.raises(ConfigError, match=r"None is no model: give the name"):
        MLCalculator(None)
    with pytest.raises(ConfigError, match=r"min_distance = nan is not allowed"):
        calculator(min_distance=float("nan"))
    with pytest.raises(TypeError, match="dtyp"):
        calculator(dtyp="float32")
    with pytest.raises(UnknownModelError, match="no model 'no-such-model'"):
        MLCalculator("no-such-model")


@pytest.mark.skipif(find_spec("torch_cluster") is not None, reason="torch-cluster is installed")
def test_torch_cluster_absent_names_the_extra() -> None:
    with pytest.raises(MissingExtraError, match=r"mlcalc\[torch-cluster\]"):
        evaluate(NETWORK, [Atoms("Cu2", [[0, 0, 0], [2.2, 0, 0]])], neighbor_backend="torch-cluster")


def test_backends_agree() -> None:
    atoms = copper()
    one, other = evaluate(NETWORK, [atoms]), evaluate(NETWORK, [atoms], neighbor_backend="vesin")
    assert one[0].energy == pytest.approx(other[0].energy, abs=1e-13)
    np.testing.assert_allclose(one[0].forces, other[0].forces, rtol=0, atol=1e-13)


def test_copies_are_independent() -> None:
    atoms = copper()
    atoms.calc = calculator()
    energy = atoms.get_potential_energy()
    for twin in (copy.deepcopy(atoms.calc), pickle.loads(pickle.dumps(atoms.calc))):  # noqa: S301 - our own object
        other = copper(seed=9)
        other.calc = twin
        assert other.get_potential_energy() != energy
        assert atoms.get_potential_energy() == energy
        other.positions[:] = atoms.positions
        assert other.get_potential_energy() == pytest.approx(energy, abs=1e-13)


def test_threads() -> None:
    structures = [copper(seed=seed) for seed in range(16)]
    expected = [result.energy for result in evaluate(NETWORK, structures)]
    shared = calculator()

    def with_own(atoms: Atoms) -> float:
        atoms = atoms.copy()
        atoms.calc = calculator()
        return float(atoms.get_potential_energy())

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(with_own, structures)) == pytest.approx(expected, abs=1e-9)
        assert list(pool.map(shared.get_potential_energy, structures)) == pytest.approx(expected, abs=1e-9)


def test_nothing_global_and_nothing_of_the_user_is_changed() -> None:
    def global_state() -> tuple[object, ...]:
        random = torch.get_rng_state().tolist()
        return torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled(), random

    state = global_state()
    network = copy.deepcopy(NETWORK).float().requires_grad_(True).train()
    atoms = copper()
    before = copy.deepcopy(atoms)
    atoms.calc = MLCalculator(network, dtype="float64")
    with torch.no_grad():
        atoms.get_forces()
    atoms.get_forces()
    assert network.training
    assert all(p.requires_grad and p.dtype == torch.float32 and p.grad is None for p in network.parameters())
    assert atoms == before
    assert global_state() == state


def test_returned_arrays_are_copies() -> None:
    atoms = copper()
    atoms.calc = calculator()
    forces = atoms.get_forces()
    expected = forces.copy()
    forces[:] = 0.0
    np.testing.assert_array_equal(atoms.get_forces(), expected)


def test_batches_equal_single_structures() -> None:
    structures = [copper(1), bulk("Cu"), Atoms("Cu"), copper(2), fcc111("Cu", (2, 2, 2), vacuum=8.0)]
    together = evaluate(NETWORK, structures, edges_per_batch=10**6)
    for atoms, batched in zip(structures, together, strict=True):
        single = evaluate(NETWORK, [atoms])[0]
        assert batched.energy == pytest.approx(single.energy, abs=1e-10)
        np.testing.assert_allclose(batched.forces, single.forces, atol=1e-10)
        np.testing.assert_allclose(batched.energies, single.energies, atol=1e-10)
    with pytest.raises(StructureError, match=r"structure 2: stress needs a structure periodic"):
        evaluate(NETWORK, structures, stress=True)
    with pytest.raises(ConfigError, match=r"pass \[atoms\]"):
        evaluate(NETWORK, structures[0])
    assert evaluate(NETWORK, []) == []


def test_a_run_is_not_continued_with_another_model_or_precision(tmp_path) -> None:
    atoms = copper()
    atoms.calc = calculator()
    settings = {"timestep_fs": 1.0, "steps": 2, "temperature_K": 100, "output": tmp_path / "run"}
    run_nve(atoms, **settings)
    assert "float64" in (tmp_path / "run/run.json").read_text()
    atoms.calc = calculator(dtype="float32")
    with pytest.raises(ConfigError, match=r"dtype.*float64.*float32"):
        run_nve(atoms, **settings)


def test_calculate_without_arguments_uses_the_attached_structure() -> None:
    atoms = copper()
    atoms.calc = calculator()
    energy = atoms.get_potential_energy()
    atoms.calc.calculate()
    assert atoms.calc.results["energy"] == energy
    with pytest.raises(EmptyStructureError, match="pass Atoms, or attach"):
        calculator().calculate()


def test_the_structure_with_bad_results_is_named_though_batched() -> None:
    class NaNForOneAtom(MorsePairs):
        def __call__(self, graph: Graph) -> torch.Tensor:
            counts = torch.bincount(graph.batch)[graph.batch]
            return super().__call__(graph) + torch.where(counts == 1, torch.nan, 0.0)

    structures = [copper(1), copper(2), Atoms("Cu"), copper(1)]
    with pytest.raises(
        NonFiniteResultError, match=r"structure 2: .*structure of 1 atoms \(first atoms concerned: \[0\]\)"
    ):
        evaluate(NaNForOneAtom(cutoff=3.0), structures)
