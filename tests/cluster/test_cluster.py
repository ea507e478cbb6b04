"""Evaluation on a Dask cluster: as `evaluate` gives it, whatever happens to the workers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

pytest.importorskip("distributed", reason="needs dask.distributed: pip install 'mlcalc[cluster]'")
pytest.importorskip("cryptography", reason="needs cryptography: pip install 'mlcalc[cluster]'")

import psutil
from cluster_factories import FAR, Broken, Deadly, KillingWork
from distributed import Client, KilledWorker

from mlcalc import MLCalculator
from mlcalc.cluster.evaluate import ClusterEvaluationError, evaluate_on_cluster, local_cluster
from mlcalc.cluster.worker import Chunk, Work
from mlcalc.errors import DeviceError, ModelFileError, OverlapError
from mlcalc.evaluation import Evaluation
from mlcalc.factory import CalculatorFactory
from mlcalc.md_protocols import relax_many
from mlcalc.md_protocols.errors import ConfigError, EvaluationError


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with local_cluster(2) as client:
        yield client


@pytest.fixture
def unforgiving(client: Client) -> Iterator[Client]:
    """A cluster that gives up a task at the first death of its worker."""
    client.run_on_scheduler(allow_failures, 0)
    yield client
    client.run_on_scheduler(allow_failures, 3)


def allow_failures(number: int, dask_scheduler: Any = None) -> None:
    dask_scheduler.allowed_failures = number


def ethanols(count: int = 12, deadly: int | None = None) -> list[Atoms]:
    structures = []
    for seed in range(count):
        atoms = molecule("CH3CH2OH")
        atoms.rattle(0.05, seed=seed)
        if seed == deadly:
            atoms.positions[:, 0] += 2 * FAR
        structures.append(atoms)
    return structures


def coppers() -> list[Atoms]:
    structures = [bulk("Cu", cubic=True).repeat(size) for size in ((2, 1, 1), (1, 1, 1), (2, 2, 1), (1, 1, 1))]
    for seed, atoms in enumerate(structures):
        atoms.rattle(0.05, seed=seed)
    return structures


@cache
def calculator(model: str) -> MLCalculator:
    return MLCalculator(model)


def expected(structures: list[Atoms], model: str = "ethanol-visnet", **asked: Any) -> list[Evaluation]:
    return calculator(model).evaluate(structures, **asked)


def assert_equal(found: list[Evaluation], expected: list[Evaluation]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.energy == pytest.approx(other.energy, abs=1e-10)
        for name in ("energies", "forces", "stress"):
            values, reference = getattr(one, name), getattr(other, name)
            assert (values is None) == (reference is None)
            if reference is not None:
                np.testing.assert_allclose(values, reference, rtol=0, atol=1e-10)


def test_nothing_listens_beyond_this_machine(client: Client) -> None:
    assert client.scheduler.address.startswith("tls://127.0.0.1:")
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    listening = [c.laddr.ip for p in processes for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert len(listening) >= 5  # the scheduler, two workers and their nannies
    assert set(listening) == {"127.0.0.1"}


def test_strangers_on_this_machine_are_turned_away(client: Client) -> None:
    address = client.scheduler.address.replace("tls://", "tcp://")
    with pytest.raises((OSError, TimeoutError)):
        Client(address, timeout=2)


@pytest.mark.parametrize("batch", [None, 1, 10])
def test_results_are_those_of_evaluate_in_order(client: Client, batch: int | None) -> None:
    structures = coppers()
    found = evaluate_on_cluster("cu-hvnet", structures, client=client, stress=True, batch=batch)
    assert_equal(found, expected(structures, "cu-hvnet", stress=True))
    with pytest.raises(AssertionError):
        assert_equal(found[::-1], expected(structures, "cu-hvnet", stress=True))


def test_without_forces_and_without_structures(client: Client) -> None:
    found = evaluate_on_cluster("ethanol-visnet", ethanols(2), client=client, forces=False)
    assert_equal(found, expected(ethanols(2), forces=False))
    assert evaluate_on_cluster("ethanol-visnet", [], client=client) == []


def test_a_killed_worker_loses_nothing(unforgiving: Client, tmp_path: Path) -> None:
    structures, log = ethanols(deadly=5), tmp_path / "deaths"
    log.touch()
    factory = Deadly(str(log), deaths=2)
    # what the scheduler alone does: the first death takes the whole chunk along
    future = unforgiving.submit(Work(factory, True, False), Chunk.of(range(12), structures), pure=False)
    assert isinstance(future.exception(), KilledWorker)
    found = evaluate_on_cluster(factory, structures, client=unforgiving)
    assert log.read_bytes() == b".."  # the second death was here
    assert_equal(found, expected(structures))


@pytest.mark.parametrize("batch", [1, 1000])
def test_a_structure_that_kills_is_named_and_a_rerun_needs_only_that_one(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    structures, folder = ethanols(), tmp_path / "results"
    ask = partial(evaluate_on_cluster, "ethanol-visnet", structures, client=client, output=folder, batch=batch)
    monkeypatch.setattr("mlcalc.cluster.evaluate.Work", KillingWork)
    with pytest.raises(ClusterEvaluationError) as caught:
        ask()
    monkeypatch.undo()
    assert re.search("1 of 12 .*structure 5 .9 atoms, C2OH6.: all workers .*others are in", str(caught.value))
    assert list(caught.value.failures) == [5]
    assert [place for place, result in enumerate(caught.value.results) if result is None] == [5]
    before = set(folder.glob("results-*.npz"))
    assert_equal(ask(), expected(structures))
    (added,) = set(folder.glob("results-*.npz")) - before
    with np.load(added) as arrays:
        assert arrays["places"].tolist() == [5]
    monkeypatch.setattr("mlcalc.cluster.evaluate.Work", None)  # nothing is computed any more
    assert_equal(ask(), expected(structures))


def test_bad_structures_lose_no_others(client: Client) -> None:
    structures = ethanols(9)
    structures[2].positions[0, 0] = np.nan
    structures[4].numbers[0] = 79
    structures[7].positions[1] = structures[7].positions[0] + 0.1
    with pytest.raises(ClusterEvaluationError, match=r"3 of 9 structures.*structure 2: .*structure 4: .*structure 7: "):
        evaluate_on_cluster("ethanol-visnet", structures, client=client)
    found = evaluate_on_cluster("ethanol-visnet", structures, client=client, errors="return")
    bad = {place: result for place, result in enumerate(found) if isinstance(result, Exception)}
    assert sorted(bad) == [2, 4, 7]
    assert isinstance(bad[7], OverlapError)
    good = [place for place in range(9) if place not in bad]
    assert_equal([found[place] for place in good], expected([structures[place] for place in good]))
    for place, error in bad.items():
        with pytest.raises(type(error)) as alone:
            expected([structures[place]])
        assert str(alone.value).replace("structure 0", f"structure {place}") == str(error)


def test_what_fails_on_every_worker_is_raised_at_once(client: Client, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="device 'cuda' is not available"):
        evaluate_on_cluster(Broken(), ethanols(), client=client)
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"one")
    factory = CalculatorFactory(path)
    path.write_bytes(b"other")
    with pytest.raises(ModelFileError, match="has file_sha256"):
        evaluate_on_cluster(factory, ethanols(), client=client)
    with pytest.raises(EvaluationError):  # stress of a molecule
        evaluate_on_cluster("ethanol-visnet", ethanols(1), client=client, stress=True)


def test_relaxations_run_on_the_cluster(client: Client) -> None:
    factory = CalculatorFactory("ethanol-visnet")
    structures = ethanols(3)
    for atoms in structures:
        atoms.calc = calculator("ethanol-visnet")
    here = relax_many(structures, fmax=0.05)
    there = relax_many(structures, fmax=0.05, evaluate=partial(evaluate_on_cluster, factory, client=client))
    for one, other in zip(here, there, strict=True):
        assert one.converged
        assert other.converged
        assert other.energy == pytest.approx(one.energy, abs=1e-8)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"batch": 0}, "batch is 0"),
        ({"errors": "ignore"}, "unknown errors 'ignore'"),
        ({"client": "tcp://somewhere:8786"}, "client is 'tcp://somewhere:8786': give a distributed.Client"),
        ({"structures": molecule("H2")}, r"pass \[atoms\]"),
        ({"structures": [molecule("H2"), None]}, "structure 1 is None"),
        ({"factory": object()}, "factory is a object.*CalculatorFactory"),
    ],
)
def test_bad_arguments(client: Client, arguments: dict[str, Any], text: str) -> None:
    good = {"factory": "ethanol-visnet", "structures": [molecule("H2")], "client": client}
    with pytest.raises(ConfigError, match=text):
        evaluate_on_cluster(**(good | arguments))
