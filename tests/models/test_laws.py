"""Every law of checks.py and smoothness.py on every potential, and every law shown to catch a broken one.

Networks as they were published break some laws by construction: named_exceptions.py says which, why and how much.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import checks
import numpy as np
import pytest
import smoothness
import torch
import twins
from ase import Atoms
from ase.calculators.morse import MorsePotential
from checks import ElementPotential, answer
from named_exceptions import EXCEPTIONS, Broken, Undefined, check_exception
from potentials import ManyBody, Morse
from small_networks import bundled_network, bundled_networks, named_settings, random_network, small_settings, variant
from structures import cluster, crowd, crystal, cubic, graph_of, linear, samples, slab
from torch import Tensor

from mlcalc.graphs.graphs import atoms_to_graph
from mlcalc.models import Graph, Prediction, predict

CU, CHO = ("Cu",), ("H", "C", "O")
SHIFTS = {1: (-50000.0,), 3: (-13.6, -1029.5, -50000.0)}  # eV; total energies of heavy atoms in all-electron codes


def check_energy_shift(potential: ElementPotential) -> None:
    """Shifts of -0.25, -8192.5, ... eV, exact in binary, added to the potential's own."""
    difference = (-8192.5, 0.25, 1024.0)[: len(potential.elements)]
    plain = (0.0,) * len(potential.elements)
    checks.check_energy_shift(
        variant(potential, energy_shift=plain), variant(potential, energy_shift=difference), difference
    )


def check_float32(potential: ElementPotential) -> None:
    """The float32 copy of the potential with very large energy shifts."""
    large = variant(potential, energy_shift=SHIFTS[len(potential.elements)])
    checks.check_float32(large, variant(large, dtype=torch.float32, energy_shift=SHIFTS[len(potential.elements)]))


LAWS: dict[str, Callable[[ElementPotential], None]] = {
    "translation": checks.check_translation,
    "rotation": checks.check_rotation,
    "permutation": checks.check_permutation,
    "periodic images": checks.check_periodic_images,
    "vacuum": checks.check_vacuum,
    "batch": checks.check_batch,
    "extensivity": checks.check_extensivity,
    "far clusters add": checks.check_far_clusters_add,
    "cross gradients": checks.check_cross_gradients,
    "net force and torque": checks.check_net_force_and_torque,
    "many neighbors": checks.check_many_neighbors,
    "few neighbors": checks.check_few_neighbors,
    "energy is sum": checks.check_energy_is_sum,
    "energy shift": check_energy_shift,
    "elements matter": checks.check_elements_matter,
    "float32": check_float32,
    "repeatable": checks.check_repeatable,
    "forces": smoothness.check_forces,
    "stress": smoothness.check_stress,
    "Hessian": smoothness.check_hessian_vector_product,
    "cutoff": smoothness.check_cutoff,
    "scan across cutoff": smoothness.check_scan_across_cutoff,
    "symmetric points": smoothness.check_symmetric_points,
}

