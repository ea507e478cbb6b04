"""Checkpoints as the original codes write them, small and random, made from the tables of their formats."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Tensors = dict[str, Tensor]
MASSES = torch.linspace(0.5, 250.0, 119)  # made up: what counts is that the file's are taken
CUTOFF = 4.0  # Å


def _drawer(seed: int, dtype: torch.dtype) -> Callable[..., Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: (torch.randn(shape, generator=generator, dtype=torch.float64) / 3).to(dtype)


def dgl_hermnet(
    elements: tuple[str, ...] = ("H", "O"), *, channels: int = 8, num_rbf: int = 5, dtype: torch.dtype = torch.float64
) -> Tensors:
    """State of an HVNet of the DGL version, four layers."""
    draw, wide = _drawer(1, dtype), {"ms1": (1, 1), "ms2": (3, 1), "us1": (1, 2), "us2": (3, 1)}
    state = {"embed.weight": draw(119, channels)}
    for layer in range(1, 5):
        for element in elements:
            start = f"hermconv{layer}.mods.{element}"
            for name, (outputs, inputs) in wide.items():
                state[f"{start}.{name}.weight"] = draw(outputs * channels, inputs * channels)
                state[f"{start}.{name}.bias"] = draw(outputs * channels)
            state[f"{start}.mv.weight"], state[f"{start}.mv.bias"] = draw(3 * channels, num_rbf), draw(3 * channels)
    for name, outputs in (("fc.0", channels), ("fc.3", 1)):
        state[f"{name}.weight"], state[f"{name}.bias"] = draw(outputs, channels), draw(outputs)
    return state


def old_readout(state: Tensors) -> Tensors:
    """The same with the readout as it was named before September 2021."""
    return {name.replace("fc.3.", "fc.2."): tensor for name, tensor in state.items()}


def pyg_hermnet(elements: tuple[str, ...] = ("H", "O"), *, basis: str = "offset") -> Tensors:
    """State of an HVNet of the PyG version, two layers; `basis` names the tensor of its radial basis."""
    draw, channels, num_rbf = _drawer(2, torch.float64), 8, 5
    start: dict[str, Tensor] = {
        "offset": torch.linspace(0, 1, num_rbf, dtype=torch.float64),
        "frequencies": math.pi * torch.arange(1, num_rbf + 1, dtype=torch.float64),
        "pregamma": torch.tensor(0.45264, dtype=torch.float64),
    }
    state = {"embed.weight": draw(119, channels), f"radial_basis.rbf.{basis}": start[basis]}
    shapes = {
        "message_layer.x_proj.0": (1, 1),
        "message_layer.x_proj.2": (3, 1),
        "update_layer.vec_proj": (2, 1),
        "update_layer.xvec_proj.0": (1, 2),
        "update_layer.xvec_proj.2": (3, 1),
    }
    for layer in range(2):
        for element in elements:
            root = f"hermconvs.{layer}.mods.{element}"
            for name, (outputs, inputs) in shapes.items():
                state[f"{root}.{name}.weight"] = draw(outputs * channels, inputs * channels)
                if name != "update_layer.vec_proj":
                    state[f"{root}.{name}.bias"] = draw(outputs * channels)
            state[f"{root}.message_layer.rbf_proj.weight"] = draw(3 * channels, num_rbf)
            state[f"{root}.message_layer.rbf_proj.bias"] = draw(3 * channels)
            for part in ("weight", "bias"):
                state[f"{root}.message_layer.x_layernorm.{part}"] = draw(channels)
    state |= {"out_energy.0.weight": draw(channels // 2, channels), "out_energy.0.bias": draw(channels // 2)}
    return state | {"out_energy.2.weight": draw(1, channels // 2), "out_energy.2.bias": draw(1)}


def visnet(
    *,
    head: str = "scalar",
    vertex: str = "none",
    rbf: str = "expnorm",
    layers: int = 2,
    max_z: int = 20,
    prior: bool = True,
    channels: int = 8,
    num_rbf: int = 6,
    cutoff: float = CUTOFF,
    dtype: torch.dtype = torch.float64,
) -> Tensors:
    """State of a ViSNet, small unless said otherwise."""
    draw, H, K = _drawer(3, dtype), channels, num_rbf
    root = "representation_model"
    state: Tensors = {"mean": draw(), "std": draw().abs() + 0.5}
    if prior:
        state["prior_model.initial_atomref"] = state["prior_model.atomref.weight"] = draw(max_z, 1)

    def linear(name: str, outputs: int, inputs: int, *, bias: bool = True) -> None:
        state[f"{name}.weight"] = draw(outputs, inputs)
        if bias:
            state[f"{name}.bias"] = draw(outputs)

    def norm(name: str) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = draw(H), draw(H)

    state[f"{root}.embedding.weight"] = draw(max_z, H)
    state[f"{root}.neighbor_embedding.embedding.weight"] = draw(max_z, H)
    state |= {f"{root}.distance_expansion.{name}": value.to(dtype) for name, value in _basis(rbf, K, cutoff).items()}
    linear(f"{root}.neighbor_embedding.distance_proj", H, K)
    linear(f"{root}.neighbor_embedding.combine", H, 2 * H)
    linear(f"{root}.edge_embedding.edge_proj", H, K)
    for layer in range(layers):
        name, last = f"{root}.vis_mp_layers.{layer}", layer == layers - 1
        norm(f"{name}.layernorm")
        state[f"{name}.vec_layernorm.weight"] = torch.ones(H, dtype=dtype)
        linear(f"{name}.vec_proj", 3 * H, H, bias=False)
        for part in ("q", "k", "v", "dk", "dv"):
            linear(f"{name}.{part}_proj", H, H)
        linear(f"{name}.s_proj", 2 * H, H)
        linear(f"{name}.o_proj", (4 if vertex == "node" else 3) * H, H)
        if not last:
            linear(f"{name}.f_proj", (2 if vertex == "edge" else 1) * H, H)
        pairs = ["w"] * (not last) + ["t"] * (vertex == "node" or (vertex == "edge" and not last))
        for part in [f"{pair}_{side}" for pair in pairs for side in ("src", "trg")]:
            linear(f"{name}.{part}_proj", H, H, bias=False)
    norm(f"{root}.out_norm")
    state[f"{root}.vec_out_norm.weight"] = torch.ones(H, dtype=dtype)
    _head(state, linear, head, H)
    return state


def _basis(rbf: str, K: int, cutoff: float) -> Tensors:
    if rbf == "gauss":
        offset = torch.linspace(0, cutoff, K, dtype=torch.float64)
        return {"coeff": -0.5 / (offset[1] - offset[0]) ** 2, "offset": offset}
    first = math.exp(-cutoff)
    betas = torch.full((K,), (2 / K * (1 - first)) ** -2, dtype=torch.float64)
    return {"means": torch.linspace(first, 1, K, dtype=torch.float64), "betas": betas}


def _head(state: Tensors, linear: Callable[..., None], head: str, H: int) -> None:
    root = "output_model.output_network"
    if head in ("dipole", "electronic_spatial_extent"):
        state["output_model.atomic_mass"] = MASSES
    if head == "electronic_spatial_extent":
        linear(f"{root}.0", H // 2, H)
        linear(f"{root}.2", 1, H // 2)
        return
    for number, inputs, outputs in ((0, H, H // 2), (1, H // 2, 1)):
        linear(f"{root}.{number}.vec1_proj", inputs, inputs, bias=False)
        linear(f"{root}.{number}.vec2_proj", outputs, inputs, bias=False)
        linear(f"{root}.{number}.update_net.0", inputs, 2 * inputs)
        linear(f"{root}.{number}.update_net.2", 2 * outputs, inputs)


PYG_SETTINGS: dict[str, Any] = {
    "lmax": 2,
    "num_heads": 2,
    "num_layers": 2,
    "hidden_channels": 8,
    "num_rbf": 6,
    "cutoff": CUTOFF,
    "max_z": 20,
}
HYPER_PARAMETERS: dict[str, Any] = {
    "lr": 2e-4,
    "precision": 32,
    "model": "ViSNetBlock",
    "output_model": "Scalar",
    "prior_model": "Atomref",
    "prior_args": {"max_z": 20},
    "embedding_dimension": 8,
    "num_layers": 2,
    "num_rbf": 6,
    "activation": "silu",
    "rbf_type": "expnorm",
    "trainable_rbf": False,
    "attn_activation": "silu",
    "num_heads": 2,
    "cutoff": CUTOFF,
    "max_z": 20,
    "max_num_neighbors": 32,
    "reduce_op": "add",
    "lmax": 2,
    "vecnorm_type": "none",  # YAML's spellings of nothing are texts
    "trainable_vecnorm": False,
    "vertex_type": "None",
    "dataset": "Chignolin",
    "dataset_arg": None,
}


def lightning(state: Tensors, *, trained: tuple[int, ...] | None = None, **changes: Any) -> dict[str, Any]:
    """A Lightning checkpoint of these weights; `trained` are the atomic numbers that Adam has seen."""
    moments = torch.zeros_like(state["representation_model.embedding.weight"])
    moments[list(trained or ())] = 1e-9
    adam = {"step": torch.tensor(5.0), "exp_avg": moments.clone(), "exp_avg_sq": moments}
    return {
        "epoch": 3,
        "pytorch-lightning_version": "1.8.0",
        "state_dict": {f"model.{name}": tensor for name, tensor in state.items()},
        "optimizer_states": [{"state": {0: adam}, "param_groups": [{"lr": 1e-4, "params": [0]}]}] if trained else [],
        "hyper_parameters": HYPER_PARAMETERS | changes,
    }


def written(path: Path, content: Any, **how: Any) -> Path:
    """The path of a file that torch.save wrote."""
    torch.save(content, path, **how)
    return path


def saved(content: Any, **how: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **how)
    return buffer.getvalue()


def rezipped(content: bytes, change: Callable[[str, bytes], bytes], **how: Any) -> bytes:
    """The zip archive with its entries changed, and right checksums."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(buffer, "w", **how) as target:
        for entry in source.namelist():
            target.writestr(entry, change(entry, source.read(entry)))
    return buffer.getvalue()
