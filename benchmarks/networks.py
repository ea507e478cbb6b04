"""The networks that are timed: the papers' sizes with random weights, the same ones for every code, and the bundled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor

from mlcalc import load_model
from mlcalc.importing.visnet_weights import visnet_tensors
from mlcalc.models import Graph, HVNet, HVNetConfig, Network, ViSNet, ViSNetConfig, predict

MAX_Z = 100  # rows of the originals' embeddings
_QUIET = 0.05  # what messages are multiplied by: unscaled random weights give 1e9 eV among 50 neighbors
State = dict[str, Tensor]


@dataclass(frozen=True)
class Recipe:
    """How a network comes about."""

    name: str
    family: str  # "molecular" or "solid"
    kind: str  # "visnet", "hvnet" or "bundled"
    settings: dict[str, Any] = field(default_factory=dict)
    elements: tuple[str, ...] = ()  # that it knows; empty for those of the system at hand

    @property
    def shared_with_pyg(self) -> bool:
        """Whether PyTorch Geometric's ViSNet computes the same equations."""
        return self.settings.get("variant") == "original"


def _visnet(channels: int, layers: int, lmax: int, variant: str = "original") -> Recipe:
    name = f"visnet-{channels}x{layers}-l{lmax}" + ("" if variant == "original" else "-smooth")
    settings = {"hidden_channels": channels, "num_layers": layers, "lmax": lmax, "variant": variant}
    return Recipe(name, "molecular", "visnet", settings)


def _hvnet(sub_network: str) -> Recipe:
    settings = {"num_layers": 5, "sub_network": sub_network, "neighbor_norm": 6.0}
    return Recipe(f"hvnet-128x5-{sub_network}", "solid", "hvnet", settings)


_SIZES = ((256, 9, 2), (256, 9, 1), (128, 6, 2), (128, 6, 1))
RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        *(_visnet(*size) for size in _SIZES),
        *(_visnet(*size, "smooth") for size in _SIZES),
        _hvnet("rmconv"),
        _hvnet("painn"),
        Recipe("cu-hvnet", "solid", "bundled", elements=("Cu",)),
        Recipe("aspirin-visnet", "molecular", "bundled", elements=("H", "C", "O")),
        Recipe("ethanol-visnet", "molecular", "bundled", elements=("H", "C", "O")),
        # for trying the harness out, and for its tests
        Recipe("visnet-tiny", "molecular", "visnet", {"hidden_channels": 16, "num_layers": 3, "variant": "original"}),
        Recipe("hvnet-tiny", "solid", "hvnet", {"hidden_channels": 16, "num_layers": 2, "sub_network": "painn"}),
    )
}


@dataclass(frozen=True)
class Model:
    """A network in float64 and, for a ViSNet of ours, its weights by the originals' names."""

    network: Network
    state: State = field(default_factory=dict)


def model(recipe: Recipe, elements: Sequence[str], sample: Graph, *, seed: int = 0) -> Model:
    """The network with random weights, its energies scaled to forces of 1 eV/Å (rms) on the sample.

    Absolute errors of forces mean something only then.  The same arguments give the same weights in every process.
    """
    if recipe.kind == "bundled":
        return Model(load_model(recipe.name).to(torch.float64))
    made = _random(recipe, tuple(elements), 1.0, seed)
    forces = cast("torch.Tensor", predict(made.network, sample).forces)
    scale = float(f"{1 / float(forces.square().mean().sqrt()):.3g}")  # rounded: alike whatever the number of threads
    return _random(recipe, tuple(elements), scale, seed)


def _random(recipe: Recipe, elements: tuple[str, ...], energy_scale: float, seed: int) -> Model:
    if recipe.kind == "visnet":
        config = ViSNetConfig(elements, energy_scale=energy_scale, **recipe.settings)
        state = original_state(config, seed)
        visnet = ViSNet(config).to(torch.float64)
        visnet.load_state_dict(visnet_tensors(state, replace(config, variant="original")))
        return Model(visnet.eval().requires_grad_(False), state)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        hvnet = HVNet(HVNetConfig(elements, energy_scale=energy_scale, **recipe.settings)).to(torch.float64)
        for name, parameter in hvnet.named_parameters():
            if name.endswith("bias"):  # zero at first, where a mistake in them would not be seen
                parameter.data += 0.1 * torch.randn_like(parameter)
    return Model(hvnet.eval().requires_grad_(False))


def original_state(config: ViSNetConfig, seed: int) -> State:
    """Random float64 weights of a ViSNet by the names of the published codes, biases included."""
    generator = torch.Generator().manual_seed(seed)
    H, K = config.hidden_channels, config.num_rbf
    state: State = {}

    def normal(*shape: int, scale: float) -> Tensor:
        return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)

    def linear(name: str, outputs: int, inputs: int, *, bias: bool = True, scale: float = 1.0) -> None:
        state[f"{name}.weight"] = normal(outputs, inputs, scale=scale * inputs**-0.5)
        if bias:
            state[f"{name}.bias"] = normal(outputs, scale=0.1 * scale)

    def norms(prefix: str, scalars: str, vectors: str) -> None:
        state[f"{prefix}.{scalars}.weight"] = 1 + normal(H, scale=0.1)
        state[f"{prefix}.{scalars}.bias"] = normal(H, scale=0.1)
        state[f"{prefix}.{vectors}.weight"] = torch.ones(H, dtype=torch.float64)

    root = "representation_model"
    basis = ViSNet(replace(config, num_layers=1)).to(torch.float64).basis.state_dict()
    state |= {f"{root}.distance_expansion.{name}": basis[name] for name in ("means", "betas")}
    for table in ("embedding", "neighbor_embedding.embedding"):
        state[f"{root}.{table}.weight"] = normal(MAX_Z, H, scale=1.0)
    linear(f"{root}.neighbor_embedding.distance_proj", H, K, scale=0.2)
    linear(f"{root}.neighbor_embedding.combine", H, 2 * H)
    linear(f"{root}.edge_embedding.edge_proj", H, K)
    for layer in range(config.num_layers):
        name = f"{root}.vis_mp_layers.{layer}"
        norms(name, "layernorm", "vec_layernorm")
        linear(f"{name}.vec_proj", 3 * H, H, bias=False)
        for part in ("q", "k", "dk", "dv"):
            linear(f"{name}.{part}_proj", H, H)
        linear(f"{name}.v_proj", H, H, scale=_QUIET)
        linear(f"{name}.s_proj", 2 * H, H, scale=2 * _QUIET)
        linear(f"{name}.o_proj", 3 * H, H)
        if layer < config.num_layers - 1:
            linear(f"{name}.f_proj", H, H)
            for side in ("src", "trg"):
                linear(f"{name}.w_{side}_proj", H, H, bias=False)
    norms(root, "out_norm", "vec_out_norm")
    for number, inputs, outputs in ((0, H, H // 2), (1, H // 2, 1)):
        name = f"output_model.output_network.{number}"
        linear(f"{name}.vec1_proj", inputs, inputs, bias=False)
        linear(f"{name}.vec2_proj", outputs, inputs, bias=False)
        linear(f"{name}.update_net.0", inputs, 2 * inputs)
        linear(f"{name}.update_net.2", 2 * outputs, inputs)
    return state
