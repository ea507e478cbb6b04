"""What a checkpoint should give: networks of configs written by hand, and their numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ase import Atoms
from ase import units as ase_units
from checkpoint_files import CUTOFF, PYG_SETTINGS, dgl_hermnet, pyg_hermnet, visnet

from mlcalc import import_checkpoint
from mlcalc.errors import ModelFileError
from mlcalc.graphs.graphs import atoms_to_graph
from mlcalc.importing.hermnet_weights import hvnet_tensors
from mlcalc.importing.visnet_weights import visnet_tensors
from mlcalc.models import HVNetConfig, Network, Prediction, ViSNetConfig, predict
from mlcalc.models.registry import build_network

SHARED = Path(__file__).parents[3] / "shared"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no reference data in {SHARED}")
WATER = Atoms("OH2", positions=[[0, 0, 0], [0.96, 0.1, 0], [-0.3, 0.9, 0.2]])

# What the original codes would have saved, and what the import is told of it.
KCAL = ase_units.kcal / ase_units.mol
DGL, PYG, VISNET = dgl_hermnet(), pyg_hermnet(), visnet()
GIVEN: dict[str, Any] = {"cutoff": CUTOFF, "energy_shift": 0.0}
HO: dict[str, Any] = {"elements": ["H", "O"]}
SETTINGS: dict[str, Any] = {"settings": PYG_SETTINGS} | HO
SAVED = {"model_params": DGL, "rc": CUTOFF, "trn_mean": -7.5}


def prediction(network: Network, atoms: Atoms = WATER, *, forces: bool = True) -> Prediction:
    return predict(network, atoms_to_graph(atoms, network.cutoff), forces=forces)


def energy(network: Network, atoms: Atoms = WATER) -> float:
    value = prediction(network, atoms, forces=False).energy
    assert value is not None
    return float(value[0])


def built(config: HVNetConfig | ViSNetConfig, state: dict[str, torch.Tensor]) -> Network:
    """The network of a config written by hand, with the original's weights."""
    kind, tensors = ("hvnet", hvnet_tensors) if isinstance(config, HVNetConfig) else ("visnet", visnet_tensors)
    network = build_network(kind, vars(config)).to(torch.float64)
    network.load_state_dict(tensors(state, config))  # type: ignore[operator]
    return network.eval().requires_grad_(False)


def hv(**changes: Any) -> HVNetConfig:
    small = {"hidden_channels": 8, "num_rbf": 5, "cutoff": CUTOFF, "variant": "dgl"}
    return HVNetConfig(("H", "O"), **(small | changes))


def vis(state: dict[str, torch.Tensor], **changes: Any) -> ViSNetConfig:
    """The config of the small ViSNets, with scale and shifts read from the tensors."""
    values = {name: float(state[name]) for name in ("mean", "std")}
    shift = state["prior_model.atomref.weight"][[1, 8], 0].tolist() if "prior_model.atomref.weight" in state else ()
    small = {"hidden_channels": 8, "num_rbf": 6, "num_layers": 2, "num_heads": 2, "cutoff": CUTOFF, "lmax": 2}
    own = {"variant": "original", "trained_max_num_neighbors": 32, "structure_shift": values["mean"]}
    more = {"energy_scale": values["std"], "energy_shift": tuple(shift)}
    return ViSNetConfig(("H", "O"), **(small | own | more | changes))


def refused(path: Path, content: bytes, text: str) -> None:
    """Importing these bytes fails with a text that matches, and leaves the file as it is."""
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=text) as caught:
        import_checkpoint(path, cutoff=CUTOFF, energy_shift=0.0)
    assert "weights_only" not in str(caught.value)  # torch's own advice is to switch the protection off
    assert path.read_bytes() == content
