"""The benchmark harness: its systems, its codes, what it counts, and that it notices wrong numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.cases import FAILED, FITS, TOO_LARGE, Case, Measurement
from benchmarks.measure import compare_numbers, measure_together
from benchmarks.naive_hvnet import NaiveHVNet
from benchmarks.naive_visnet import NaiveViSNet
from benchmarks.networks import RECIPES, Model
from benchmarks.peers import Differentiated, PyG, built_model
from benchmarks.plans import PRESETS, every_pair, peers_of, suits
from benchmarks.report import disagrees, exponent
from benchmarks.systems import SYSTEMS, water
from benchmarks.work import work
from mlcalc.graphs.graphs import atoms_to_graph
from mlcalc.models import Network, ViSNet, join_graphs, predict

ROOT = Path(__file__).parents[2]
AMU_PER_CUBIC_ANGSTROM = 1.66054  # g/cm^3


@pytest.mark.parametrize("name", [name for name in SYSTEMS if name not in ("water-1536", "cu-32000")])
def test_systems_are_what_they_are_called(name: str) -> None:
    system = SYSTEMS[name]
    structures = system.build()
    copies = int(name.rsplit("x", maxsplit=1)[-1]) if "x" in name else 1
    assert len(structures) == copies
    for atoms in structures[:2]:
        assert len(atoms) == system.atoms == int(name.split("-")[1].split("x", maxsplit=1)[0])
        assert set(atoms.symbols) == set(system.elements)
        assert _closest(atoms) > 0.75  # of the sum of covalent radii: bonds are rattled, but nothing overlaps


def _closest(atoms: Atoms) -> float:
    i, j, r = neighbor_list("ijd", atoms, 3.0)
    radii = covalent_radii[atoms.numbers]
    return float((r / (radii[i] + radii[j])).min())


def test_overlapping_atoms_would_be_seen() -> None:
    atoms = SYSTEMS["water-192"].build()[0]
    atoms.positions[5] = atoms.positions[100] + [0.4, 0.0, 0.0]
    assert _closest(atoms) < 0.75


@pytest.mark.parametrize("molecules", [64, 84])
def test_water_has_the_density_of_the_liquid_and_whole_molecules(molecules: int) -> None:
    atoms = water(molecules)
    assert atoms.get_masses().sum() / atoms.get_volume() * AMU_PER_CUBIC_ANGSTROM == pytest.approx(1.0, abs=0.005)
    i, j, r = neighbor_list("ijd", atoms, 2.0)
    same = i // 3 == j // 3
    bonds = r[same & ((i % 3 == 0) | (j % 3 == 0))]
    assert len(bonds) == 4 * molecules  # each molecule's two bonds, in both directions
    assert np.ptp(bonds) < 1e-9
    assert r[~same].min() > 1.2
    oxygens = atoms[atoms.numbers == 8]
    assert neighbor_list("d", oxygens, 3.0).min() > 2.5


def test_peptide_has_the_bonds_of_one() -> None:
    atoms = SYSTEMS["peptide-175"].build()[0]
    assert atoms.get_chemical_formula() == "C51H84N20O20"
    i, r = neighbor_list("id", atoms, 1.75)
    i, r = i[r < 1.75], r[r < 1.75]
    heavy = atoms[atoms.numbers > 1]
    valence = np.bincount(neighbor_list("i", heavy, 1.75), minlength=len(heavy))
    assert valence[heavy.numbers == 8].tolist() == [1] * 20
    assert set(valence[heavy.numbers == 7].tolist()) == {2}
    assert neighbor_list("i", heavy, 1.75).size == 2 * (len(heavy) - 1)  # a chain with branches, no rings


def test_plans_name_what_exists() -> None:
    listed = [*every_pair(), *(pair for plan in PRESETS.values() for pair in plan)]
    assert all(suits(network, system) for system, network in listed)
    assert not suits("aspirin-visnet", "peptide-175")  # it knows no nitrogen
    assert peers_of("visnet-256x9-l2-smooth", ["mlcalc", "pyg", "naive"]) == ["mlcalc"]


def _graph_and_model(network: str, system: str) -> tuple[list[Atoms], Model]:
    structures = SYSTEMS[system].build()[:2]
    case = Case(system, "", network, "reference", "float64", 1, 1.0)
    return structures, built_model(case, structures)


def _largest_difference(peer: Differentiated, network: Network, structures: Sequence[Atoms]) -> tuple[float, float]:
    energies, forces = peer.prepare(list(structures))[0]()
    found = predict(network, join_graphs([atoms_to_graph(atoms, network.cutoff) for atoms in structures]))
    assert found.energy is not None
    assert found.forces is not None
    rms = float(found.forces.square().mean().sqrt())
    assert 0.3 < rms < 5.0  # eV/Å: absolute errors mean something
    return float(np.abs(energies - found.energy.numpy()).max()), float(np.abs(forces - found.forces.numpy()).max())


@pytest.mark.parametrize("system", ["aspirin-21x64", "water-192"])
@pytest.mark.parametrize("peer", ["naive", "pyg"])
def test_other_visnets_agree(peer: str, system: str) -> None:
    if peer == "pyg":
        pytest.importorskip("torch_geometric", reason="PyTorch Geometric is not installed")
    structures, model = _graph_and_model("visnet-tiny", system)
    assert max(_largest_difference(_visnet(peer, model), model.network, structures)) < 1e-10
    name = "representation_model.vis_mp_layers.1.w_src_proj.weight"
    broken = model.state | {name: model.state[name] * (1 + 1e-3)}
    energy, force = _largest_difference(_visnet(peer, Model(model.network, broken)), model.network, structures)
    assert energy > 1e-10
    assert force > 1e-10


def _visnet(peer: str, model: Model) -> Differentiated:
    if peer == "pyg":
        return PyG(model, torch.float64, create_graph=False)
    naive = NaiveViSNet(model.state, model.network.config, torch.float64)
    return Differentiated(naive, model.network.cutoff, torch.float64)


@pytest.mark.parametrize("sub_network", ["painn", "rmconv"])
@pytest.mark.parametrize("system", ["cu-108", "mose2-288"])
def test_naive_hvnet_agrees(system: str, sub_network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES["hvnet-tiny"].settings, "sub_network", sub_network)
    structures, model = _graph_and_model("hvnet-tiny", system)
    naive = NaiveHVNet(model.network, torch.float64)
    peer = Differentiated(naive, model.network.cutoff, torch.float64)
    assert max(_largest_difference(peer, model.network, structures)) < 1e-9
    name = next(name for name in naive.state if name.endswith(("us2.weight", "update2.weight")))
    naive.state[name] = naive.state[name] * (1 + 1e-3)
    assert min(_largest_difference(peer, model.network, structures)) > 1e-9


@pytest.mark.parametrize(
    ("network", "system"),
    [
        ("visnet-tiny", "ethanol-9"),
        ("visnet-128x6-l1", "aspirin-21"),
        ("hvnet-tiny", "mose2-288"),
        ("cu-hvnet", "cu-108"),
    ],
)
def test_counted_products_are_those_that_run(network: str, system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "mlcalc.models.hvnet_subnetworks._LARGEST_MATRIX", 0
    )  # sums over neighbors as products of matrices
    structures, model = _graph_and_model(network, system)
    graph = atoms_to_graph(structures[0], model.network.cutoff)
    with FlopCounterMode(display=False) as counter:
        predict(model.network, graph)
    edges = graph.edges.shape[1]
    shifts = 2 * edges * 3 * 3  # shift @ cell of every edge, which is geometry
    assert work(model.network, len(structures[0]), edges).flops == counter.get_total_flops() - shifts


def test_more_layers_are_more_work() -> None:
    _, model = _graph_and_model("visnet-tiny", "ethanol-9")
    config = model.network.config
    deeper = ViSNet(type(config)(**{**vars(config), "num_layers": config.num_layers + 1}))
    one, two = work(model.network, 9, 72), work(deeper, 9, 72)
    assert two.floor_flops > one.floor_flops
    assert two.gathered_rows > one.gathered_rows
    assert one.flops > one.floor_flops > 0.5 * one.flops


def test_exponent_of_a_power() -> None:
    assert exponent([100, 1000, 4000], [3.0 * n**1.5 for n in (100, 1000, 4000)]) == pytest.approx(1.5)


def _case(folder: Path, peer: str, **changes: object) -> Case:
    path = folder / "ethanol.xyz"
    if not path.exists():
        SYSTEMS["ethanol-9"].build()[0].write(path, format="extxyz")
    values: dict[str, object] = {
        "system": "ethanol-9",
        "structures": str(path),
        "network": "visnet-tiny",
        "peer": peer,
        "dtype": "float32",
        "threads": 1,
        "memory_gib": 4.0,
        "results": str(folder / f"{peer}.npz"),
    }
    return Case(**(values | changes))  # type: ignore[arg-type]


def test_a_case_that_does_not_fit_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "cu.xyz"
    SYSTEMS["cu-4000"].build()[0].write(path, format="extxyz")
    case = _case(tmp_path, "naive", structures=str(path), network="hvnet-128x5-painn", memory_gib=1.0)
    (result,) = measure_together([case], tmp_path, repeats=1)
    assert result.status == TOO_LARGE
    assert not result.wall_s


def test_a_case_that_fails_says_why(tmp_path: Path) -> None:
    fine, broken = _case(tmp_path, "naive"), _case(tmp_path, "naive", structures=str(tmp_path / "nothing.xyz"))
    good, bad = measure_together([fine, broken], tmp_path, repeats=2)
    assert (good.status, len(good.wall_s)) == (FITS, 2)
    assert bad.status == FAILED
    assert "nothing.xyz" in bad.reason


def _numbers(folder: Path, name: str, energies: list[float], forces: NDArray[np.float64]) -> Path:
    np.savez(folder / f"{name}.npz", energies=energies, forces=forces)
    return folder / f"{name}.npz"


@pytest.mark.parametrize(("error", "noticed"), [(1e-6, False), (1e-3, True), (float("nan"), True)])
def test_wrong_forces_are_noticed(tmp_path: Path, error: float, noticed: bool) -> None:
    forces = np.random.default_rng(0).normal(size=(9, 3))
    reference = _numbers(tmp_path, "reference", [-3.0], forces)
    changed = forces.copy()
    changed[4, 1] += error
    case = _case(tmp_path, "mlcalc", results=str(_numbers(tmp_path, "mlcalc", [-3.0], changed)))
    result = Measurement(case)
    compare_numbers([result], reference, "test", [9])
    assert disagrees(result) is noticed


def test_one_command_writes_tables_numbers_and_a_picture(tmp_path: Path) -> None:
    words = ["--systems", "ethanol-9", "--networks", "visnet-tiny", "--peers", "mlcalc,naive", "--repeats", "2"]
    document = tmp_path / "document.md"
    document.write_text("above\n<!-- cpu: begin -->\nold\n<!-- cpu: end -->\nbelow\n")
    words += ["--threads", "1", "--memory-gib", "4", "--output", str(tmp_path), "--into", str(document)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *words],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    for title in ("Energy and forces per call", "Distance from the floor", "Neighbor lists", "own cost"):
        assert title in text
    assert "wrong" not in text
    written = document.read_text(encoding="utf-8")
    assert written.startswith(f"above\n<!-- cpu: begin -->\n{text}")
    assert written.endswith("<!-- cpu: end -->\nbelow\n")
    assert "old" not in written
    numbers = json.loads((tmp_path / "benchmarks.json").read_text())
    ours, naive = numbers["measurements"]
    assert [ours["case"]["peer"], naive["case"]["peer"]] == ["mlcalc", "naive"]
    assert all(len(m["wall_s"]) == len(m["cpu_s"]) == 2 and min(m["wall_s"]) > 0 for m in (ours, naive))
    assert 0 < naive["force_error"] < 1e-4
    assert (tmp_path / "benchmarks.png").read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob("*.npz"))