# Each law with the potentials it must reject, and a word of the text it must do so with.
BROKEN: list[tuple[str, ElementPotential, str]] = [
    ("translation", twins.Tethered(), "translation"),
    ("rotation", twins.AlongX(), "rotation, energies"),
    ("rotation", twins.Chiral(), "reflection"),
    ("permutation", twins.OrderDependent(), "permutation"),
    ("permutation", twins.OneSided(), "permutation"),
    ("permutation", twins.First32Neighbors(), "permutation"),
    ("periodic images", twins.ImagesWeighLess(), "moved by whole cell vectors"),
    ("periodic images", twins.CellVectorDependent(), "other vectors of the same lattice"),
    ("vacuum", twins.CellVectorDependent(), "periodic with vacuum"),
    ("batch", twins.BatchCentered(), "batch against alone"),
    ("batch", twins.ScaledByElementsPresent(CHO), "batch against alone"),
    ("batch", twins.FirstStructureOnly(), "batch against alone"),
    ("extensivity", twins.MeanPooled(), "supercell"),
    ("extensivity", twins.PooledThenNonlinear(), "supercell"),
    ("extensivity", twins.NoSelfImages(), "supercell"),
    ("far clusters add", twins.PooledThenNonlinear(), "two clusters"),
    ("far clusters add", twins.MeanPooled(), "two clusters"),
    ("cross gradients", twins.BatchCentered(), "positions of another"),
    ("cross gradients", twins.FirstStructureOnly(), "cells of another"),
    ("net force and torque", twins.ForceOnNeighborOnly(), "net force"),
    ("net force and torque", twins.AlongX(), "net torque"),
    ("many neighbors", twins.First32Neighbors(), "neighbor 33 of 40"),
    ("few neighbors", twins.MeanOverNobody(), "isolated Cu"),
    ("few neighbors", twins.PoleOnZ(), "pair in another direction"),
    ("energy shift", twins.DoubledShift(), "energy shift"),
    ("elements matter", twins.ElementBlind(CHO), "swapping two elements"),
    ("float32", twins.SinglePrecisionTotal(), "float32"),
    ("float32", twins.SinglePrecisionPositions(), "far from the origin"),
    ("repeatable", twins.WithMemory(), "asked twice"),
    ("repeatable", twins.WritesIntoGraph(), "changed graph.shifts"),
    ("forces", twins.HalfDetached(), "central differences"),
    ("stress", twins.FrozenCell(), "central differences"),
    ("Hessian", twins.FrozenSlope(), "differences of forces"),
    ("cutoff", twins.Truncated(), "energy of a lone pair"),
    ("cutoff", twins.Shifted(), "energy of a lone pair"),
    ("cutoff", twins.Cosine(), "energy of a lone pair"),
    ("cutoff", twins.SharpMean(), "energy of a lone pair"),
    ("cutoff", twins.CountedNeighbors(), "energy of a pair between"),
    ("cutoff", twins.Ungated(), "energy of a lone pair"),
    ("cutoff", twins.NoInteraction(), "nothing was tested"),
    ("scan across cutoff", twins.Truncated(), "slope of the energies"),
    ("scan across cutoff", twins.Shifted(), "slope of the energies"),
    ("scan across cutoff", twins.Cosine(), "slope of the forces"),
    ("scan across cutoff", twins.CountedNeighbors(), "slope of the energies"),
    ("symmetric points", twins.Kinked(), "through an inversion center"),
    ("symmetric points", twins.Stepped(), "through an inversion center"),
    ("symmetric points", twins.RootOfZero(), "through an inversion center"),
    ("symmetric points", twins.BentAngle(), "slope of forces"),
]


def _potentials() -> dict[str, Callable[[], ElementPotential]]:
    made: dict[str, Callable[[], ElementPotential]] = {
        "Morse": Morse,
        "many-body Cu": ManyBody,
        "many-body HCO": partial(ManyBody, CHO, energy_shift=(-13.6, -1029.5, -2041.3)),
    }
    for name, kind, settings in named_settings():
        made[name] = partial(random_network, kind, settings)
    return made | {f"bundled {name}": partial(bundled_network, name) for name in bundled_networks()}


POTENTIALS = {name: cache(make) for name, make in _potentials().items()}


@pytest.mark.parametrize("name", POTENTIALS)
@pytest.mark.parametrize("law", LAWS)
def test_law(law: str, name: str) -> None:
    potential = POTENTIALS[name]()
    if exception := EXCEPTIONS.get((name, law)):
        check_exception(LAWS[law], potential, exception)
    else:
        LAWS[law](potential)


def test_exceptions_are_of_known_laws_and_networks() -> None:
    assert {law for _, law in EXCEPTIONS} <= set(LAWS)
    assert {name for name, _ in EXCEPTIONS} <= set(POTENTIALS)


def test_exceptions_are_held_to_their_size() -> None:
    law = LAWS["far clusters add"]
    with pytest.raises(checks.LawBrokenError) as caught:
        law(twins.MeanPooled())
    size = caught.value.size
    check_exception(law, twins.MeanPooled(), Broken("mean over atoms", 1.5 * size))
    for wrong in (Broken("", 4 * size), Broken("", size / 4), Undefined("", "periodic")):
        with pytest.raises(AssertionError, match="recorded is"):
            check_exception(law, twins.MeanPooled(), wrong)
    with pytest.raises(AssertionError, match="the law holds"):
        check_exception(law, ManyBody(), Broken("", size))


def test_refusals_are_held_to_their_words() -> None:
    name, law = "hvnet pyg HCO", LAWS["stress"]
    check_exception(law, POTENTIALS[name](), Undefined("", "periodic"))
    for wrong in (Undefined("", "no such words"), Broken("", 1.0)):
        with pytest.raises(AssertionError, match="refused, which is not recorded"):
            check_exception(law, POTENTIALS[name](), wrong)


