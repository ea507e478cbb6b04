"""Inner products of direction units: their values, and what they must not depend on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from property_networks import MoleculesOnly, Scalars, Tiny, TinyConfig
from scipy.spatial.transform import Rotation

from mlcalc.errors import NonFiniteResultError, OverlapError, StructureError, UnknownElementError
from mlcalc.md_protocols.errors import ConfigError
from mlcalc.models import Graph, Network, build_network
from mlcalc.models.network import NodeFeatures
from mlcalc.representations import atom_representations

VISNET = {"elements": ("H", "C", "O"), "cutoff": 4.0, "hidden_channels": 8, "num_layers": 3, "num_heads": 2}


class OneComponent(Tiny):
    """A broken twin: its direction units have an x component only."""

    def node_features(self, graph: Graph) -> NodeFeatures:
        features = super().node_features(graph)
        return NodeFeatures(features.scalars, features.vectors[:, :1])


def visnet(**settings: Any) -> Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = build_network("visnet", VISNET | settings).double()
        for parameter in network.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return network.requires_grad_(False).eval()


def ethanol() -> Atoms:
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.03, seed=1)
    return atoms


def test_values_are_the_sums_over_pairs_of_neighbors() -> None:
    """For a sum of edge vectors, <v, v> is the sum over j, k of r_j r_k cos(angle jik)."""
    atoms = ethanol()
    (found,) = atom_representations(Tiny(TinyConfig()), [atoms])
    vectors = atoms.get_all_distances(vector=True)
    distances = atoms.get_all_distances()
    expected = np.zeros(len(atoms))
    for i in range(len(atoms)):
        near = [j for j in range(len(atoms)) if j != i and distances[i, j] < 2.0]
        for j in near:
            for k in near:
                cosine = vectors[i, j] @ vectors[i, k] / distances[i, j] / distances[i, k]
                expected[i] += distances[i, j] * distances[i, k] * cosine
    assert found.shape == (9, 2)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected[:, None] * [1, 4], rtol=1e-12)


@pytest.mark.parametrize("settings", [{}, {"lmax": 1}, {"variant": "original"}], ids=["smooth", "lmax 1", "original"])
def test_moving_turning_and_renumbering_change_nothing(settings: dict[str, Any]) -> None:
    atoms, network = ethanol(), visnet(**settings)
    order = np.random.default_rng(2).permutation(len(atoms))
    turned = atoms.copy()
    turned.positions = atoms.positions @ Rotation.random(rng=np.random.default_rng(4)).as_matrix().T + [3.0, -50.0, 7.0]
    reference, moved, renumbered = atom_representations(network, [atoms, turned, atoms[order]])
    assert reference.shape == (9, 8)
    assert reference.max() > 1e-2
    np.testing.assert_allclose(moved, reference, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(renumbered, reference[order], rtol=1e-9, atol=1e-10)
    twin, turned_twin = atom_representations(OneComponent(TinyConfig()), [atoms, turned])
    assert np.abs(turned_twin - twin).max() > 0.1


def test_equal_atoms_have_equal_representations_and_others_do_not() -> None:
    (found,) = atom_representations(visnet(), [molecule("CH4")])
    np.testing.assert_allclose(found[1:], found[[1, 1, 1, 1]], rtol=1e-6, atol=1e-10)
    assert np.abs(found[0] - found[1]).max() > 1e-3


def test_batches_and_periodic_structures() -> None:
    network = visnet()
    structures = [ethanol(), bulk("C"), Atoms("O"), bulk("C", cubic=True), molecule("H2O")]
    together = atom_representations(network, structures, edges_per_batch=10**6)
    apart = atom_representations(network, structures, edges_per_batch=1)
    for one, other, atoms in zip(together, apart, structures, strict=True):
        assert one.shape == (len(atoms), 8)
        np.testing.assert_allclose(one, other, atol=1e-12)
    np.testing.assert_allclose(together[3], together[1][[0] * 8], rtol=1e-8, atol=1e-12)  # the same crystal
    assert not together[2].any()  # no neighbors, no directions
    single = atom_representations(network, structures[:1], dtype="float32")[0]
    assert single.dtype == np.float64
    np.testing.assert_allclose(single, together[0], rtol=1e-4, atol=1e-5)


def test_progress_is_shown_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    atom_representations(visnet(), [ethanol()])
    assert capsys.readouterr().err == ""
    atom_representations(visnet(), [ethanol()], progress=True)
    assert "1/1" in capsys.readouterr().err


class PlainPotential:
    """A Potential that is no network."""

    cutoff = 3.0

    def __call__(self, graph: Graph) -> torch.Tensor:
        return torch.zeros(len(graph.numbers))


def test_models_without_directions_and_bad_structures() -> None:
    with pytest.raises(ConfigError, match=r"Scalars has scalars only and no direction units: take.*ViSNet"):
        atom_representations(Scalars(TinyConfig()), [ethanol()])
    with pytest.raises(ConfigError, match=r"PlainPotential is no Network.*give a bundled model"):
        atom_representations(PlainPotential(), [ethanol()])
    with pytest.raises(ConfigError, match=r"pass \[atoms\]"):
        atom_representations(visnet(), ethanol())
    with pytest.raises(UnknownElementError, match=r"frame 7: .*does not know Cu"):
        atom_representations(visnet(), [bulk("Cu")], names=["frame 7"])
    with pytest.raises(OverlapError, match=r"structure 1: atoms 0 and 1 are 0\.1"):
        atom_representations(visnet(), [ethanol(), Atoms("H2", [[0, 0, 0], [0, 0, 0.1]])])
    with pytest.raises(StructureError, match="structure 0: .*molecules only"):
        atom_representations(MoleculesOnly(TinyConfig()), [bulk("C")])
    broken = visnet()
    broken.blocks[0].o_proj.weight.data.fill_(torch.inf)
    with pytest.raises(NonFiniteResultError, match=r"structure 0: .*NaN or infinity as (scalars|vectors)"):
        atom_representations(broken, [ethanol()])
