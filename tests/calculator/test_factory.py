"""Calculator factories: plain recipes that other processes turn into the same calculator, or refuse."""

from __future__ import annotations

import copy
import inspect
import multiprocessing
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from numpy.typing import NDArray

from mlcalc import MLCalculator, load_model, save_model
from mlcalc.engine.choice import KERNELS
from mlcalc.errors import ModelFileError, OverlapError, UnknownModelError
from mlcalc.factory import _CHECKS, CalculatorFactory
from mlcalc.graphs.search import BACKENDS
from mlcalc.md_protocols.errors import ConfigError


def copper() -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=3)
    return atoms


def forces_of(calculator: MLCalculator) -> NDArray[np.float64]:
    atoms = copper()
    atoms.calc = calculator
    return atoms.get_forces()


def forces_from(factory: CalculatorFactory) -> NDArray[np.float64]:
    return forces_of(factory())


def refusal(factory: CalculatorFactory) -> str:
    try:
        factory()
    except ModelFileError as error:
        return str(error)
    return ""


def model_file(path: Path, shift: float = 0.0) -> Path:
    network = load_model("cu-hvnet", verify=False)
    with torch.no_grad():
        next(iter(network.parameters())).add_(shift)
    save_model(network, path)
    return path


def test_importing_making_and_pickling_takes_no_torch() -> None:
    code = (
        "import pickle, sys\nfrom mlcalc.factory import CalculatorFactory\n"
        "f = CalculatorFactory('cu-hvnet', dtype='float32', device='cuda:3')\n"
        "assert pickle.loads(pickle.dumps(f)) == f\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_settings_are_those_of_the_calculator() -> None:
    keywords = [p.name for p in inspect.signature(MLCalculator).parameters.values() if p.kind == p.KEYWORD_ONLY]
    assert list(_CHECKS) == keywords
    for name, words in (("kernels", KERNELS), ("neighbor_backend", BACKENDS), ("dtype", ("float64", "float32"))):
        assert all(dict(CalculatorFactory("cu-hvnet", **{name: word}).settings) == {name: word} for word in words)


def test_each_call_makes_a_new_calculator_with_the_settings() -> None:
    factory = CalculatorFactory("cu-hvnet", kernels="torch", dtype="float32", skin=0.5, min_distance=1, max_edges=9000)
    one, other = factory(), factory()
    assert one is not other
    assert (one.engine.kernels, one.dtype, one.neighbors.skin, one.min_distance) == ("torch", "float32", 0.5, 1.0)
    assert one.neighbors.max_edges == 9000
    plain = MLCalculator("cu-hvnet", kernels="torch", dtype="float32", skin=0.5)
    np.testing.assert_allclose(forces_of(one), forces_of(plain), rtol=0, atol=1e-5)


def test_factories_are_values(tmp_path: Path) -> None:
    factory = CalculatorFactory("cu-hvnet", skin=1, dtype="float32")
    same = CalculatorFactory("cu-hvnet", dtype="float32", skin=1.0)
    assert factory == same
    assert hash(factory) == hash(same)
    assert factory != CalculatorFactory("cu-hvnet", dtype="float64", skin=1.0)
    assert repr(factory) == "CalculatorFactory('cu-hvnet', dtype='float32', skin=1.0)"
    one = CalculatorFactory(model_file(tmp_path / "a.safetensors"))
    assert one.describe() != CalculatorFactory(model_file(tmp_path / "b.safetensors", shift=1e-3)).describe()
    assert factory.describe() == {"file_sha256": factory.file_sha256, "dtype": "float32"}
    assert CalculatorFactory("cu-hvnet", device=torch.device("cuda", 1)) == CalculatorFactory(
        "cu-hvnet", device="cuda:1"
    )


def test_another_process_makes_the_same_calculator() -> None:
    factory = CalculatorFactory("cu-hvnet")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        from_recipe = pool.apply(forces_from, [factory])
        from_pickle = pool.apply(forces_of, [factory()])  # weights and all
    for forces in (from_recipe, from_pickle):  # the last bits depend on where arrays lie in memory
        np.testing.assert_allclose(forces, forces_from(factory), rtol=0, atol=1e-12)


def test_another_file_under_the_path_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = model_file(tmp_path / "model.safetensors")
    factory = CalculatorFactory("model.safetensors")
    assert factory.model == str(path)
    monkeypatch.chdir("/")  # a relative path would mean another file now
    assert refusal(factory) == ""
    model_file(path, shift=1e-3)
    assert MLCalculator(path)  # which takes whatever is there
    assert "has file_sha256" in refusal(factory)
    path.unlink()
    assert "does not exist" in refusal(factory)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"dtpye": "float32"}, "unknown setting 'dtpye' .*Did you mean 'dtype'"),
        ({"dtype": "float16"}, "unknown dtype 'float16': choose one of 'float64', 'float32'"),
        ({"dtype": torch.float32}, "unknown dtype torch.float32"),
        ({"kernels": "fast"}, "unknown kernels 'fast'"),
        ({"device": "gpu"}, "device is 'gpu': choose 'cpu', 'cuda'"),
        ({"device": None}, "device is None"),
        ({"skin": -1.0}, "skin is -1.0"),
        ({"skin": float("nan")}, "skin is nan"),
        ({"neighbor_backend": "ase"}, "unknown neighbor_backend 'ase'"),
        ({"min_distance": "0.3"}, "min_distance is '0.3'"),
        ({"max_edges": 0}, "max_edges is 0"),
    ],
)
def test_impossible_settings_are_refused_at_once(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        CalculatorFactory("cu-hvnet", **settings)


def test_models_that_are_not_there_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match="Did you mean 'cu-hvnet'"):
        CalculatorFactory("cu-hvnett")
    with pytest.raises(ModelFileError, match="does not exist"):
        CalculatorFactory(tmp_path / "none.safetensors")
    with pytest.raises(ModelFileError, match="is a folder"):
        CalculatorFactory(tmp_path)
    with pytest.raises(ConfigError, match=r"HVNet held in memory.*save_model"):
        CalculatorFactory(load_model("cu-hvnet", verify=False))  # type: ignore[arg-type]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))])  # noqa: S301 - of bytes made here
@pytest.mark.parametrize("kernels", ["auto", "torch"])
def test_copies_of_calculators_keep_every_setting(duplicate: Any, kernels: str) -> None:
    calculator = MLCalculator("cu-hvnet", kernels=kernels, dtype="float32", skin=0.4, min_distance=2.0, max_edges=8000)
    forces = forces_of(calculator)
    twin = duplicate(calculator)
    assert twin.results.keys() == calculator.results.keys()
    np.testing.assert_array_equal(twin.results["forces"], forces)
    assert (twin.engine.path, twin.dtype, twin.describe()) == (calculator.engine.path, "float32", calculator.describe())
    assert (twin.neighbors.skin, twin.neighbors.max_edges, twin.min_distance) == (0.4, 8000, 2.0)
    np.testing.assert_array_equal(forces_of(twin), forces)  # the structure is the same: what was computed before
    twin.reset()
    np.testing.assert_allclose(forces_of(twin), forces, rtol=0, atol=1e-5)
    np.testing.assert_allclose(twin.evaluate([copper()])[0].forces, forces, rtol=0, atol=1e-5)
    close = molecule("H2")
    close.symbols[:], close.positions[:] = "Cu", [[0, 0, 0], [0, 0, 1.9]]
    with pytest.raises(OverlapError):
        twin.get_potential_energy(close)
