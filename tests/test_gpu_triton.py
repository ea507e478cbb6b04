"""Triton kernels, run by Triton's interpreter where there is no GPU: the same numbers as the plain networks."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # must be set before triton is imported
if find_spec("triton") is None:
    pytest.skip("needs the package triton (pip install triton)", allow_module_level=True)

from checks import defined
from small_networks import named_settings, random_network
from structures import cluster, crystal, graph_of, samples

from mlcalc.gpu.capture import CapturedPath
from mlcalc.gpu.kernels import fusion_obstacle
from mlcalc.models import predict

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
NETWORKS = {name: (kind, settings) for name, kind, settings in named_settings()}
FUSED = ["visnet lmax 1 HCO", "visnet lmax 2 HCO", "visnet original HCO"]
LIMITS = {torch.float64: 1e-10, torch.float32: 2e-4}


def largest_error(network: torch.nn.Module, dtype: torch.dtype) -> float:
    path = CapturedPath(network, DEVICE, dtype, kernels="triton")
    errors = []
    for atoms in defined(network, samples(network.elements)):
        graph = graph_of(atoms, network.cutoff)
        found, reference = path.evaluate(graph, forces=True, stress=False), predict(network, graph)
        errors.append(float((found.forces.cpu() - reference.forces).abs().max()))
        errors.append(float((found.energy.cpu() - reference.energy).abs().max()))
    assert path.why == ""
    return max(errors)


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("name", FUSED)
def test_fused_network_equals_the_plain_one(name: str, dtype: torch.dtype) -> None:
    assert largest_error(random_network(*NETWORKS[name]), dtype) < LIMITS[dtype]
