"""Tensors of the original HermNet codes under the names of this package's HVNet."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from mlcalc.errors import ModelFileError
from mlcalc.models import HVNet, HVNetConfig
from mlcalc.models.elements import atomic_number

_PYG_PARTS = {
    "layernorm": "message_layer.x_layernorm",
    "x_proj.0": "message_layer.x_proj.0",
    "x_proj.1": "message_layer.x_proj.2",
    "rbf_proj": "message_layer.rbf_proj",
    "vec_proj": "update_layer.vec_proj",
    "xvec_proj.0": "update_layer.xvec_proj.0",
    "xvec_proj.1": "update_layer.xvec_proj.2",
}
_EMBEDDING = "embed.weight"  # one row per atomic number, from 0 on, in both codes


def hvnet_tensors(state: Mapping[str, Tensor], config: HVNetConfig) -> dict[str, Tensor]:
    """The state_dict of HVNet(config), variant "dgl" or "pyg", from the tensors of the original code.

    Names come without prefixes such as "module.".  Of the embedding, the rows of the model's elements are kept.
    Raises ModelFileError for tensors that are missing, left over, or not of the shape that the settings ask for.
    """
    with torch.device("meta"):  # shapes only
        expected = {name: tensor.shape for name, tensor in HVNet(config).state_dict().items()}
    translate = _dgl_name if config.variant == "dgl" else _pyg_name
    names = {ours: translate(ours.removeprefix("original."), state) for ours in expected}
    _check_names(state, set(names.values()), config)
    return {
        ours: _rows(state[theirs], config) if theirs == _EMBEDDING else _checked(state[theirs], theirs, expected[ours])
        for ours, theirs in names.items()
    }


def _dgl_name(ours: str, state: Mapping[str, Tensor]) -> str:
    last = "3" if "fc.3.weight" in state else "2"  # without the dropout layer before September 2021
    ours = ours.replace("readout.0.", "fc.0.").replace("readout.1.", f"fc.{last}.")
    return re.sub(r"^hermconv\.(\d+)", lambda found: f"hermconv{int(found[1]) + 1}", ours)


def _pyg_name(ours: str, _: Mapping[str, Tensor]) -> str:
    ours = ours.replace("readout.0.", "out_energy.0.").replace("readout.1.", "out_energy.2.")
    ours = ours.replace("basis.", "radial_basis.rbf.")
    found = re.match(r"hermconv\.(\d+)\.mods\.(\w+)\.(.+)\.(weight|bias)$", ours)
    return f"hermconvs.{found[1]}.mods.{found[2]}.{_PYG_PARTS[found[3]]}.{found[4]}" if found else ours


def _check_names(state: Mapping[str, Tensor], needed: set[str], config: HVNetConfig) -> None:
    network = f"an HVNet of variant {config.variant!r} with {config.num_layers} layers for {', '.join(config.elements)}"
    missing, extra = needed - state.keys(), state.keys() - needed
    remedy = "Give the elements and settings that it was trained with"
    if missing and not extra:
        remedy = "The file is incomplete: save the whole state_dict where it was made"
    for names, problem in (
        (missing, f"lacks tensors of {network}"),
        (extra, f"holds tensors that {network} does not have"),
    ):
        if names:
            listed = ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            raise ModelFileError(f"the checkpoint {problem}: {listed}. {remedy}")


def _rows(embedding: Tensor, config: HVNetConfig) -> Tensor:
    numbers = [atomic_number(element) for element in config.elements]
    channels = config.hidden_channels
    if embedding.dim() != 2 or embedding.shape[0] <= max(numbers) or embedding.shape[1] != channels:
        raise ModelFileError(
            f"tensor {_EMBEDDING!r} of the checkpoint has shape {tuple(embedding.shape)}, expected (119, {channels}): "
            "a row for every atomic number. Give the settings that it was trained with"
        )
    return _checked(embedding[numbers], _EMBEDDING, torch.Size([len(numbers), channels]))


def _checked(tensor: Tensor, name: str, shape: torch.Size) -> Tensor:
    if tensor.shape != shape or not tensor.is_floating_point():
        raise ModelFileError(
            f"tensor {name!r} of the checkpoint is {tensor.dtype} of shape {tuple(tensor.shape)}, expected floating-"
            f"point numbers of shape {tuple(shape)}. Give the settings that it was trained with"
        )
    return tensor.detach().clone()