def _name(value: object) -> str:
    return value if isinstance(value, str) else type(value).__name__


@pytest.mark.parametrize(("law", "potential", "text"), BROKEN, ids=_name)
def test_law_rejects(law: str, potential: ElementPotential, text: str) -> None:
    with pytest.raises(AssertionError, match=text):
        LAWS[law](potential)


def _cosine(distance: Tensor, cutoff: float, exponent: int) -> Tensor:
    return 0.5 * (1 + torch.cos(torch.pi * distance / cutoff))


def _kinked(squared: Tensor) -> Tensor:
    return torch.sqrt(squared.clamp(min=1e-16))


@pytest.mark.parametrize("kind", ["hvnet", "visnet"])
@pytest.mark.parametrize(
    ("law", "name", "broken"),
    [
        ("cutoff", "polynomial_envelope", _cosine),
        ("scan across cutoff", "polynomial_envelope", _cosine),
        ("symmetric points", "smooth_norm", _kinked),
    ],
)
def test_law_rejects_a_network_with_a_rough_part(
    monkeypatch: pytest.MonkeyPatch, kind: str, law: str, name: str, broken: Callable[..., Tensor]
) -> None:
    places = {"smooth_norm": "hvnet_subnetworks"} if kind == "hvnet" else {}
    monkeypatch.setattr(f"mlcalc.models.{places.get(name, kind)}.{name}", broken)
    settings = next(settings for known, settings in small_settings() if known == kind)
    with pytest.raises(AssertionError, match=r"falls as gap|slope of"):
        LAWS[law](random_network(kind, settings))


def test_every_law_is_shown_able_to_fail() -> None:
    assert {law for law, _, _ in BROKEN} | {"energy is sum"} == set(LAWS)


def test_energy_sum_rejects_float32_totals() -> None:
    def rounded(*args: object, **settings: bool) -> Prediction:
        found = predict(*args, **settings)
        return replace(found, energy=found.energy.float().double())

    with pytest.raises(AssertionError, match="sum of energies"):
        checks.check_energy_is_sum(ManyBody(), predict=rounded)


def test_stress_rejects_the_signed_volume() -> None:
    def signed(potential: ElementPotential, graph: Graph, *, stress: bool = False, **settings: bool) -> Prediction:
        found = predict(potential, graph, stress=stress, **settings)
        return replace(found, stress=found.stress * torch.linalg.det(graph.cell).sign()) if stress else found

    with pytest.raises(AssertionError, match="left-handed"):
        smoothness.check_stress(ManyBody(), predict=signed)


@pytest.mark.parametrize("atoms", [*samples(CU), cluster(CU, atoms=20), crystal(CU, atoms=12)], ids=str)
def test_morse_is_ase_morse(atoms: Atoms) -> None:
    morse = Morse()
    ase = MorsePotential(
        epsilon=morse.epsilon, rho0=morse.rho0, r0=morse.r0, rcut1=morse.start / morse.r0, rcut2=morse.cutoff / morse.r0
    )
    atoms = atoms.copy()
    atoms.calc = ase
    found = answer(morse, atoms)
    np.testing.assert_allclose(found.energy[0], atoms.get_potential_energy(), rtol=0, atol=1e-11)
    np.testing.assert_allclose(found.energies, atoms.get_potential_energies(), rtol=0, atol=1e-11)
    np.testing.assert_allclose(found.forces, atoms.get_forces(), rtol=0, atol=1e-10)
    if atoms.pbc.all():
        np.testing.assert_allclose(found.stress[0], atoms.get_stress(), rtol=0, atol=1e-11)


@pytest.mark.parametrize("make", [cluster, crystal, slab, cubic, linear, partial(crowd, cutoff=4.0)])
def test_graphs_of_the_package_are_those_of_ase(make: Callable[..., Atoms]) -> None:
    for atoms in (make(CHO), make(CHO)[:1], make(CU)):
        ours, ase = atoms_to_graph(atoms, 3.7), graph_of(atoms, 3.7)
        for name in ("numbers", "positions", "edges", "shifts", "batch"):
            assert torch.equal(getattr(ours, name), getattr(ase, name)), name
        torch.testing.assert_close(ours.edge_vectors(), ase.edge_vectors(), rtol=0, atol=1e-12)
