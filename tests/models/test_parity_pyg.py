"""ViSNet against PyTorch Geometric's own code, where that is installed: pip install torch_geometric."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ase.build import molecule
from torch import Tensor

from mlcalc import import_checkpoint
from mlcalc.graphs.graphs import atoms_to_graph
from mlcalc.models import join_graphs, predict

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its own dependencies
    pytest.importorskip("torch_geometric", reason="PyTorch Geometric is not installed: no code to compare with")
    from torch_geometric.nn.models import visnet as original

SIZES = {"num_layers": 3, "hidden_channels": 32, "num_heads": 4, "num_rbf": 16, "cutoff": 4.0, "derivative": True}
SETTINGS: list[dict[str, Any]] = [
    {"lmax": 1},
    {"lmax": 1, "vertex": True},
    {"lmax": 2, "vertex": True, "vecnorm_type": "max_min", "trainable_vecnorm": True},
    {"lmax": 2, "reduce_op": "mean", "trainable_rbf": True},
    {"lmax": 1, "vecnorm_type": "max_min", "num_layers": 1},
    {"lmax": 2, "vertex": True, "num_layers": 2, "mean": -3.0, "std": 2.0},
]


def _radius_graph(positions: Tensor, r: float, batch: Tensor, loop: bool, **limit: int) -> Tensor:
    """All pairs within r; what pip installs has no neighbor search that its ViSNet could call."""
    near = (torch.cdist(positions, positions) < r) & (batch[:, None] == batch[None])
    target, source = near.nonzero().T
    return torch.stack([source, target])


@pytest.fixture(autouse=True)
def _double(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(original, "radius_graph", _radius_graph)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # the original takes the dtype of its edges from there
    yield
    torch.set_default_dtype(before)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_same_energies_and_forces(tmp_path: Path, settings: dict[str, Any]) -> None:
    settings = SIZES | settings
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = original.ViSNet(**settings)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    torch.save(network.state_dict(), tmp_path / "model.pt")
    ours = import_checkpoint(tmp_path / "model.pt", settings=settings, elements=("H", "C", "O"))
    molecules = [molecule("CH3CH2OH"), molecule("C6H6")]
    numbers, positions = (
        torch.cat([torch.tensor(getattr(m, name)) for m in molecules]) for name in ("numbers", "positions")
    )
    batch = torch.repeat_interleave(torch.arange(2), torch.tensor([len(m) for m in molecules]))
    energy, forces = (result.detach() for result in network(numbers, positions, batch))
    found = predict(ours, join_graphs([atoms_to_graph(m, ours.cutoff) for m in molecules]))
    torch.testing.assert_close(found.energy, energy.view(-1), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.forces, forces, rtol=0, atol=1e-13 * float(forces.abs().max()) + 1e-12)
    assert float(forces.abs().max()) > 0.1
