"""The published equations of ViSNet written down literally, on edges, and random checkpoints in the original's layout.

Slow and plain on purpose: nothing is simplified, no matrix is joined, nothing is left out in any layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from ase.data import atomic_masses
from torch import Tensor
from torch.nn import functional

ACTIVATIONS = {
    "silu": lambda x: x / (1 + torch.exp(-x)),
    "swish": lambda x: x / (1 + torch.exp(-x)),
    "ssp": lambda x: torch.log(torch.exp(x) + 1) - torch.log(torch.tensor(2.0)).item(),  # ln 2 of float32, as there
    "tanh": torch.tanh,
    "sigmoid": lambda x: 1 / (1 + torch.exp(-x)),
}
State = dict[str, Tensor]


@dataclass(frozen=True)
class Settings:
    """Arguments of the original constructor; two heads of 4 channels, 5 radial functions."""

    lmax: int = 2
    vertex: str = "none"  # "edge", "node"
    vecnorm: str = "none"
    rbf: str = "expnorm"
    activation: str = "silu"
    attn_activation: str = "silu"
    head: str = "scalar"
    reduce: str = "add"
    cutoff: float = 3.0
    channels: int = 8
    layers: int = 3
    heads: int = 2
    num_rbf: int = 5
    max_z: int = 12
    prior: bool = False


def random_state(s: Settings, seed: int = 0) -> State:
    """A checkpoint of the original code with random weights, biases included; names as in its state_dict."""
    generator = torch.Generator().manual_seed(seed)
    state: State = {}

    def put(name: str, *shape: int, scale: float | None = None) -> None:
        size = scale if scale is not None else shape[-1] ** -0.5
        state[name] = size * torch.randn(*shape, generator=generator, dtype=torch.float64)

    def linear(name: str, outputs: int, inputs: int, *, bias: bool = True) -> None:
        put(f"{name}.weight", outputs, inputs)
        if bias:
            put(f"{name}.bias", outputs, scale=0.2)

    H, K, root = s.channels, s.num_rbf, "representation_model"
    state |= {"mean": torch.tensor(-1.75, dtype=torch.float64), "std": torch.tensor(1.5, dtype=torch.float64)}
    if s.prior:
        put("prior_model.atomref.weight", s.max_z, 1, scale=2.0)
        state["prior_model.initial_atomref"] = state["prior_model.atomref.weight"].clone()
    put(f"{root}.embedding.weight", s.max_z, H, scale=1.0)
    if s.rbf == "expnorm":
        start = torch.exp(torch.tensor(-s.cutoff, dtype=torch.float64))
        state[f"{root}.distance_expansion.means"] = start + (1 - start) * torch.linspace(0, 1, K).double()
        state[f"{root}.distance_expansion.betas"] = ((2 / K * (1 - start)) ** -2).repeat(K)
    else:
        state[f"{root}.distance_expansion.offset"] = torch.linspace(0, s.cutoff, K).double()
        state[f"{root}.distance_expansion.coeff"] = torch.tensor(-0.5 / (s.cutoff / (K - 1)) ** 2).double()
    put(f"{root}.neighbor_embedding.embedding.weight", s.max_z, H, scale=1.0)
    linear(f"{root}.neighbor_embedding.distance_proj", H, K)
    linear(f"{root}.neighbor_embedding.combine", H, 2 * H)
    linear(f"{root}.edge_embedding.edge_proj", H, K)
    for layer in range(s.layers):
        name, last = f"{root}.vis_mp_layers.{layer}", layer == s.layers - 1
        _random_norm(state, f"{name}.layernorm", H, generator)
        state[f"{name}.vec_layernorm.weight"] = 1 + 0.2 * torch.randn(H, generator=generator, dtype=torch.float64)
        linear(f"{name}.vec_proj", 3 * H, H, bias=False)
        for part in ("q", "k", "v", "dk", "dv"):
            linear(f"{name}.{part}_proj", H, H)
        linear(f"{name}.s_proj", 2 * H, H)
        linear(f"{name}.o_proj", (4 if s.vertex == "node" else 3) * H, H)
        if not last:
            linear(f"{name}.f_proj", (2 if s.vertex == "edge" else 1) * H, H)
        for part, there in (("w", not last), ("t", s.vertex == "node" or (s.vertex == "edge" and not last))):
            for side in ("src", "trg"):
                if there:
                    linear(f"{name}.{part}_{side}_proj", H, H, bias=False)
    _random_norm(state, f"{root}.out_norm", H, generator)
    state[f"{root}.vec_out_norm.weight"] = 1 + 0.2 * torch.randn(H, generator=generator, dtype=torch.float64)
    if s.head in ("dipole", "electronic_spatial_extent"):
        state["output_model.atomic_mass"] = torch.tensor(atomic_masses, dtype=torch.float32)
    out = "output_model.output_network"
    if s.head == "electronic_spatial_extent":
        linear(f"{out}.0", H // 2, H)
        linear(f"{out}.2", 1, H // 2)
        return state
    for number, inputs, outputs in ((0, H, H // 2), (1, H // 2, 1)):
        linear(f"{out}.{number}.vec1_proj", inputs, inputs, bias=False)
        linear(f"{out}.{number}.vec2_proj", outputs, inputs, bias=False)
        linear(f"{out}.{number}.update_net.0", inputs, 2 * inputs)
        linear(f"{out}.{number}.update_net.2", 2 * outputs, inputs)
    return state


def _random_norm(state: State, name: str, channels: int, generator: torch.Generator) -> None:
    state[f"{name}.weight"] = 1 + 0.2 * torch.randn(channels, generator=generator, dtype=torch.float64)
    state[f"{name}.bias"] = 0.2 * torch.randn(channels, generator=generator, dtype=torch.float64)


def literal_visnet(state: State, s: Settings, numbers: Tensor, positions: Tensor) -> dict[str, Any]:
    """y (1,) or (3,), x (N, H) and vec (N, S, H) of one molecule."""
    root = "representation_model"

    def lin(name: str, x: Tensor) -> Tensor:
        y = x @ state[f"{name}.weight"].T
        return y + state[f"{name}.bias"] if f"{name}.bias" in state else y

    def norm(name: str, x: Tensor) -> Tensor:
        return functional.layer_norm(x, (s.channels,), state[f"{name}.weight"], state[f"{name}.bias"])

    def vec_norm(name: str, v: Tensor) -> Tensor:
        parts = [v[:, :3]] if s.lmax == 1 else [v[:, :3], v[:, 3:]]
        return torch.cat([_normalized(part, s.vecnorm) for part in parts], dim=1) * state[f"{name}.weight"]

    act, attn_act = ACTIVATIONS[s.activation], ACTIVATIONS[s.attn_activation]
    atoms = len(numbers)
    i, j, real, C, phi, d = _edges(state, s, positions)

    def aggregate(values: Tensor) -> Tensor:
        return torch.stack([values[i == atom].sum(0) for atom in range(atoms)])

    x = state[f"{root}.embedding.weight"][numbers]
    table = state[f"{root}.neighbor_embedding.embedding.weight"][numbers]
    message = torch.where(real, table[j] * lin(f"{root}.neighbor_embedding.distance_proj", phi) * C[:, None], 0.0)
    x = lin(f"{root}.neighbor_embedding.combine", torch.cat([x, aggregate(message)], 1))
    f = (x[i] + x[j]) * lin(f"{root}.edge_embedding.edge_proj", phi)
    vec = x.new_zeros(atoms, d.shape[1], s.channels)

    for layer in range(s.layers):
        name, last = f"{root}.vis_mp_layers.{layer}", layer == s.layers - 1
        xh, vh = norm(f"{name}.layernorm", x), vec_norm(f"{name}.vec_layernorm", vec)

        def heads(part: str, values: Tensor, name: str = name) -> Tensor:
            return lin(f"{name}.{part}_proj", values).view(len(values), s.heads, -1)

        q, k, v = (heads(part, xh) for part in "qkv")
        dk, dv = act(heads("dk", f)), act(heads("dv", f))
        v1, v2, v3 = lin(f"{name}.vec_proj", vh).split(s.channels, dim=2)
        a = attn_act((q[i] * k[j] * dk).sum(2)) * C[:, None]
        m = (a[:, :, None] * v[j] * dv).reshape(len(i), -1)
        s1, s2 = act(lin(f"{name}.s_proj", m)).split(s.channels, dim=1)
        M = vh[j] * s1[:, None] + s2[:, None] * d[:, :, None]
        o = lin(f"{name}.o_proj", aggregate(m)).split(s.channels, dim=1)

        def rejected(part: str, rows: Tensor, name: str = name, vh: Tensor = vh) -> Tensor:
            w = lin(f"{name}.{part}_proj", vh[rows])
            return w - (w * d[:, :, None]).sum(1, keepdim=True) * d[:, :, None]

        dx = (v1 * v2).sum(1) * o[1] + o[-1]
        if s.vertex == "node":
            dx = dx + aggregate((rejected("t_trg", i) * rejected("t_src", i)).sum(1)) * o[2]
        dvec = v3 * o[0][:, None] + aggregate(M)
        if not last:
            gates = act(lin(f"{name}.f_proj", f)).split(s.channels, dim=1)
            df = gates[0] * (rejected("w_trg", i) * rejected("w_src", j)).sum(1)
            if s.vertex == "edge":
                df = df + gates[1] * (rejected("t_trg", i) * rejected("t_src", i)).sum(1)
            f = f + df
        x, vec = x + dx, vec + dvec

    x, vec = norm(f"{root}.out_norm", x), vec_norm(f"{root}.vec_out_norm", vec)
    return {"y": _readout(state, s, numbers=numbers, positions=positions, x=x, vec=vec, lin=lin), "x": x, "vec": vec}


def _edges(state: State, s: Settings, positions: Tensor) -> tuple[Tensor, ...]:
    """Target i, source j, whether it is no self loop, cutoff function, radial functions and harmonics of every edge."""
    atoms = len(positions)
    apart = torch.linalg.norm(positions[:, None] - positions[None], dim=2).detach()
    i, j = ((apart < s.cutoff) | torch.eye(atoms, dtype=torch.bool)).nonzero().T  # target, source; self loops too
    real = (i != j)[:, None]
    delta = torch.where(real, positions[j] - positions[i], torch.tensor([0.6, 0.0, 0.8]).double())
    length = delta.norm(dim=1, keepdim=True)
    r, u = torch.where(real, length, 0.0)[:, 0], torch.where(real, delta / length, 0.0)
    C = 0.5 * (torch.cos(torch.pi * r / s.cutoff) + 1)
    name = "representation_model.distance_expansion"
    if s.rbf == "expnorm":
        inner = torch.exp(-5 / s.cutoff * r)[:, None] - state[f"{name}.means"]
        phi = C[:, None] * torch.exp(-state[f"{name}.betas"] * inner**2)
    else:
        phi = torch.exp(state[f"{name}.coeff"] * (r[:, None] - state[f"{name}.offset"]) ** 2)
    return i, j, real, C, phi, _harmonics(u, s.lmax)


def _harmonics(u: Tensor, lmax: int) -> Tensor:
    x, y, z = u.T
    if lmax == 1:
        return u
    second = [3**0.5 * x * z, 3**0.5 * x * y, y**2 - (x**2 + z**2) / 2, 3**0.5 * y * z, 3**0.5 / 2 * (z**2 - x**2)]
    return torch.stack([x, y, z, *second], dim=1)


def _normalized(v: Tensor, kind: str) -> Tensor:
    if kind == "none" or bool((v == 0).all()):
        return v
    n = v.norm(dim=1, keepdim=True).clamp(min=1e-12)
    if kind == "rms":
        return v / (n**2).mean(2, keepdim=True).sqrt()
    low, high = n.min(2, keepdim=True).values, n.max(2, keepdim=True).values
    return v / n * torch.relu((n - low) / (high - low))


def _readout(
    state: State, s: Settings, *, numbers: Tensor, positions: Tensor, x: Tensor, vec: Tensor, lin: Any
) -> Tensor:
    act, out = ACTIVATIONS[s.activation], "output_model.output_network"
    if s.head == "electronic_spatial_extent":
        y = lin(f"{out}.2", act(lin(f"{out}.0", x)))
    else:
        vec = vec[:, :3] if s.head == "dipole" else vec
        for number in (0, 1):
            lengths = lin(f"{out}.{number}.vec1_proj", vec).norm(dim=1)
            t = lin(
                f"{out}.{number}.update_net.2", act(lin(f"{out}.{number}.update_net.0", torch.cat([x, lengths], 1)))
            )
            x, gate = t.chunk(2, dim=1)
            vec = gate[:, None] * lin(f"{out}.{number}.vec2_proj", vec)
            x = x if number else act(x)
        y = x
    if "output_model.atomic_mass" in state:
        mass = state["output_model.atomic_mass"].double()[numbers][:, None]
        away = positions - (mass * positions).sum(0) / mass.sum()
        if s.head == "dipole":
            y = y * away + vec[:, :, 0]
        elif s.head == "electronic_spatial_extent":
            y = y * (away**2).sum(1, keepdim=True)
    if s.head == "vector":
        y = vec[:, :3, 0]
    y = y * state["std"]
    if s.prior:
        y = y + state["prior_model.atomref.weight"][numbers]
    total = y.sum(0) if s.reduce == "add" else y.mean(0)
    if s.head == "dipole":
        total = total.norm(dim=0, keepdim=True)
    return total + state["mean"]
