"""Model files: one .safetensors with a JSON header, hashed, checked by golden structures, never unpickled.

The hash finds damage, the golden structures find settings that do not belong to the weights.  Neither is a
signature: only for bundled models does the package itself say which file is the right one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from ase import Atoms
from torch import Tensor, nn

from mlcalc.errors import ModelFileError
from mlcalc.md_protocols.folders.storage import write_atomically
from mlcalc.model_file.container import Container
from mlcalc.model_file.golden import check_golden, default_structures, golden_structures
from mlcalc.model_file.header import check_conventions, open_model
from mlcalc.model_file.info import (
    FORMAT_VERSION,
    NEIGHBOR_CONVENTION,
    ModelInfo,
    canonical_json,
    info_from_json,
    info_to_json,
)
from mlcalc.model_file.rebuild import check_weights, parameter_dtypes, rebuild_network
from mlcalc.model_file.tensors import pack, storable, unpack
from mlcalc.models import Network, network_settings
from mlcalc.scope import Scope
from mlcalc.version import __version__


def save_model(
    network: nn.Module, path: str | os.PathLike[str], *, info: ModelInfo | None = None, golden: Sequence[Atoms] = ()
) -> None:
    """Write the network to `path` (.safetensors), replacing a file there only when the new one is complete.

    Everything that the network itself knows (settings, elements, dtype, ...) overrides what `info` says of it.  The
    golden structures, named by their `info["name"]`, are stored together with a few of the elements alone, with
    energies and forces (or the other quantity) of this network in float64.  Equal networks and infos give equal bytes.

    Raises ModelFileError (weights or results that are not finite, values that are not JSON, a folder that cannot be
    written) and the errors of `validate_structure` for the golden structures.
    """
    target = Path(path).expanduser()
    if target.suffix != ".safetensors":
        raise ModelFileError(f"model file {target} must be named *.safetensors: that is what it is")
    tensors = _state(network)
    check_weights(tensors, f"the network to be saved as {target}")
    complete = _complete_info(network, info or ModelInfo(), target, golden)
    scope = Scope.of(network)
    noun = "potential" if scope.is_potential else f"{scope.quantity} model"
    content = _pack_with_hash(tensors, complete, target, noun).content
    try:
        write_atomically(target, content)
    except OSError as error:
        raise ModelFileError(
            f"model file {target} could not be written ({error.strerror or error}); what was there before is "
            "unchanged. Check that the folder exists, may be written and has free space"
        ) from error


def load_model(name_or_path: str | os.PathLike[str], *, verify: bool = True) -> Network:
    """The network of a bundled model (by name) or of a model file, with its ModelInfo as `.info`.

    It is in evaluation mode, without gradients of the weights, on the CPU and in the dtype of the file.  `verify`
    evaluates the golden structures again, to 1e-6 eV/atom, 1e-6 eV/Å or 1e-6 of another quantity; the hash is checked
    in any case.

    Raises ModelFileError for every file that cannot be trusted, UnknownModelError for an unknown name.
    """
    container, info, origin = open_model(name_or_path)
    with torch.inference_mode(False):  # weights made in it could never be differentiated through
        network = rebuild_network(info, unpack(container), origin)
        if verify:
            check_golden(network, info, origin)
    network.info = info
    return network


def _state(network: nn.Module) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for name, value in network.state_dict().items():
        if not isinstance(value, Tensor) or not storable(value.dtype):
            kind = str(value.dtype) if isinstance(value, Tensor) else type(value).__name__
            raise ModelFileError(
                f"{name!r} of the network is of type {kind}, which a model file does not hold: "
                "use float32 or float64 weights, for example network.float()"
            )
        state[name] = value
    return state


def _complete_info(network: nn.Module, info: ModelInfo, target: Path, golden: Sequence[Atoms]) -> ModelInfo:
    kind, settings = network_settings(network)
    dtypes = sorted(str(dtype).removeprefix("torch.") for dtype in parameter_dtypes(network)) or ["float32"]
    if len(dtypes) > 1:
        raise ModelFileError(f"the network mixes weights of dtypes {', '.join(dtypes)}: convert it to one of them")
    check_conventions(info, f"the info for {target}")
    periodic, limit = Scope.of(network).allows_any_cell, settings.get("max_num_neighbors")
    defaults = default_structures(settings["elements"], settings["cutoff"], periodic=periodic, limit=limit)
    rule = network.neighbor_rule() if isinstance(network, Network) else ""
    return replace(
        info,
        name=info.name or target.stem,
        neighbor_convention="; ".join(filter(None, (NEIGHBOR_CONVENTION, rule))),
        kind=kind,
        settings=settings,
        elements=tuple(settings["elements"]),
        cutoff=float(settings["cutoff"]),
        energy_shift=tuple(float(shift) for shift in settings["energy_shift"]),
        dtype=dtypes[0],
        golden=golden_structures(network, [*defaults, *golden]),
        created_with=f"mlcalc {__version__}",
        format_version=FORMAT_VERSION,
        sha256="",
    )


def _pack_with_hash(tensors: dict[str, Tensor], info: ModelInfo, target: Path, noun: str) -> Container:
    try:
        header = info_to_json(info)
        del header["sha256"]
        info_from_json({**header, "sha256": ""})
        texts = {"format": "pt", "about": _about(info, noun)}  # "pt" is what other readers look for in torch's files
        digest = pack(tensors, texts).content_sha256([texts, header])
    except (TypeError, ValueError) as error:
        raise ModelFileError(
            f"the info for {target} cannot be stored as JSON ({error}): use texts, finite numbers, lists and dicts"
        ) from error
    return pack(tensors, {**texts, "mlcalc": canonical_json({**header, "sha256": digest})})


def _about(info: ModelInfo, noun: str) -> str:
    elements = ", ".join(info.elements)
    return f"{info.name}: {info.kind} {noun} for {elements}, cutoff {info.cutoff} Å, by {info.created_with}"
