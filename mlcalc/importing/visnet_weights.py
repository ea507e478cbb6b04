"""Tensors of the original ViSNet codes, arranged as mlcalc.models.ViSNet holds them.

Matrices that are applied to the same input are joined; what multiplies the vectors of the first block, which are zero,
is left out, as are the second outputs of heads that nothing uses.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mlcalc.errors import ModelFileError
from mlcalc.models import ViSNetConfig
from mlcalc.models.elements import atomic_number

_ELSEWHERE = ("mean", "std", "prior_model.initial_atomref", "prior_model.atomref.weight", "output_model.atomic_mass")


def visnet_tensors(state: Mapping[str, Tensor], config: ViSNetConfig) -> dict[str, Tensor]:
    """State of a ViSNet of this config from the original's tensors, whose names come without a leading "model.".

    The constants that the config holds (mean, std, references of the elements, masses) are not looked at.  Raises
    ModelFileError for a tensor that is missing, left over or of another shape than the config says.
    """
    source = _Source(state)
    tensors = _representation(source, config)
    for layer in range(config.num_layers):
        tensors |= _block(source, config, layer)
    tensors |= _head(source, config)
    source.check_used()
    return tensors


class _Source:
    """The original's tensors, each with the shape it must have; remembers which were asked for."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.state = state
        self.used = set(_ELSEWHERE)

    def __call__(self, name: str, *shape: int | None) -> Tensor:
        if name not in self.state:
            raise ModelFileError(
                f"the checkpoint lacks the tensor {name!r}, which a ViSNet of these settings has: check num_layers, "
                "vertex_type, rbf_type and the kind of head in its settings"
            )
        self.used.add(name)
        tensor = self.state[name]
        if len(tensor.shape) != len(shape) or any(n not in (None, m) for n, m in zip(shape, tensor.shape, strict=True)):
            expected = tuple("any" if size is None else size for size in shape)
            raise ModelFileError(
                f"the tensor {name!r} of the checkpoint has shape {tuple(tensor.shape)}, these settings ask for "
                f"{expected}: check hidden_channels (embedding_dimension), num_rbf and vertex_type in its settings"
            )
        return tensor

    def layer(self, name: str, outputs: int, inputs: int) -> dict[str, Tensor]:
        return {"weight": self(f"{name}.weight", outputs, inputs), "bias": self(f"{name}.bias", outputs)}

    def norm(self, name: str, channels: int) -> dict[str, Tensor]:
        return {"weight": self(f"{name}.weight", channels), "bias": self(f"{name}.bias", channels)}

    def check_used(self) -> None:
        left = sorted(set(self.state) - self.used)
        if left:
            listed = ", ".join(left[:3]) + (f" and {len(left) - 3} more" if len(left) > 3 else "")
            raise ModelFileError(
                f"the checkpoint holds {len(left)} tensors that a ViSNet of these settings does not have: {listed}. "
                "Check num_layers, vertex_type and the kind of head in its settings"
            )


def _named(prefix: str, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in parts.items()}


