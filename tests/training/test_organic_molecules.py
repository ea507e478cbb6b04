"""Molecules for organic-visnet: none held out, none torn apart, no scaffold in two splits.  Needs RDKit."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rdkit", reason="needs RDKit, which is in the environment of training/organic only")

from rdkit import Chem

from training.organic.assembly import acceptable, capped_peptides, random_molecules, stable
from training.organic.complexes import cluster, encounter, hydrogen_bond, poses, stack, vdw_gap
from training.organic.connectivity import RELAXED, connectivity
from training.organic.distortions import stretched, turned
from training.organic.embedding import conformers, molecule_of
from training.organic.errors import OrganicError
from training.organic.fragments import CORES, LINKERS, NAMED, SMALL, SUBSTITUENTS
from training.organic.held_out import HeldOut, key_hash
from training.organic.molecules import Molecule, build_list, read_list, write_list
from training.organic.recipes import Recipe
from training.organic.splits import scaffold, split_of

SHARED = Path(__file__).parents[3] / "shared" / "held_out_molecules.txt"
# First blocks of the InChIKeys as PubChem lists them.
KEYS = {"c1ccccc1": "UHOVQNZJYSORNB", "CCO": "LFQSCWFLJHTTHZ", "CC(=O)Oc1ccccc1C(=O)O": "BSYNRYMUTXBXSQ"}


@pytest.fixture
def held_out(tmp_path: Path) -> HeldOut:
    """Benzene, ethanol and aspirin."""
    path = tmp_path / "held_out.txt"
    path.write_text("# hashes\n" + "\n".join(hashlib.sha256(key.encode()).hexdigest() for key in KEYS.values()))
    return HeldOut(path)


@pytest.mark.parametrize("smiles", KEYS)
def test_held_out_molecules_are_refused(held_out: HeldOut, smiles: str) -> None:
    with pytest.raises(OrganicError, match="is held out of training"):
        held_out.refuse(Chem.MolFromSmiles(smiles))
    with pytest.raises(OrganicError, match="is held out of training"):
        held_out.refuse(molecule_of(f"O.{smiles}"))  # in a complex, with hydrogens


@pytest.mark.parametrize("smiles", ["Cc1ccccc1", "CO", "O", "OC(=O)c1ccccc1O"])
def test_their_relatives_are_not(held_out: HeldOut, smiles: str) -> None:
    held_out.refuse(Chem.MolFromSmiles(smiles))


def test_stereochemistry_does_not_hide_a_molecule() -> None:
    assert key_hash(Chem.MolFromSmiles("N[C@@H](C)C(=O)O")) == key_hash(Chem.MolFromSmiles("N[C@H](C)C(=O)O"))


@pytest.mark.skipif(not SHARED.is_file(), reason=f"there is no {SHARED}")
@pytest.mark.parametrize("smiles", KEYS)
def test_the_list_of_the_project_holds_them(smiles: str) -> None:
    assert HeldOut(SHARED).holds(Chem.MolFromSmiles(smiles))


@pytest.mark.parametrize("text", ["", "# nothing\n", "benzene\n", "0" * 63])
def test_lists_without_hashes_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "list.txt"
    path.write_text(text)
    with pytest.raises(OrganicError, match="expected sha256 hashes"):
        HeldOut(path)
    with pytest.raises(OrganicError, match="no such file"):
        HeldOut(tmp_path / "missing.txt")


def test_the_list_leaves_them_out(held_out: HeldOut, tmp_path: Path) -> None:
    found = build_list(900, 1, held_out)
    assert not {molecule.key for molecule in found} & held_out.hashes
    everything = tmp_path / "none.txt"
    everything.write_text("0" * 64)
    assert {m.key for m in build_list(900, 1, HeldOut(everything))} & held_out.hashes  # they would have been in it


def test_lists_with_held_out_molecules_are_not_read(held_out: HeldOut, tmp_path: Path) -> None:
    molecules = build_list(20, 1, held_out)
    write_list(tmp_path / "list.json", molecules)
    assert read_list(tmp_path / "list.json", held_out) == molecules
    benzene = Molecule("c1ccccc1", key_hash(Chem.MolFromSmiles("c1ccccc1")), "train", "assembled", 12)
    write_list(tmp_path / "list.json", [*molecules, benzene])
    with pytest.raises(OrganicError, match="c1ccccc1 is held out"):
        read_list(tmp_path / "list.json", held_out)


@pytest.mark.parametrize("table", [*CORES.values(), *SUBSTITUENTS.values(), LINKERS, SMALL, NAMED])
def test_every_fragment_is_read(table: tuple[str, ...]) -> None:
    for smiles in table:
        assert Chem.MolFromSmiles(smiles) is not None, smiles


def test_tables_of_whole_molecules_are_neutral_and_closed_shell() -> None:
    for smiles in (*SMALL, *NAMED, *islice(capped_peptides(), 20)):
        assert acceptable(Chem.MolFromSmiles(smiles), 48) or Chem.MolFromSmiles(smiles).GetNumAtoms() == 0, smiles


@pytest.mark.parametrize("smiles", ["[NH4+]", "[CH3]", "CBr", "[He]", "C" * 20])
def test_others_are_not_acceptable(smiles: str) -> None:
    assert not acceptable(Chem.MolFromSmiles(smiles))


@pytest.mark.parametrize("smiles", ["OOO", "CN(Cl)C", "CC(O)(O)C", "NC(=O)O", "CN(C)N(C)NC", "COC#N"])
def test_molecules_that_fall_apart_are_not_stable(smiles: str) -> None:
    assert not stable(Chem.MolFromSmiles(smiles))


def test_random_molecules_are_reproducible_various_and_sound() -> None:
    def first(seed: int) -> list[str]:
        return [Chem.MolToSmiles(m) for m in islice(random_molecules(np.random.default_rng(seed)), 150)]

    molecules = first(3)
    assert molecules == first(3) != first(4)
    assert len(set(molecules)) > 140
    assert all(acceptable(Chem.MolFromSmiles(smiles)) and "*" not in smiles for smiles in molecules)
    text = "".join(molecules)
    assert all(symbol in text for symbol in ("N", "O", "F", "S", "Cl", "n", "#", "=", "c1"))


def test_no_scaffold_is_in_two_splits(held_out: HeldOut) -> None:
    splits: dict[str, set[str]] = {}
    found = [m for m in build_list(1500, 1, held_out) if m.smiles not in SMALL and m.smiles not in NAMED]
    for molecule in found:
        splits.setdefault(scaffold(Chem.MolFromSmiles(molecule.smiles)), set()).add(molecule.split)
    named = {scaffold(Chem.MolFromSmiles(smiles)) for smiles in (*SMALL, *NAMED)}
    assert all(len(several) == 1 for name, several in splits.items() if name not in named)
    counts = {split: sum(m.split == split for m in found) for split in ("train", "validation", "test")}
    assert min(counts.values()) > 0.01 * len(found)
    assert counts["train"] > 0.8 * len(found)


def test_scaffolds_of_relatives_are_one() -> None:
    def of(smiles: str) -> str:
        return scaffold(Chem.MolFromSmiles(smiles))

    assert of("Cc1ccncn1") == of("OCc1cc(F)ncn1") != of("Cc1ccncc1")
    assert of("CCCCC(C)O") == of("NCCCC(F)S")  # one skeleton
    assert of("CCCCC(C)O") != of("CCCCCCO")
    assert of("CO") != of("CS")
    assert split_of(Chem.MolFromSmiles("Cc1ccccc1")) == split_of(Chem.MolFromSmiles("O")) == "train"


def _embedded(smiles: str) -> tuple[Chem.Mol, Any]:
    molecule, (positions,) = conformers(smiles, 1, 5)
    return molecule, positions


def test_atoms_are_in_the_documented_order() -> None:
    molecule = molecule_of("CO.O")
    assert [atom.GetAtomicNum() for atom in molecule.GetAtoms()] == [6, 8, 1, 1, 1, 1, 8, 1, 1]


@pytest.mark.parametrize("smiles", ["CCO", "CC(=O)N[C@@H](C)C(=O)NC", "c1ccsc1", "C1CC2CC1CC2", "CS(=O)(=O)N"])
def test_bonds_hold_until_they_are_broken(smiles: str) -> None:
    molecule, positions = _embedded(smiles)
    bonds = connectivity(molecule)
    assert bonds.holds(positions, RELAXED)
    hydrogen = next(atom.GetIdx() for atom in molecule.GetAtoms() if atom.GetAtomicNum() == 1)
    away = positions.copy()
    away[hydrogen] += 20.0
    assert not bonds.holds(away)
    others = [k for k in range(len(positions)) if Chem.GetDistanceMatrix(molecule)[hydrogen, k] > 3]
    near = positions.copy()
    if others:
        near[hydrogen] = near[others[0]] + [0.0, 0.0, 0.9]
        assert not bonds.holds(near)


def test_torsions_turn_and_nothing_else_changes() -> None:
    molecule, positions = _embedded("CCCO")
    rng, steps = np.random.default_rng(0), Chem.GetDistanceMatrix(molecule)
    moved = turned(molecule, positions, rng)
    change = np.abs(_distances(moved) - _distances(positions))
    assert change[steps < 2.5].max() < 1e-10
    assert change[steps > 2.5].max() > 0.05


def test_stretching_changes_one_bond() -> None:
    molecule, positions = _embedded("CCCO")
    rng, changed = np.random.default_rng(1), []
    bonds = connectivity(molecule).bonds
    for _ in range(200):
        moved = stretched(molecule, positions, rng)
        ratio = (_distances(moved) / (_distances(positions) + np.eye(len(positions))))[tuple(bonds.T)]
        off = np.flatnonzero(np.abs(ratio - 1) > 1e-9)
        assert len(off) <= 1
        changed += [ratio[k] for k in off]
    assert 0.85 <= min(changed) < 0.88
    assert 1.27 < max(changed) <= 1.30


def _distances(positions: Any) -> Any:
    return np.linalg.norm(positions[:, None] - positions[None], axis=-1)


@pytest.mark.parametrize("arrange", [encounter, stack])
def test_pairs_meet_at_the_gap_asked_for(arrange: Callable[..., Any]) -> None:
    first, second = _embedded("Cc1ccccc1"), _embedded("c1ccncc1")
    for gap in (-0.5, 0.0, 1.5):
        placed = arrange(first, second, gap, np.random.default_rng(2))
        assert vdw_gap(first[0], first[1], second[0], placed) == pytest.approx(gap, abs=1e-6)
        np.testing.assert_allclose(_distances(placed), _distances(second[1]), atol=1e-9)  # rigid


def test_hydrogen_bonds_are_as_long_as_asked_for_and_straight() -> None:
    water, found = _embedded("O"), 0
    for seed in range(40):
        placed = hydrogen_bond(water, water, 1.9, np.random.default_rng(seed))
        if placed is None:
            continue
        found += 1
        distances = np.linalg.norm(water[1][1:] - placed[0], axis=1)
        hydrogen = 1 + int(np.argmin(distances))
        assert distances.min() == pytest.approx(1.9, abs=1e-9)
        to_oxygen, to_acceptor = water[1][0] - water[1][hydrogen], placed[0] - water[1][hydrogen]
        cosine = to_oxygen @ to_acceptor / np.linalg.norm(to_oxygen) / np.linalg.norm(to_acceptor)
        assert np.degrees(np.arccos(cosine)) >= 155 - 1e-6
    assert found > 20
    assert hydrogen_bond(_embedded("FC(F)(F)F"), water, 1.9, np.random.default_rng(0)) is None  # nothing to give


def test_poses_of_a_pair_move_apart_along_a_line() -> None:
    first, second = _embedded("CC(N)=O"), _embedded("CO")
    near, others = poses("hydrogen bond", first, second, 30, np.random.default_rng(4))
    atoms = len(first[1])
    moves = np.array([other[atoms:].mean(0) - near[atoms:].mean(0) for other in others])
    along = moves @ (moves[0] / np.linalg.norm(moves[0]))
    np.testing.assert_allclose(np.linalg.norm(moves, axis=1), np.abs(along), atol=1e-9)
    signed = along * np.sign(along[np.argmax(np.abs(along))])
    assert -0.8 <= signed.min() < 0.0
    assert 2.0 < signed.max() <= 4.0


def test_clusters_hold_together() -> None:
    water = _embedded("O")
    whole, positions = cluster([water] * 5, np.random.default_rng(6))
    assert whole.GetNumAtoms() == len(positions) == 15
    assert connectivity(whole).holds(positions)
    oxygens = _distances(positions[::3]) + 99 * np.eye(5)
    assert oxygens.min() > 2.3
    assert oxygens.min(axis=0).max() < 4.5


def test_recipes_go_through_all_molecules_once(held_out: HeldOut) -> None:
    molecules = build_list(700, 1, held_out)
    recipe = Recipe(molecules, 5)
    assembled = {m.key for m in molecules if m.family == "assembled" and m.split == "train"}
    shards = len(assembled) // 21
    seen = [m.key for k in range(shards) for m in recipe.chosen("train", k) if m.family == "assembled"]
    assert len(seen) == len(set(seen)) == 21 * shards
    assert (
        recipe.chosen("train", 3) == Recipe(molecules, 5).chosen("train", 3) != Recipe(molecules, 6).chosen("train", 3)
    )
    draws = [recipe.rng(*name).random() for name in (("train", 0), ("train", 1), ("test", 0))]
    assert len(set(draws)) == 3
