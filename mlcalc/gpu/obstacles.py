"""Whether a network can be captured at all: whether it runs without looking at a number."""

from __future__ import annotations

import copy
import traceback
from pathlib import Path

import torch
from torch import nn

from mlcalc.gpu.gradients import energy_gradients
from mlcalc.gpu.partition import PartitionedHVNet, Parts, needs_parts
from mlcalc.models import Graph, HVNet, Potential


def capture_obstacle(potential: Potential) -> str:
    """Why the potential cannot be captured, with the place in its code; empty if nothing stands in the way.

    It is run on tensors that have shapes but no numbers.  Whatever must see a number, to size a tensor or to choose
    a branch, fails there on any machine, where on a GPU it would break the capture.
    """
    quantity = getattr(potential, "quantity", "energy")
    if quantity != "energy":
        return f"it predicts {quantity}, and only energies with their forces are captured"
    if not isinstance(potential, nn.Module):
        return f"{type(potential).__name__} is no torch module, so that nothing is known of what it does"
    if getattr(getattr(potential, "config", None), "vecnorm_type", "none") == "rms":
        return "its rms norm depends on whether the vectors of all atoms vanish, those of padding among them"
    there = copy.deepcopy(potential).to("meta")
    if needs_parts(potential) and isinstance(there, HVNet):
        indices = (torch.zeros(4, dtype=torch.int64, device="meta"),) * len(there.elements)
        PartitionedHVNet(there).parts = Parts(indices, indices)
    try:
        energy_gradients(there, _shapes(), strain=True)
    except Exception as error:
        return f"it looks at numbers while it runs ({_place(error)})"
    return ""


def _shapes(atoms: int = 8, edges: int = 20, structures: int = 2) -> Graph:
    integers = {"dtype": torch.int64, "device": "meta"}
    floats = {"dtype": torch.float64, "device": "meta"}
    return Graph(
        numbers=torch.empty(atoms, **integers),  # type: ignore[call-overload]
        positions=torch.empty(atoms, 3, **floats),  # type: ignore[call-overload]
        cell=torch.empty(structures, 3, 3, **floats),  # type: ignore[call-overload]
        edges=torch.empty(2, edges, **integers),  # type: ignore[call-overload]
        shifts=torch.empty(edges, 3, **floats),  # type: ignore[call-overload]
        batch=torch.empty(atoms, **integers),  # type: ignore[call-overload]
    )


def _place(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).parent.name == "models"]
    if not ours:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return f"{Path(ours[-1].filename).name}, {ours[-1].name}: {ours[-1].line}"