def _joined(*parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Layers of the same input as one, outputs one after the other."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _rows(parts: Mapping[str, Tensor], rows: slice) -> dict[str, Tensor]:
    return {name: tensor[rows] for name, tensor in parts.items()}


def _representation(source: _Source, config: ViSNetConfig) -> dict[str, Tensor]:
    H, K = config.hidden_channels, config.num_rbf
    root = "representation_model"
    numbers = torch.tensor([atomic_number(element) for element in config.elements])

    def element_rows(name: str) -> Tensor:
        table = source(f"{root}.{name}", None, H)
        if int(numbers.max()) >= len(table):
            raise ModelFileError(
                f"the table {name!r} of the checkpoint has {len(table)} rows, which is no row for "
                f"{config.elements[-1]} (Z = {int(numbers.max())}): name only elements with Z below {len(table)}"
            )
        return table[numbers]

    tensors = {
        "embedding.atom.weight": element_rows("embedding.weight"),
        "embedding.neighbor.weight": element_rows("neighbor_embedding.embedding.weight"),
        **_named("embedding.distance_proj", source.layer(f"{root}.neighbor_embedding.distance_proj", H, K)),
        **_named("embedding.combine", source.layer(f"{root}.neighbor_embedding.combine", H, 2 * H)),
        **_named("embedding.edge_proj", source.layer(f"{root}.edge_embedding.edge_proj", H, K)),
        **_named("out_norm", source.norm(f"{root}.out_norm", H)),
    }
    basis = f"{root}.distance_expansion"
    if config.rbf_type == "expnorm":
        tensors |= {f"basis.{name}": source(f"{basis}.{name}", K) for name in ("means", "betas")}
    else:
        tensors |= {"basis.coeff": source(f"{basis}.coeff"), "basis.offset": source(f"{basis}.offset", K)}
    return tensors | _vector_norm(source, config, f"{root}.vec_out_norm", "vec_out_norm", kept=True)


def _vector_norm(source: _Source, config: ViSNetConfig, name: str, ours: str, *, kept: bool) -> dict[str, Tensor]:
    weight = source(f"{name}.weight", config.hidden_channels)
    if config.trainable_vecnorm:
        return {f"{ours}.weight": weight} if kept else {}
    if bool((weight != 1).any()):
        raise ModelFileError(
            f"the tensor {name + '.weight'!r} of the checkpoint is not one everywhere, as it is with "
            "trainable_vecnorm = false: set trainable_vecnorm to true in its settings"
        )
    return {}


def _block(source: _Source, config: ViSNetConfig, layer: int) -> dict[str, Tensor]:
    H, root, ours = config.hidden_channels, f"representation_model.vis_mp_layers.{layer}", f"blocks.{layer}"
    first, last = layer == 0, layer == config.num_layers - 1
    edge, node = config.vertex_type == "edge", config.vertex_type == "node"

    def square(name: str) -> dict[str, Tensor]:
        return source.layer(f"{root}.{name}_proj", H, H)

    edge_parts = [square("dk"), square("dv")]
    s = source.layer(f"{root}.s_proj", 2 * H, H)
    o = source.layer(f"{root}.o_proj", (4 if node else 3) * H, H)
    vec = {"weight": source(f"{root}.vec_proj.weight", 3 * H, H)}
    pairs: dict[str, dict[str, Tensor]] = {}
    for name, present in (("w", not last), ("t", node or (edge and not last))):
        if present:  # target first, as the columns of the block's projections
            weights = [source(f"{root}.{name}_{side}_proj.weight", H, H) for side in ("trg", "src")]
            pairs[name] = {"weight": torch.cat(weights)}
    f = source.layer(f"{root}.f_proj", (2 if edge else 1) * H, H) if not last else {}
    tensors = {
        **_named(f"{ours}.layernorm", source.norm(f"{root}.layernorm", H)),
        **_named(f"{ours}.qkv", _joined(square("q"), square("k"), square("v"))),
        **_vector_norm(source, config, f"{root}.vec_layernorm", f"{ours}.vec_norm", kept=not first),
    }
    if first:  # s1, o1, o2 and all of vec, w, t, f would act on vectors that are zero
        edges, s, o = _joined(*edge_parts), _rows(s, slice(H, None)), _rows(o, slice(-H, None))
    else:
        edges = _joined(*edge_parts, f) if f else _joined(*edge_parts)
        tensors |= _named(f"{ours}.vec_proj", vec)
        for name, weights_of in pairs.items():
            tensors |= _named(f"{ours}.{name}_proj", weights_of)
    return tensors | _named(f"{ours}.edge_proj", edges) | _named(f"{ours}.s_proj", s) | _named(f"{ours}.o_proj", o)


def _head(source: _Source, config: ViSNetConfig) -> dict[str, Tensor]:
    H, root = config.hidden_channels, "output_model.output_network"
    if config.head == "electronic_spatial_extent":
        return _named("head.0", source.layer(f"{root}.0", H // 2, H)) | _named(
            "head.2", source.layer(f"{root}.2", 1, H // 2)
        )
    tensors: dict[str, Tensor] = {}
    used = {"scalar": slice(0, 1), "dipole": slice(0, 2), "vector": slice(1, 2)}[config.head]
    for number, inputs, outputs in ((0, H, H // 2), (1, H // 2, 1)):
        name, ours = f"{root}.{number}", f"head.{number}"
        last = source.layer(f"{name}.update_net.2", 2 * outputs, inputs)
        gated = source(f"{name}.vec2_proj.weight", outputs, inputs)
        tensors |= {
            f"{ours}.vec1_proj.weight": source(f"{name}.vec1_proj.weight", inputs, inputs),
            **_named(f"{ours}.update_net.0", source.layer(f"{name}.update_net.0", inputs, 2 * inputs)),
            **_named(f"{ours}.update_net.2", _rows(last, used) if number else last),
        }
        if number == 0 or config.head != "scalar":
            tensors[f"{ours}.vec2_proj.weight"] = gated
    return tensors
