"""Model files: one .safetensors with a JSON header, hashed, checked by golden structures, never unpickled.

The hash finds damage, the golden structures find settings that do not belong to the weights.  Neither is a
signature: only for bundled models does the package itself say which file is the right one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from torch import Tensor, nn

from mlcalc.bundled import bundled_models, bundled_sha256
from mlcalc.errors import ModelFileError, UnknownModelError
from mlcalc.md_protocols.folders.storage import write_atomically
from mlcalc.model_file.container import Container, pack, read_container, storable
from mlcalc.model_file.golden import check_golden, default_structures, golden_structures
from mlcalc.model_file.info import (
    FORMAT,
    FORMAT_VERSION,
    NEIGHBOR_CONVENTION,
    UNITS,
    GoldenStructure,
    ModelInfo,
    canonical_json,
    info_from_json,
    info_to_json,
    strict_json,
)
from mlcalc.model_file.rebuild import check_weights, parameter_dtypes, rebuild_network
from mlcalc.models import Network, network_settings
from mlcalc.scope import Scope
from mlcalc.version import __version__

__all__ = ["GoldenStructure", "ModelInfo", "bundled_models", "load_model", "read_model_info", "save_model"]

_DAMAGED = "The file is damaged or was edited: copy or download it again"


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
    container, origin = _open(name_or_path)
    info = _checked_info(container, origin)
    with torch.inference_mode(False):  # weights made in it could never be differentiated through
        network = rebuild_network(info, container.tensors(), origin)
        if verify:
            check_golden(network, info, origin)
    network.info = info
    return network


def read_model_info(name_or_path: str | os.PathLike[str]) -> ModelInfo:
    """What a bundled model or a model file says of itself, with the hash checked but no network built."""
    return _checked_info(*_open(name_or_path))


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
    _check_conventions(info, f"the info for {target}")
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


def _open(name_or_path: str | os.PathLike[str]) -> tuple[Container, str]:
    path, sha256 = _locate(name_or_path)
    container = read_container(path)
    if sha256 is not None and container.file_sha256() != sha256:
        raise ModelFileError(
            f"bundled model file {path} has sha256 {container.file_sha256()}, this package was released with {sha256}. "
            "The file was damaged or exchanged: install mlcalc again"
        )
    return container, f"model file {path}"


def _locate(name_or_path: str | os.PathLike[str]) -> tuple[Path, str | None]:
    bundled = bundled_models()
    if isinstance(name_or_path, str) and name_or_path in bundled:
        return bundled[name_or_path], bundled_sha256(name_or_path)
    path = Path(name_or_path).expanduser()
    is_name = isinstance(name_or_path, str) and not path.suffix and path.name == name_or_path and not path.exists()
    if is_name:
        close = get_close_matches(str(name_or_path), bundled, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise UnknownModelError(
            f"there is no model {str(name_or_path)!r}.{hint} Bundled models: {', '.join(sorted(bundled)) or 'none'}; "
            "or give the path of a .safetensors model file"
        )
    return path, None


def _checked_info(container: Container, origin: str) -> ModelInfo:
    """The header of the container, once its hash is right."""
    texts = dict(container.metadata)
    text = texts.pop("mlcalc")
    header = _parse_header(text, origin)
    stated = header.pop("sha256", None)
    try:
        actual = container.content_sha256([texts, header])
        canonical = canonical_json({**header, "sha256": stated}) == text
    except ValueError as error:  # a text that is not Unicode
        raise ModelFileError(f"{origin} has a header that cannot be read ({error}). {_DAMAGED}") from error
    if stated != actual or not canonical:
        raise ModelFileError(f"{origin} has contents of sha256 {actual}, its header says {stated}. {_DAMAGED}")
    try:
        info = info_from_json({**header, "sha256": actual})
    except (ValueError, TypeError) as error:
        raise ModelFileError(f"the header of {origin} is not that of a model ({error}). {_DAMAGED}") from error
    _check_conventions(info, origin)
    if len(info.energy_shift) != len(info.elements):
        raise ModelFileError(
            f"{origin} has {len(info.energy_shift)} values in energy_shift for {len(info.elements)} elements "
            f"({', '.join(map(str, info.elements))}), one each is needed. {_DAMAGED}"
        )
    return info


def _parse_header(text: str, origin: str) -> dict[str, Any]:
    try:
        header = strict_json(text)
    except ValueError as error:
        raise ModelFileError(f"the mlcalc header of {origin} is not JSON ({error}). {_DAMAGED}") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ModelFileError(f"the mlcalc header of {origin} does not say format {FORMAT!r}. {_DAMAGED}")
    written = header.get("format_version")
    if type(written) is not int or written < 1:
        raise ModelFileError(f"{origin} has format version {written!r}, which is no version. {_DAMAGED}")
    if written > FORMAT_VERSION:
        raise ModelFileError(
            f"{origin} has format version {written} (written by {header.get('created_with')!r}); mlcalc {__version__} "
            f"reads up to version {FORMAT_VERSION}. Upgrade mlcalc to read it"
        )
    return header


def _check_conventions(info: ModelInfo, origin: str) -> None:
    neighbors, _, _ = info.neighbor_convention.partition("; ")  # what follows is which of these a network uses
    for name, value, only in (
        ("units", info.units, UNITS),
        ("neighbor_convention", neighbors, NEIGHBOR_CONVENTION),
    ):
        if value != only:
            raise ModelFileError(f"{origin} says {name} {value!r}; this program works with {only!r} only: convert it")
