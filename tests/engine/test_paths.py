"""Which path evaluates a model, why, and that all paths give the numbers of the reference."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from potentials import Morse
from small_networks import random_network

from mlcalc import MLCalculator, evaluate
from mlcalc.cli import main
from mlcalc.engine.engine import Engine
from mlcalc.md_protocols import run_nve
from mlcalc.md_protocols.errors import ConfigError

NETWORK = random_network(
    "hvnet", {"elements": ("Cu",), "cutoff": 4.0, "hidden_channels": 8, "num_layers": 2, "energy_shift": (-3.7,)}
)
PUBLISHED = random_network("hvnet", {"elements": ("Cu",), "cutoff": 4.0, "hidden_channels": 8, "variant": "pyg"})


def copper() -> Atoms:
    atoms = bulk("Cu", cubic=True) * 2
    atoms.rattle(0.05, seed=1)
    return atoms


def test_the_reference_may_be_asked_for() -> None:
    engine = Engine(NETWORK, kernels="torch")
    assert engine.path == "torch autograd"
    assert "asked for" in engine.why
    assert repr(engine).startswith("<Engine of HVNet: torch autograd (")
    assert "float64 on cpu, " in repr(engine)
    for calculator in (MLCalculator(NETWORK, kernels="torch"), MLCalculator(Morse())):
        scope = calculator.engine.scope
        text = str(calculator)
        assert text.startswith(f"<MLCalculator {calculator.model_name}: {' '.join(scope.elements or ())}, cutoff ")
        assert f"cutoff {scope.cutoff:g} Å; {calculator.engine.path}" in text
        assert "float64 on cpu" in text
        assert "\n" not in text


@pytest.mark.parametrize("model", [NETWORK, PUBLISHED, Morse()], ids=["hvnet", "pyg", "analytic"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-8), ("float32", 1e-4)])
def test_the_path_chosen_gives_the_numbers_of_the_reference(model, dtype: str, tolerance: float) -> None:
    atoms = copper()
    atoms.pbc = model is not PUBLISHED
    chosen = evaluate(model, [atoms], dtype=dtype)[0]
    reference = evaluate(model, [atoms], dtype="float64", kernels="torch")[0]
    assert chosen.energy == pytest.approx(reference.energy, abs=1e-5 * len(atoms))
    np.testing.assert_allclose(chosen.forces, reference.forces, atol=tolerance)


def test_why_there_is_no_faster_path() -> None:
    assert "Morse is no network" in Engine(Morse()).why
    with pytest.raises(ConfigError, match=r"'fused' is not possible: .*Morse is no network.*pass kernels='auto'"):
        Engine(Morse(), kernels="fused")
    with pytest.raises(ConfigError, match=r"'compile' is not possible: Morse is no network"):
        Engine(Morse(), kernels="compile")
    with pytest.raises(ConfigError, match=r"kernels = 'fast' is not known: choose one of auto, fused, torch, compile"):
        MLCalculator(NETWORK, kernels="fast")


def test_without_numba_the_reference_runs_and_says_why() -> None:
    program = (
        "import sys; sys.modules['numba'] = None\n"
        "from mlcalc.engine.engine import Engine\n"
        "from mlcalc import load_model\n"
        "from mlcalc.errors import ConfigError\n"
        "engine = Engine(load_model('ethanol-visnet', verify=False))\n"
        "print(engine.path, '|', engine.why)\n"
        "try: Engine(load_model('ethanol-visnet', verify=False), kernels='fused')\n"
        "except ConfigError as error: print(error)\n"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told.startswith("torch autograd | no fused kernels: numba")
    assert "pip install numba" in told
    assert "kernels='fused' is not possible" in told


@pytest.mark.parametrize("kernels", ["auto", "torch"])
def test_copies_make_their_own_path(kernels: str) -> None:
    atoms = copper()
    atoms.calc = MLCalculator(NETWORK, kernels=kernels)
    forces = atoms.get_forces()
    for twin in (copy.deepcopy(atoms.calc), pickle.loads(pickle.dumps(atoms.calc))):  # noqa: S301 - our own object
        other = copper()
        other.calc = twin
        np.testing.assert_array_equal(other.get_forces(), forces)
        assert repr(twin.engine) == repr(atoms.calc.engine)
        assert twin.engine._path is not atoms.calc.engine._path


def test_a_run_is_continued_by_another_path(tmp_path) -> None:
    atoms = copper()
    settings = {"timestep_fs": 1.0, "temperature_K": 100, "output": tmp_path / "run"}
    atoms.calc = MLCalculator(NETWORK, kernels="torch")
    run_nve(atoms, steps=2, **settings)
    atoms.calc = MLCalculator(NETWORK, kernels="auto")
    assert run_nve(atoms, steps=4, **settings).steps[-1] == 4


def test_the_command_line_takes_kernels(tmp_path, capsys) -> None:
    path = tmp_path / "cu.xyz"
    copper().write(path)
    words = ["md", str(path), "--model", "cu-hvnet", "--steps", "1", "--temperature-K", "10", "--no-plot"]
    assert main([*words, "--output", str(tmp_path / "run"), "--kernels", "torch"]) == 0
    assert "computed by     torch autograd (kernels='torch' was asked for)" in capsys.readouterr().out
    assert main([*words, "--output", str(tmp_path / "run"), "--kernels", "quick"]) == 2
    assert "'quick' is not one of" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(find_spec("torch._inductor") is None, reason="this torch has no compiler")
@pytest.mark.filterwarnings("default")  # the compiler's own
def test_compiled_networks_give_the_numbers_of_the_reference() -> None:
    structures = [copper(), copper() * (2, 1, 1)]
    structures[1].rattle(0.02, seed=2)
    for atoms in structures:
        compiled = evaluate(NETWORK, [atoms], kernels="compile", stress=True)[0]
        reference = evaluate(NETWORK, [atoms], kernels="torch", stress=True)[0]
        np.testing.assert_allclose(compiled.forces, reference.forces, atol=1e-8)
        np.testing.assert_allclose(compiled.stress, reference.stress, atol=1e-8)
