"""Under torch.inference_mode and no_grad, which users wrap around evaluations, the numbers are those without."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from mlcalc import MLCalculator, evaluate, hessian, load_model
from mlcalc.models import HPNet, HVNetConfig

Mode = Callable[[], AbstractContextManager[object]]
MODES = [torch.inference_mode, torch.no_grad]


def crystal() -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=1)
    return atoms


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kernels", ["auto", "torch"])
def test_a_calculator_made_and_used_within(mode: Mode, kernels: str) -> None:
    outside = MLCalculator("cu-hvnet", kernels="torch")
    expected = outside.get_forces(crystal()), outside.get_stress(crystal())
    assert np.abs(expected[0]).max() > 0.1
    with mode():
        inside = MLCalculator("cu-hvnet", kernels=kernels)
        found = inside.get_forces(crystal()), inside.get_stress(crystal())
    assert inside.engine.path == MLCalculator("cu-hvnet", kernels=kernels).engine.path
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)


@pytest.mark.parametrize("mode", MODES)
def test_a_calculator_that_has_seen_both(mode: Mode) -> None:
    calculator = MLCalculator("cu-hvnet", kernels="torch")
    expected = calculator.get_forces(crystal())
    with mode():
        moved = crystal()
        moved.rattle(0.01, seed=2)
        calculator.get_forces(moved)
        np.testing.assert_allclose(calculator.get_forces(crystal()), expected, atol=1e-12)
    np.testing.assert_allclose(calculator.get_forces(crystal()), expected, atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_models_without_kernels_of_their_own_lists_and_hessians(mode: Mode) -> None:
    torch.manual_seed(0)
    network = HPNet(HVNetConfig(elements=("Cu",), cutoff=3.5, hidden_channels=8, num_layers=2, num_rbf=6)).double()
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    expected = evaluate(network, [crystal()], stress=True)[0], hessian(network, crystal(), indices=[0])
    assert expected[0].forces is not None
    assert np.abs(expected[0].forces).max() > 1e-3
    with mode():
        found = evaluate(network, [crystal()], stress=True)[0], hessian(network, crystal(), indices=[0])
        assert load_model("cu-hvnet").info is not None
    np.testing.assert_allclose(found[0].forces, expected[0].forces, atol=1e-12)
    np.testing.assert_allclose(found[0].stress, expected[0].stress, atol=1e-12)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-12)
