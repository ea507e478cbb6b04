"""Which program wrote a checkpoint, told from the names in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mlcalc.errors import ModelFileError
from mlcalc.importing.reading import Checkpoint, float_tensors

KNOWN = (
    "HermNet of the DGL version (hermconv1.mods...), HermNet of the PyG version (hermconvs.0.mods...), and ViSNet of "
    "AI2BMD, of its ViSNet branch or of PyTorch Geometric (representation_model.vis_mp_layers...)"
)
HALF = "its weights are in half precision"
OLD_READOUT = "its readout has no dropout layer, as in files from before 2021-09-09"
# Where the training programs put the weights; a bare state_dict has none of these names.
_WEIGHTS = ("state_dict", "model_params", "model")


@dataclass(frozen=True, eq=False)
class Layout:
    """A checkpoint that was recognized."""

    name: str  # what it is, for people
    family: str  # "dgl", "pyg" (both HermNet) or "visnet"
    tensors: dict[str, Tensor]  # without prefixes; weights are of one dtype, constants may be float64
    dtype: torch.dtype  # of the weights, float32 or float64
    facts: dict[str, Any] = field(default_factory=dict)  # what else the file says of the network
    optimizer: Any = None  # state of the optimizer, where the file has it
    notes: tuple[str, ...] = ()  # what was done to the file's content


def recognize(checkpoint: Checkpoint) -> Layout:
    """What the checkpoint is; ModelFileError for files of other programs and for networks that cannot be imported."""
    content, origin = checkpoint.content, checkpoint.origin
    holder = next((name for name in _WEIGHTS if isinstance(content.get(name), dict)), None)
    raw = content if holder is None else content[holder]
    names = _without_prefixes(raw, origin)
    family = _family(names, origin)
    tensors = float_tensors(names, origin)
    dtype, notes = _one_dtype(tensors, origin)
    rest = {} if holder is None else {name: value for name, value in content.items() if name != holder}
    if family == "visnet":
        facts = rest.get("hyper_parameters")
        if facts is not None and not isinstance(facts, dict):
            raise ModelFileError(f"{origin}: its hyper_parameters are a {type(facts).__name__}, not a dict of settings")
        name = "ViSNet, Lightning checkpoint (AI2BMD)" if facts is not None else "ViSNet, state_dict"
        return Layout(name, family, tensors, dtype, facts or {}, rest.get("optimizer_states"), notes)
    version = "DGL" if family == "dgl" else "PyG"
    if family == "dgl" and _modern_readout(tensors):
        notes = (*notes, OLD_READOUT)
    kind = {None: "state_dict", "model_params": "checkpoint of utils.save_model"}.get(holder, "training checkpoint")
    return Layout(f"HermNet HVNet, {version} version, {kind}", family, tensors, dtype, facts=rest, notes=notes)


def _without_prefixes(raw: Mapping[Any, Any], origin: str) -> dict[str, Any]:
    """Values by their names in the network: without the "module." of distributed and the "model." of Lightning runs."""
    names: dict[str, Any] = {}
    for key, value in raw.items():
        name = re.sub(r"^(module\.|model\.)+", "", key) if isinstance(key, str) else str(key)
        if name in names:
            raise ModelFileError(f"{origin} holds {name!r} twice, with and without a prefix: save the weights again")
        names[name] = value
    return names


def _family(names: Mapping[str, Any], origin: str) -> str:
    if any(name.startswith("representation_model.vis_mp_layers.0.") for name in names):
        return "visnet"
    for family, start in (("dgl", "hermconv1.mods."), ("pyg", "hermconvs.0.mods.")):
        modules = {name.removeprefix(start).split(".")[0] for name in names if name.startswith(start)}
        if any("-" in module for module in modules):
            raise ModelFileError(
                f"{origin} is an HTNet of HermNet (sub-networks {', '.join(sorted(modules)[:3])}), which cannot be "
                "imported: the original code puts messages of three-element triplets on the wrong edges, so that its "
                "energy changes when atoms are renumbered, and applies its cosine cutoff to the norm of the filter. "
                "No network that respects the symmetries has these numbers. Train an HTNet of mlcalc.models anew"
            )
        if modules:
            return family
    tensors = [name for name, value in names.items() if isinstance(value, Tensor)]
    shown = ", ".join(map(repr, (tensors or list(names))[:4])) or "nothing"
    raise ModelFileError(
        f"{origin} is of no known layout: it holds {shown}{' ...' if len(names) > 4 else ''}. Known are {KNOWN}; "
        "as a state_dict, or as the dict that the original training wrote"
    )


def _one_dtype(tensors: dict[str, Tensor], origin: str) -> tuple[torch.dtype, tuple[str, ...]]:
    """float32 or float64, which all weights have afterwards; half precision becomes float32, and that is said."""
    # Constants that the original code made from NumPy arrays may be float64 among float32 weights.
    weights = {tensor.dtype for name, tensor in tensors.items() if name.endswith((".weight", ".bias"))}
    found = sorted(str(dtype).removeprefix("torch.") for dtype in weights)
    if len(found) > 1:
        raise ModelFileError(
            f"{origin} mixes weights of dtypes {', '.join(found)}: convert them to one, and save again"
        )
    dtype = torch.float64 if weights == {torch.float64} else torch.float32
    for name, tensor in tensors.items():
        tensors[name] = tensor.to(dtype) if tensor.itemsize < dtype.itemsize == 4 else tensor
    if found == [str(dtype).removeprefix("torch.")]:
        return dtype, ()
    return dtype, (f"{HALF} ({', '.join(found)}), and were converted to float32",)


def _modern_readout(tensors: dict[str, Tensor]) -> bool:
    """Whether the readout is that of files from before 2021-09-09, without dropout; renamed as in later ones."""
    old = "fc.2.weight" in tensors and "fc.3.weight" not in tensors
    for part in ("weight", "bias") if old else ():
        if f"fc.2.{part}" in tensors:
            tensors[f"fc.3.{part}"] = tensors.pop(f"fc.2.{part}")
    return old
